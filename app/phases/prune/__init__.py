"""The prune phase: cuts of what a network needs least, and training of what is left."""

from app.phases.prune.rounds import run

__all__ = ["run"]
