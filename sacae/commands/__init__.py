"""One module for each command of `sacae`: its options, a dataclass, and the function that runs it."""
