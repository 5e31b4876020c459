"""TOML text -> frozen models, all problems at once. Imports neither torch, MPI nor h5py."""

from app.inputfile.models import Input
from app.inputfile.read import read_input

__all__ = ["Input", "read_input"]
