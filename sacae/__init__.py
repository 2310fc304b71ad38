"""SAC-AE: continuous control from pixels with a shared, reconstruction-trained encoder."""
