"""The export phase: a network as files that other programs read, checked against its own outputs."""

from app.phases.export.run import run

__all__ = ["run"]
