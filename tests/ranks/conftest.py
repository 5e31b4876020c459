"""MPI reads its settings once, when pytest-mpi imports it; the ranks under test are set up like those of a run."""

import os

from app.parallel import environment

environment.prepare(os.environ)
