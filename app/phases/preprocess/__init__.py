"""The preprocess phase: raw files to one HDF5 set, all ranks sharing the work, restartable at any moment."""

from app.phases.preprocess.run import run

__all__ = ["run"]
