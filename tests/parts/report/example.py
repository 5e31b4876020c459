"""A run folder with something of everything that a page shows, some of it with hostile names."""

from pathlib import Path
from typing import Any

import numpy as np

from app.plan.grid import Grid
from app.report.appraisal import Appraisal
from app.report.chrome import to_json
from app.report.timeline import on_one_clock
from app.report.trace import Event
from app.storage.artifact_file import Provenance
from app.storage.progress import RunProgress, write_progress
from app.storage.results import Results
from app.storage.run_folder import RunFolder

HOSTILE = "<script>alert('x')</script>&amp; $\\frac{$ \x1b[31m\u202e"
KINDS = {
    "events": "preprocess",
    "teacher": "train",
    "thin": "prune",
    "test": "evaluate",
    "ground": "quantum",
    "deployed": "export",
    "next-year": "predict",
    "later": "predict",
}  # fmt: skip
LOG = f"""2026-11-22 15:04:05 info    phalanx 0.1.0: input.toml -> results
                            2 ranks on 1 host
2026-11-22 15:04:06 info    teacher: train begins
2026-11-22 15:04:09 warning be careful with {HOSTILE[:30]}
2026-11-22 15:05:16 info    test: evaluate begins
2026-11-22 15:05:16 info    done; results in results
"""
APPRAISAL = Appraisal(1000, 1000, 4000, 2000, 0.001, 0.004, 16, 4000.0, float("nan"), 0.1, 0.9)


def fit(epochs: int) -> dict[str, Any]:
    """Tables as a training leaves them."""
    down = np.exp(-np.arange(epochs) / 2)
    columns = {"epoch": np.arange(1, epochs + 1), "rate": 1e-3 * down, "loss": 2 * down, "validation_loss": 2.2 * down}
    timings = {
        f"{name}_{kind}": np.full(epochs, seconds * factor)
        for name, seconds in {"read": 0.1, "compute": 2.0, "communicate": 0.4, "wait": 0.2}.items()
        for kind, factor in {"min": 0.9, "median": 1.0, "max": 1.3}.items()
    }
    return {
        "best_epoch": epochs,
        "epochs": columns | {"validation_accuracy": 1 - down / 2},
        "timings": {"epoch": np.arange(1, epochs + 1), **timings},
        "steps": {"loss": np.linspace(2, 0.1, 10 * epochs)},
    }


def drift(names: list[str]) -> dict[str, Any]:
    """The last feature has drifted."""
    size = np.linspace(0.01, 0.5, len(names))
    return {"feature": names, "psi": size, "ks": size / 2, "drifted": (size >= 0.5).astype(np.int64)}


def monitor() -> dict[str, Any]:
    """As a predict phase writes it."""
    return {
        "latency_ms": {"p50": 1.25, "p90": 2.5, "p99": 7.5, "max": 9.0},
        "samples_per_s": 12_345.0,
        "new_samples": 4000,
        "confidence": {"mean": 0.875, "counts": np.arange(20), "edges": np.linspace(0, 1, 21)},
        "classes": {"names": ["gamma", HOSTILE, "muon"], "counts": np.array([2500, 1000, 500])},
        "drift": {"inputs": drift(["size", "width", HOSTILE]), "outputs": drift(["class 0", "confidence"])},
    }


