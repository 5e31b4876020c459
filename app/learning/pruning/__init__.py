"""Pruning: which units a network has, what they are worth, and how what goes is cut off."""
