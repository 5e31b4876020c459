"""The [[phase]] tables: one model per kind."""

from typing import Annotated

from pydantic import Discriminator, Tag

from app.inputfile.compression import Distill, Prune
from app.inputfile.evaluation import Evaluate
from app.inputfile.kinds import Table, kind_of
from app.inputfile.preparing import Preprocess
from app.inputfile.quantum import Quantum
from app.inputfile.training import NEW, Train, Trains
from app.inputfile.using import Export, Predict

AnyPhase = Train | Prune | Distill | Evaluate | Quantum | Preprocess | Export | Predict
WITHOUT_NETWORK = (Quantum, Preprocess)  # nor do they want the samples of [data]
Phase = Annotated[
    Annotated[Train, Tag("train")]
    | Annotated[Prune, Tag("prune")]
    | Annotated[Distill, Tag("distill")]
    | Annotated[Evaluate, Tag("evaluate")]
    | Annotated[Quantum, Tag("quantum")]
    | Annotated[Preprocess, Tag("preprocess")]
    | Annotated[Export, Tag("export")]
    | Annotated[Predict, Tag("predict")],
    Discriminator(kind_of),
]
PHASES: dict[str, type[Table]] = {
    "preprocess": Preprocess,
    "train": Train,
    "prune": Prune,
    "distill": Distill,
    "evaluate": Evaluate,
    "export": Export,
    "predict": Predict,
    "quantum": Quantum,
}

__all__ = [
    "NEW",
    "PHASES",
    "WITHOUT_NETWORK",
    "AnyPhase",
    "Distill",
    "Evaluate",
    "Export",
    "Phase",
    "Predict",
    "Preprocess",
    "Prune",
    "Quantum",
    "Train",
    "Trains",
]
