"""The user's samples: sources, split, statistics, transforms and the order in which they are read."""
