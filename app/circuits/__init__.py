"""Quantum circuits computed: state vectors on one rank and over ranks, measurement, gradients, batches for networks."""
