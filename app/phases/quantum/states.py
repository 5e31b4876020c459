"""The state that a quantum phase keeps, in states/NAME."""

from app.circuits.state import StateVector
from app.phases.context import Context
from app.storage.quantum_states import write_state


def store_state(context: Context, phase: str, state: StateVector) -> None:
    """Each rank that holds the state writes its part. Collective over: the state's group. Raises MachineError."""
    folder, provenance = context.folder.state(phase), context.provenance_of(phase)
    write_state(folder, state.re, state.im, state.positions, state.group, provenance)
