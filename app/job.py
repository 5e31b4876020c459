"""The job that an input file asks for: read, planned, and compared with what its run folder holds already."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeVar

import app
from app.errors import InputError
from app.inputfile import Input, read_input
from app.inputfile.files import code_files, data_files, missing_files, network_files
from app.inputfile.phases import Export, Predict, Preprocess, Quantum, Trains
from app.inputfile.resolved import resolved_dict
from app.inputfile.sentences import nearest
from app.plan.circuits.chosen import circuits_of
from app.plan.circuits.circuit import Circuit
from app.plan.plan import Plan, make_plan
from app.plan.restart import differences, other_code
from app.plan.show import costs_of, folder_of
from app.storage.progress import RunProgress, read_progress
from app.storage.run_folder import RunFolder

T = TypeVar("T")
PACKAGES = ("torch", "numpy")  # whose versions the numbers depend on, beside our own


class Options(NamedTuple):
    """The command line of `phalanx run`."""

    file: Path
    settings: Sequence[str] = ()
    fresh: bool = False
    verbose: bool = False
    until: str = ""
    other_code: bool = False


class Job(NamedTuple):
    """What the text and the plan say, before any phase starts; `code`: by what it is computed, as in RunProgress."""

    given: Input
    files: tuple[Path, ...]
    plan: Plan
    progress: RunProgress | None
    code: dict[str, str]


def read_job(options: Options, ranks: int, text: str, *, runs: bool = False) -> Job:
    """Everything that can be wrong before a phase starts, at once. Raises InputError, ArtifactError.

    runs: here and now, so that versions count; a login node may have others, or none.
    """
    given = read_input(text, str(options.file), options.settings)
    folder = options.file.parent
    problems: list[str] = []
    files: tuple[Path, ...] = _collected(lambda: data_files(given, folder), problems, ())
    problems += network_files(given, folder) + missing_files(given, folder)
    run_folder = RunFolder(Path(folder_of(given)))
    progress = None if options.fresh else _worth_keeping(run_folder, given, read_progress(run_folder.progress))
    done = [] if progress is None else list(progress.done)
    circuits: dict[str, Circuit] = _collected(lambda: circuits_of(given, folder), problems, {})
    plan = _collected(lambda: make_plan(given, ranks, done, circuits), problems, None)
    problems += _unknown_phase(given, options.until)
    problems += _missing_packages(plan) if runs and plan is not None else []
    _collected(lambda: costs_of(given), problems, None)  # whether the network goes with the sample's shape, if given
    if problems or plan is None:
        raise InputError(*(f"{options.file}: {problem}" for problem in problems))
    code = _code(given, folder) if runs else {}
    if progress is not None:
        _refuse_changes(options, given, progress, run_folder)
        _refuse_other_code(options, given, progress, code, run_folder)
    return Job(given, files, plan, progress, code)


def _missing_packages(plan: Plan) -> list[str]:
    """What phases still to run need of packages that not everybody installs."""
    problems, exports = [], [step.name for step in plan.phases if isinstance(step.phase, Export)]
    for step in plan.phases:
        makes = isinstance(step.phase, Export) and "onnx" in step.phase.formats
        takes = isinstance(step.phase, Predict) and (
            step.source.endswith(".onnx") or not {*exports}.isdisjoint(step.needs)
        )
        wanted = ("onnx", "onnxruntime", *(["onnxscript"] if makes else [])) if makes or takes else ()
        missing = [name for name in wanted if find_spec(name) is None]
        if missing and not step.done:
            problems.append(
                f'[[phase]] "{step.name}": ONNX files need packages that are not installed: {", ".join(missing)}.'
                " What to try: pip install 'phalanx-hpc[onnx]'"
            )
    return problems


def _collected(action: Callable[[], T], problems: list[str], otherwise: T) -> T:
    try:
        return action()
    except InputError as error:
        problems += error.problems
        return otherwise


def _worth_keeping(folder: RunFolder, given: Input, found: RunProgress | None) -> RunProgress | None:
    """Progress without phases that began and left nothing, or nothing any more: their keys may be changed."""
    if found is None:
        return None
    names = {phase.name for phase in given.phase}  # of a phase that the input has no longer the reader is told
    done = {n: numbers for n, numbers in found.done.items() if n not in names or _still_there(folder, given, n)}
    begun = [name for name in found.begun if name in done or folder.has_checkpoints(name)]
    return replace(found, begun=tuple(begun), done=done) if begun or done else None


def _still_there(folder: RunFolder, given: Input, name: str) -> bool:
    """A finished phase whose network, state, set or files were deleted has to run again."""
    phase = next((phase for phase in given.phase if phase.name == name), None)
    if isinstance(phase, Quantum) and phase.save_state:
        return any(folder.state(name).glob("*.h5"))
    if isinstance(phase, Preprocess):
        return folder.data(name).is_file()
    if isinstance(phase, Predict):
        return folder.predictions(name).is_file()
    if isinstance(phase, Export):
        return all(path.is_file() for path in folder.exported(name, phase.suffixes))
    return phase is not None and (not isinstance(phase, Trains) or folder.network(name).is_file())


def _refuse_changes(options: Options, given: Input, progress: RunProgress, folder: RunFolder) -> None:
    changed = differences(progress.input, resolved_dict(given), {*progress.begun, *progress.done})
    if changed:
        raise InputError(
            f"{options.file}: {folder.path} holds a run that began with another input. Put these back, choose another"
            " [run] folder, or start over with --fresh:",
            *(f"  {change}" for change in changed),
        )


def _refuse_other_code(
    options: Options, given: Input, progress: RunProgress, now: dict[str, str], folder: RunFolder
) -> None:
    """Files of phases that have not begun are free."""
    used = {"phalanx", *PACKAGES, *code_files(given, options.file.parent, {*progress.begun, *progress.done})}
    changed = other_code(progress.code, {name: one for name, one in now.items() if name in used})
    if changed and not options.other_code:
        raise InputError(
            f"{options.file}: {folder.path} holds a run that other code began: its numbers may change from here."
            " Put these back, go on all the same with --other-code, or start over with --fresh:",
            *(f"  {change}" for change in changed),
        )


def _code(given: Input, folder: Path) -> dict[str, str]:
    """What the numbers depend on beside the input: versions, and checksums of the user's files."""
    versions = {"phalanx": app.__version__} | {name: version(name) for name in PACKAGES}
    files = code_files(given, folder, [phase.name for phase in given.phase])
    return versions | {name: _checksum(path) for name, path in sorted(files.items())}


def version(package: str) -> str:
    """Of an installed package, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _unknown_phase(given: Input, until: str) -> list[str]:
    names = [phase.name for phase in given.phase]
    return [f"--until {until}: no phase is named {until!r}{nearest(until, names)}"] if until not in ("", *names) else []
