"""The files of an export phase: each is checked before it gets its name."""

import contextlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.errors import NumbersError
from app.inference.comparing import Answer, compared
from app.inference.deployed import Deployed, answer_of, program_of
from app.inference.onnx_export import Exported, onnx_file
from app.inference.onnx_network import CPU, loaded
from app.inference.program import program_answer, program_file
from app.inference.qasm_export import layer_qasm
from app.inference.quantisation import quantised, quantises
from app.inference.references import Reference
from app.inputfile.phases import Export
from app.networks.quantum import QuantumLayer
from app.phases.context import Context
from app.phases.context.teachers import said_of
from app.phases.export.samples import calibration_rows
from app.phases.export.subject import Subject
from app.plan.show import bytes_text
from app.storage import artifact_file, atomic_write
from app.storage.tree import Tree

KIND = "export"  # of a file of weights
QASM = ".qasm"


def make(
    context: Context, phase: Export, subject: Subject, metadata: Mapping[str, str], rows: np.ndarray
) -> dict[str, float]:
    """Write all files but that of the weights; by format the largest difference to the network's own outputs.

    rows: samples as stored, by which they are compared. Collective over: none (rank 0). Raises InputError,
    ArtifactError, MachineError, NumbersError.
    """
    formats, found = set(phase.formats), {}
    atomic_write.make_folder(context.folder.exports)
    with said_of(f'[[phase]] "{phase.name}"'):
        if formats & {"onnx", "program"}:
            program = program_of(Deployed(subject.network, subject.signature), subject.signature)
            if "onnx" in formats:
                found["onnx"] = _make_onnx(context, phase, subject, program, metadata, rows)
            if "program" in formats:
                content = program_file(program, metadata)
                answer = program_answer(content, tokens=subject.signature.transform.tokens)
                found["program"] = _write(context, phase, subject, ".pt2", content, answer, rows)
        if "qasm" in formats:
            _make_qasm(context, phase, subject)
    return found


def write_weights(
    context: Context, phase: Export, subject: Subject, metrics: Tree, reference: Reference | None
) -> None:
    """Weights by name and what is needed to use them, in HDF5. Collective over: none (rank 0). Raises MachineError."""
    tree: Tree = {
        "weights": dict(subject.weights),
        "architecture": subject.architecture,
        "signature": subject.signature.to_tree(),
        "metrics": metrics,
        "network": subject.name,
        **({} if reference is None else {"reference": reference.to_tree()}),
    }
    path = _path(context, phase, ".h5")
    artifact_file.write(path, tree, kind=KIND, provenance=context.provenance_of(phase.name))
    context.log.info(f"{phase.name}: {path.name} written, {bytes_text(path.stat().st_size)}")


def written(context: Context, phase: Export, subject: Subject) -> tuple[Path, ...]:
    """The files of the phase: those of its formats, then circuits."""
    circuits = _circuits(subject) if "qasm" in phase.formats else {}
    return context.folder.exported(phase.name, [*phase.suffixes, *circuits])


def _path(context: Context, phase: Export, suffix: str) -> Path:
    return context.folder.exported(phase.name, [suffix])[0]


def _make_onnx(
    context: Context, phase: Export, subject: Subject, program: Any, metadata: Mapping[str, str], rows: np.ndarray
) -> float:
    made = onnx_file(program, metadata)
    network = loaded(made.content, _path(context, phase, ".onnx"), CPU, torch.get_num_threads())
    difference = _write(context, phase, subject, ".onnx", made.content, network.run, rows)
    if phase.int8:
        _make_int8(context, phase, made, metadata)
    return difference


def _make_int8(context: Context, phase: Export, made: Exported, metadata: Mapping[str, str]) -> None:
    work = context.folder.work(phase.name)
    shutil.rmtree(work, ignore_errors=True)  # what a killed run left
    atomic_write.make_folder(work)
    content = quantised(made.content, calibration_rows(context, phase), made.circuits, metadata, work)
    work.rmdir()
    with contextlib.suppress(OSError):  # another phase may have work there
        work.parent.rmdir()
    path = _path(context, phase, ".int8.onnx")
    if not quantises(content):
        context.log.warn(f"{phase.name}: nothing of its network can be computed in whole numbers of 8 bits")
    atomic_write.replace(path, [content])
    context.log.info(f"{phase.name}: {path.name} written, {bytes_text(len(content))}")


def _write(
    context: Context, phase: Export, subject: Subject, suffix: str, content: bytes, answer: Answer, rows: np.ndarray
) -> float:
    """Write a file whose outputs are the network's; the largest difference."""
    path = _path(context, phase, suffix)
    ours = answer_of(subject.network, subject.signature)
    difference = compared(ours, {"": answer}, rows, sorted({1, 7, phase.batch_size}))[""]
    if not difference <= phase.tolerance:
        raise NumbersError(
            f"{path.name} gives other numbers than the network: the largest difference is {difference:.2g} of the"
            f" largest output, and tolerance = {phase.tolerance:g}; it is not written. What to try: a larger tolerance,"
            " if the network's outputs may be as rough as that."
        )
    atomic_write.replace(path, [content])
    context.log.info(
        f"{phase.name}: {path.name} written, {bytes_text(len(content))}; the largest difference to the network's own"
        f" outputs is {difference:.2g} of the largest"
    )
    return difference


def _make_qasm(context: Context, phase: Export, subject: Subject) -> None:
    circuits = _circuits(subject)
    for suffix, layer in circuits.items():
        path = _path(context, phase, suffix)
        atomic_write.replace(path, [layer_qasm(layer).encode()])
        context.log.info(f"{phase.name}: {path.name} written, {layer.circuit.qubits} qubits")
    if not circuits:
        context.log.warn(f"{phase.name}: its network has no quantum layer, so that there is no circuit to write")


def _circuits(subject: Subject) -> dict[str, QuantumLayer]:
    """By the end of its file's name: the first part of a layer's path where that tells layers apart, else all of it."""
    layers = {path: part for path, part in subject.network.named_modules() if isinstance(part, QuantumLayer)}
    short = [path.partition(".")[0] for path in layers]
    names = short if len(set(short)) == len(layers) else list(layers)
    words = [re.sub(r"[^A-Za-z0-9._-]", "_", name) for name in names]
    return {f".{word}{QASM}": layer for word, layer in zip(words, layers.values(), strict=True)}