def phases() -> dict[str, Any]:
    """What all phases have written."""
    sides = {"before": APPRAISAL._asdict(), "after": APPRAISAL._replace(latency_n_s=0.002, accuracy=0.88)._asdict()}
    words = [f"{state:03b}" for state in range(8)]
    rounds = {"operations": np.array([50.0, 20.0]), "dense_operations": np.array([100.0, 100.0])}
    return {
        "events": {
            "kind": "preprocess", "records": 20_000, "bad": 12, "filtered": 0, "repeated": 3, "samples": 19_985,
            "files": {"name": ["a.csv", "b.npz"], "records": np.array([12_000, 8000]), "bad": np.array([12, 0])},
            "parts": {"train": 15_000, "validation": 2000, "test": 2985},
            "bad_records": {"file": ["a.csv", HOSTILE], "row": np.array([3, 7]), "why": ["not finite", "cut short"]},
        },
        "teacher": {"kind": "train", **fit(6), "appraisal": {"quality": "accuracy", "after": APPRAISAL._asdict()}},
        "thin": {
            "kind": "prune",
            "round1": {"penalise": fit(2), "fine-tune": fit(3), "rise_of_loss": {"stem": np.linspace(0, 1, 9)}},
            "round2": {"fine-tune": fit(3)},
            "rounds": rounds | {"validation_accuracy": np.array([0.9, 0.85])},
            "appraisal": {"quality": "accuracy", **sides},
        },
        "test": {
            "kind": "evaluate", "part": "test", "network": "teacher", "class_names": ["gamma", HOSTILE, "muon"],
            "metrics": {"accuracy": 0.75, "confusion": np.array([[30, 2, 0], [9, 25, 1], [0, 0, 33]])},
        },
        "ground": {
            "kind": "quantum", "task": "minimise", "qubits": 4, "parameters": 3, "operations": 17, "exact": -1.137,
            "energy": -1.136, "seconds": 2.5, "circuit": "OPENQASM 3.0;",
            "probabilities": np.array([0.5, 0.25, 0.25, 0]),
            "steps": {"energy": np.linspace(-1, -1.136, 30), "largest_gradient": np.linspace(1, 0.001, 30)},
            "samples": {"bits": words, "counts": np.arange(8)},
        },
        "deployed": {
            "kind": "export", "network": "teacher", "part": "test",
            "files": {"names": ["deployed.onnx", "deployed.int8.onnx"], "bytes": [4096, 2048]},
            "difference": 1.5e-6, "differences": {"onnx": 1.5e-6},
            "metrics": {"network": {"accuracy": 0.75}, "onnx": {"accuracy": 0.75}, "int8": {"accuracy": 0.74}},
            "latency": {
                "samples": [1, 16],
                "seconds": {"network": [0.001, 0.004], "onnx": [0.0005, 0.002], "int8": [0.00025, 0.001]},
            },
        },
        "next-year": {"kind": "predict", "samples": 4000, "part": "all", "monitor": monitor()},
    }  # fmt: skip


def make(path: Path) -> RunFolder:
    """All of it; the phase "later" has not begun."""
    folder = RunFolder(path)
    folder.create()
    listed = [{"kind": kind, "name": name} for name, kind in KINDS.items()]
    listed[6]["monitor"] = {"psi": 0.2, "ks": 0.1}  # type: ignore[assignment]
    done = {name: {"accuracy": 0.75, "samples_per_s": 1000.0} for name in KINDS if name != "later"}
    given = {"run": {"name": "everything"}, "phase": listed}
    code = {"phalanx": "0.1.0", "torch": "2.13.0"}
    ran_on = {"ranks": 2, "stages": 1, "threads": 1}
    write_progress(folder.progress, RunProgress("1", given, tuple(done), done, code, ran_on))
    provenance = Provenance("phalanx", "0.1.0", f'[run]\nname = "everything" # {HOSTILE}', "1", "")
    Results(folder.results).update({"phases": phases()}, provenance)
    folder.log.write_text(LOG)
    record(folder, "teacher")
    return folder


def record(folder: RunFolder, name: str) -> None:
    """A trace of a phase."""
    per_rank = [[Event("forward", 0.0, 0.01, 0, 0, 1)], [Event("forward", 0.01, 0.02, 1, 0, 1)]]
    made = on_one_clock(
        per_rank, [0.0, 0.0], grid=Grid(2, 2), hosts=["a", "a"], phase=name, schedule="gpipe", predicted=0.5
    )
    folder.traces.mkdir(exist_ok=True)
    (folder.traces / f"{name}.json").write_bytes(to_json(made))
