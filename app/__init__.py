"""Phalanx: an MPI-launched batch application for training, compressing and applying networks on HPC machines."""

__version__ = "0.1.0"
