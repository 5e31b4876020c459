"""Networks as lists of layers: the built-in kinds, the user's own, and their starting weights."""
