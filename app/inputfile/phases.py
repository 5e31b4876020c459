"""The [[phase]] tables: one model per kind."""

from typing import Annotated

from pydantic import Discriminator, Tag

from app.inputfile.compression import Distill, Prune
from app.inputfile.evaluation import Evaluate
from app.inputfile.kinds import Table, kind_of
from app.inputfile.quantum import Quantum
from app.inputfile.training import NEW, Train, Trains

AnyPhase = Train | Prune | Distill | Evaluate | Quantum
Phase = Annotated[
    Annotated[Train, Tag("train")]
    | Annotated[Prune, Tag("prune")]
    | Annotated[Distill, Tag("distill")]
    | Annotated[Evaluate, Tag("evaluate")]
    | Annotated[Quantum, Tag("quantum")],
    Discriminator(kind_of),
]
PHASES: dict[str, type[Table]] = {
    "train": Train,
    "prune": Prune,
    "distill": Distill,
    "evaluate": Evaluate,
    "quantum": Quantum,
}

__all__ = ["NEW", "PHASES", "AnyPhase", "Distill", "Evaluate", "Phase", "Prune", "Quantum", "Train", "Trains"]
