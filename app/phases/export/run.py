"""The phase from its network to its files: made and checked by rank 0, measured by all ranks."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import app
from app.errors import InputError
from app.inference.comparing import Answer
from app.inference.deployed import answer_of
from app.inference.onnx_network import CPU, REFERENCE, SIGNATURE, open_onnx
from app.inference.references import Reference
from app.inputfile.phases import Export
from app.phases.context import Context
from app.phases.context.references import reference_of
from app.phases.export import files
from app.phases.export.measuring import latencies, quality, worth
from app.phases.export.samples import first_rows
from app.phases.export.subject import Subject, open_subject
from app.plan.plan import PhasePlan
from app.storage.tree import Tree

T = TypeVar("T")


class _Export(NamedTuple):
    """What the steps of the phase share."""

    context: Context
    phase: Export
    subject: Subject
    reference: Reference | None


def run(context: Context, plan: PhasePlan) -> dict[str, float]:
    """Files in exports/, and in run.h5 what they are worth. Collective over: world.

    Raises InputError, DataError, ArtifactError, MachineError, and NumbersError when a file gives other numbers than the
    network.
    """
    phase: Export = plan.phase  # type: ignore[assignment]
    context.together(lambda: _refuse(context, phase))
    subject = open_subject(context, phase, plan.source)
    reference = reference_of(context, plan.source) if plan.networks else None
    work = _Export(context, phase, subject, reference)
    differences: dict[str, float] = _asleep(context, lambda: _make(work))
    answers = _answers(work)
    measured = {what: quality(context, phase, what, one) for what, one in answers.items()} if _has_data(work) else {}
    sizes = (1, context.plan.input.run.measure_batch)
    times = _asleep(context, lambda: _times(work, answers, sizes))
    _say_worth(work, measured, times)
    _say_loss(work, measured)
    context.alone(lambda: _finish(work, differences, measured, times))
    return _numbers(differences, measured)


def _refuse(context: Context, phase: Export) -> None:
    title = f'[[phase]] "{phase.name}"'
    if context.known_data is None:
        if phase.int8:
            raise InputError(f"{title}: int8 = true chooses its ranges by training samples; give a [data] table.")
        return
    split = context.data.split
    for part in (phase.part, *(["train"] if phase.int8 else [])):
        if not split.count(part):
            raise InputError(
                f"{title}: the {part} part of {split.length} samples is empty. What to try: another part, or a larger"
                " share of [data] for it."
            )


def _has_data(work: _Export) -> bool:
    return work.context.known_data is not None


def _metadata(work: _Export) -> dict[str, str]:
    """The texts that the files carry."""
    signature = work.subject.signature
    texts = {
        SIGNATURE: signature.to_json(),
        "name": work.phase.name,
        "version": app.__version__,
        "class_names": json.dumps(list(signature.class_names)),
        "run_id": work.context.provenance.run_id,
    }
    return texts if work.reference is None else texts | {REFERENCE: work.reference.to_json()}


def _make(work: _Export) -> dict[str, float]:
    """Rank 0 writes the files and compares them; by format the largest difference."""
    rows = first_rows(work.context, work.phase, work.subject.signature)
    return files.make(work.context, work.phase, work.subject, _metadata(work), rows)


def _answers(work: _Export) -> dict[str, Answer]:
    """By name the outputs of the network and of its ONNX files, on every rank."""
    context, phase = work.context, work.phase
    found = {"network": answer_of(work.subject.network, work.subject.signature)}
    wanted = [("onnx", ".onnx")] if "onnx" in phase.formats else []
    for name, suffix in [*wanted, *([("int8", ".int8.onnx")] if phase.int8 else [])]:
        path = context.folder.exported(phase.name, [suffix])[0]
        threads = context.plan.input.run.threads or context.world.threads
        found[name] = context.together(lambda path=path, threads=threads: open_onnx(path, CPU, threads)).run  # type: ignore[misc]
    return found


def _times(work: _Export, answers: dict[str, Answer], sizes: tuple[int, ...]) -> dict[str, Any]:
    rows = first_rows(work.context, work.phase, work.subject.signature)
    return latencies(answers, rows, sizes, work.context.plan.input.run.measure)


def _say_worth(work: _Export, measured: dict[str, dict[str, float]], times: dict[str, Any]) -> None:
    """The forms of the network side by side."""
    titles = [worth(metrics)[0] for metrics in list(measured.values())[:1]]
    titles += [f"ms for {size} sample{'s' if size > 1 else ''}" for size in times.get("samples", [])]
    if not titles:
        return
    lines = [f"{work.phase.name}: its forms on the {work.phase.part} part"] if measured else [f"{work.phase.name}:"]
    lines.append(f"{'':8}" + "".join(f"{title:>20}" for title in titles))
    for what in measured or times["seconds"]:
        cells = [f"{worth(measured[what])[1]:.4f}"] if measured else []
        cells += [f"{1e3 * seconds:.3f}" for seconds in times.get("seconds", {}).get(what, [])]
        lines.append(f"{what:8}" + "".join(f"{cell:>20}" for cell in cells))
    work.context.log.info("\n".join(lines))


def _say_loss(work: _Export, measured: dict[str, dict[str, float]]) -> None:
    if "int8" not in measured:
        return
    name, before = worth(measured["network"])
    after = measured["int8"][name]
    work.context.log.info(
        f"{work.phase.name}: in whole numbers of 8 bits the {name} on the {work.phase.part} part is {after:.4f}, in"
        f" floating point {before:.4f}: {after - before:+.4f}"
    )


def _finish(work: _Export, differences: dict[str, float], measured: dict[str, Any], times: Tree) -> None:
    context, phase = work.context, work.phase
    if "weights" in phase.formats:
        files.write_weights(context, phase, work.subject, measured, work.reference)
    made = files.written(context, phase, work.subject)
    table: Tree = {
        "kind": phase.kind,
        "network": work.subject.name,
        "part": phase.part,
        "files": {"names": [path.name for path in made], "bytes": [path.stat().st_size for path in made]},
        "difference": max(differences.values(), default=0.0),
        "differences": dict(differences),
        "metrics": measured,
        "latency": times,
    }
    context.results.update({"phases": {phase.name: table}}, context.provenance_of(phase.name))


def _numbers(differences: dict[str, float], measured: dict[str, dict[str, float]]) -> dict[str, float]:
    """For the summary."""
    found = {"difference": max(differences.values())} if differences else {}
    for what, metrics in measured.items():
        name, value = worth(metrics)
        found[name if what == "network" else f"{what} {name}"] = value
    return found


def _asleep(context: Context, action: Callable[[], T]) -> T:
    """Rank 0 does it, however long it takes, and the others sleep; its mistake and its value are everybody's.

    Collective over: world.
    """
    found = context.apart(lambda: action() if context.speaks else None)
    return context.world.bcast(found)
