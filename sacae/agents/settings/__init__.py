"""The settings of each head, in a module with the head's name. These modules do not import PyTorch."""
