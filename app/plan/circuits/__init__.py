"""Quantum circuits as data: gates, templates, OpenQASM, and who computes what. Standard library only."""
