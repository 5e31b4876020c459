"""Networks cut by layer: who holds what, in which order stages work, and how long that takes."""
