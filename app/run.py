"""Start the world, read, plan, walk the phases, skip finished ones."""

import gc
import os
import platform
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import app
from app.errors import InputError, MachineError, PhalanxError
from app.inputfile import Input, read_input
from app.inputfile.files import data_files, network_files
from app.inputfile.phases import Quantum, Trains
from app.inputfile.read import read_text
from app.inputfile.resolved import resolved_dict, resolved_text
from app.parallel import environment
from app.plan.circuits.chosen import circuits_of
from app.plan.circuits.circuit import Circuit
from app.plan.plan import PhasePlan, Plan, make_plan
from app.plan.restart import differences
from app.plan.show import costs_of, folder_of
from app.report.log import Log
from app.report.memory import peak_bytes, peak_line
from app.report.summary import SummaryRow, summary_table
from app.report.timers import Timers
from app.storage.progress import RunProgress, read_progress, write_progress
from app.storage.run_folder import RunFolder

if TYPE_CHECKING:  # `phalanx check` gets by without numpy
    from app.storage.artifact_file import Provenance

T = TypeVar("T")
NO_MEMORY = (
    "there is no memory left for this rank ({}). What to try: more [grid] stages, so that a rank holds a smaller part"
    " of the network; recompute = true; a smaller microbatch_size; fewer ranks a host."
)


class Options(NamedTuple):
    """The command line of `phalanx run`."""

    file: Path
    settings: Sequence[str] = ()
    fresh: bool = False
    verbose: bool = False


class Job(NamedTuple):
    """What the text and the plan say, before any phase starts."""

    given: Input
    files: tuple[Path, ...]
    plan: Plan
    progress: RunProgress | None


def main(options: Options) -> int:
    """`phalanx run FILE`: the exit code. Collective over: world, which it starts."""
    environment.prepare(os.environ)
    from app.parallel import failures
    from app.parallel import world as worlds

    try:
        world = worlds.start()
    except PhalanxError as error:
        return _told(error)
    place = _Place()
    failures.install_hooks(world, place)
    try:
        code = _run(options, world, place)
    except PhalanxError as error:
        if not error.everywhere and world.size > 1:
            raise  # one rank's trouble: the hook names the rank and ends the others
        code = _told(error) if world.rank == 0 else error.exit_code
    world.leave()
    return code


class _Place:
    """Where this rank is: said by the watchdog once there is one."""

    def __init__(self) -> None:
        self.where: Callable[[], str] = lambda: "at the start"

    def __call__(self) -> str:
        return self.where()


def _told(error: PhalanxError) -> int:
    for problem in error.problems:
        print(problem, file=sys.stderr)
    sys.stderr.flush()
    return error.exit_code


def read_job(options: Options, ranks: int, text: str) -> Job:
    """Everything that can be wrong before a phase starts, at once. Raises InputError, ArtifactError."""
    given = read_input(text, str(options.file), options.settings)
    folder = options.file.parent
    problems: list[str] = []
    files: tuple[Path, ...] = _collected(lambda: data_files(given, folder), problems, ())
    problems += network_files(given, folder)
    run_folder = RunFolder(Path(folder_of(given)))
    progress = None if options.fresh else _worth_keeping(run_folder, read_progress(run_folder.progress))
    done = [] if progress is None else [name for name in progress.done if _still_there(run_folder, given, name)]
    circuits: dict[str, Circuit] = _collected(lambda: circuits_of(given, folder), problems, {})
    plan = _collected(lambda: make_plan(given, ranks, done, circuits), problems, None)
    _collected(lambda: costs_of(given), problems, None)  # whether the network goes with the sample's shape, if given
    if problems or plan is None:
        raise InputError(*(f"{options.file}: {problem}" for problem in problems))
    if progress is not None:
        _refuse_changes(options, given, progress, run_folder)
    return Job(given, files, plan, progress)


def _collected(action: Callable[[], T], problems: list[str], otherwise: T) -> T:
    try:
        return action()
    except InputError as error:
        problems += error.problems
        return otherwise


def _worth_keeping(folder: RunFolder, found: RunProgress | None) -> RunProgress | None:
    """Progress without phases that began and left nothing: after a mistake found there the input may be mended."""
    if found is None:
        return None
    begun = [n for n in found.begun if n in found.done or folder.has_checkpoints(n)]
    return replace(found, begun=tuple(begun)) if begun or found.done else None


def _still_there(folder: RunFolder, given: Input, name: str) -> bool:
    """A finished phase whose network or state was deleted has to run again."""
    phase = next((phase for phase in given.phase if phase.name == name), None)
    if isinstance(phase, Quantum) and phase.save_state:
        return any(folder.state(name).glob("*.h5"))
    return phase is not None and (not isinstance(phase, Trains) or folder.network(name).is_file())


def _refuse_changes(options: Options, given: Input, progress: RunProgress, folder: RunFolder) -> None:
    changed = differences(progress.input, resolved_dict(given), {*progress.begun, *progress.done})
    if changed:
        raise InputError(
            f"{options.file}: {folder.path} holds a run that began with another input. Put these back, choose another"
            " [run] folder, or start over with --fresh:",
            *(f"  {change}" for change in changed),
        )


def _run(options: Options, world: Any, place: _Place) -> int:
    from app.storage.artifact_file import Provenance

    text = world.bcast(world.together(lambda: read_text(options.file) if world.rank == 0 else ""))
    job = world.together(lambda: read_job(options, world.size, text))
    folder = RunFolder(Path(folder_of(job.given)).absolute())
    world.together(lambda: _prepare_folder(folder, options.fresh) if world.rank == 0 else None)
    log = Log(folder.log, rank=world.rank, console=True, verbose=options.verbose)
    run_id = world.bcast(job.progress.run_id if job.progress else uuid.uuid4().hex)
    provenance = Provenance("phalanx", app.__version__, resolved_text(job.given), run_id, "")
    before = job.progress or RunProgress(run_id, {})
    try:
        context = _context(options, world, job, folder, log, provenance, place)
        _collect_again()
        with context.known_data.source if context.known_data else nullcontext():
            rows = _walk(context, replace(before, input=resolved_dict(job.given)))
    except PhalanxError as error:
        log.note("\n".join(["stopped:", *error.problems]))
        raise
    context.watchdog.stop()
    memory = peak_line(world.allgather(peak_bytes()), world.hosts)
    tables = [*summary_table(rows), *_networks(context)]
    log.info("\n".join([f"done; results in {folder_of(job.given)}", *tables, memory]))
    log.close()
    return 0


def _networks(context: Any) -> list[str]:
    """The networks of the run side by side; nothing for one alone. Collective over: none."""
    made = [step.name for step in context.plan.phases if step.makes_network]
    if not context.speaks or len(made) < 2:
        return []
    from app.report.networks import network_rows, overview

    return ["", *overview(network_rows(context.results.read(), made)), ""]


def _collect_again() -> None:
    """Garbage collection, off since the command began, comes back once all is imported."""
    gc.freeze()  # what is there stays; no later collection has to look at it
    gc.enable()


def _prepare_folder(folder: RunFolder, fresh: bool) -> None:
    if fresh:
        folder.clear()
    folder.create()


def _context(
    options: Options, world: Any, job: Job, folder: RunFolder, log: Log, provenance: "Provenance", place: _Place
) -> Any:
    """Devices, data and everything else that phases share. Collective over: world."""
    from app.learning.device import choose_device, keep_freed_memory, set_threads
    from app.parallel.watchdog import Watchdog
    from app.phases.context import Context
    from app.phases.context.data import open_data
    from app.storage.results import Results

    given = job.given
    limit_s = given.run.watchdog
    watchdog = Watchdog(world.rank, world.size, world.host, folder.watchdog, limit_s, log.error_here, world.abort)
    place.where = watchdog.where
    watchdog.start()
    keep_freed_memory()
    chosen = world.together(lambda: choose_device(given.run.device, given.run.precision, world.local_rank))
    threads = set_threads(given.run.threads or world.threads)
    _say_start(options, world, job, log, f"{chosen.name} ({chosen.reason}), threads: {threads}")
    results = Results(folder.results)
    known = world.bcast(world.together(lambda: results.read().get("data") if world.rank == 0 else None))
    begun = job.progress is not None and bool(job.progress.begun)
    data = None
    if given.has_data:
        data, measured = open_data(given, job.files, known, begun, world, watchdog, log)
        world.together(lambda: results.update({"data": measured}, provenance) if world.rank == 0 else None)
    grid = job.plan.grid
    return Context(
        plan=job.plan,
        input_folder=options.file.absolute().parent,
        world=world,
        everyone=world.group(0, world.rank),
        data_group=world.group(grid.stage(world.rank), world.rank),
        stage_group=world.group(grid.replica(world.rank), world.rank),
        device=chosen.device,
        known_data=data,
        folder=folder,
        results=results,
        provenance=provenance,
        log=log,
        timers=Timers(),
        watchdog=watchdog,
    )


def _say_start(options: Options, world: Any, job: Job, log: Log, own: str) -> None:
    """The start-up block: versions, MPI, grid, and what each rank runs on. Collective over: world."""
    everyone = world.allgather(own)
    hosts = len(set(world.hosts))
    versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "numpy", "h5py", "mpi4py", "horovod"))
    log.info(
        "\n".join(
            [
                f"phalanx {app.__version__}: {options.file} -> {folder_of(job.given)}",
                f"Python {platform.python_version()}, {versions}",
                f"{world.library}, thread level {world.thread_level}",
                f"{world.size} rank{'s' if world.size > 1 else ''} on {hosts} host{'s' if hosts > 1 else ''},"
                f" grid {job.plan.grid} (replicas x stages)",
                *(f"rank {rank} on {world.hosts[rank]}: {what}" for rank, what in enumerate(everyone)),
            ]
        )
    )
    for note in job.plan.notes:
        log.warn(note)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _walk(context: Any, progress: RunProgress) -> list[SummaryRow]:
    """All phases in order; finished ones are skipped. Collective over: world."""
    from app.learning.device import give_freed_memory_back, out_of_memory
    from app.phases import PHASES

    rows = []
    for step in context.plan.phases:
        if step.done:
            context.log.info(f"{step.name}: done on an earlier start, skipped")
            _forget_checkpoints(context, step)
            rows.append(_row(step, "skipped", None, progress.done[step.name]))
            continue
        progress = replace(progress, begun=(*(n for n in progress.begun if n != step.name), step.name))
        _note(context, progress)
        context.log.info(f"{step.name}: {step.phase.kind} begins")
        context.watchdog.place(step.name, 0, 0)
        begun = time.monotonic()
        try:
            numbers = PHASES[step.phase.kind](context, step)
        except (MemoryError, RuntimeError) as error:
            if out_of_memory(error):
                raise MachineError(NO_MEMORY.format(" ".join(str(error).split()))) from error
            raise
        give_freed_memory_back()
        progress = replace(progress, done=progress.done | {step.name: _plain(numbers)})
        _note(context, progress)
        _forget_checkpoints(context, step)
        rows.append(_row(step, "done", time.monotonic() - begun, numbers))
    return rows


def _note(context: Any, progress: RunProgress) -> None:
    context.alone(lambda: write_progress(context.folder.progress, progress))


def _forget_checkpoints(context: Any, step: PhasePlan) -> None:
    """Only once the phase is noted as done: a rank killed in between would start it over."""
    from app.storage.stages import clear_checkpoints

    context.alone(lambda: clear_checkpoints(context.folder.checkpoints(step.name)))


def _plain(numbers: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items()}


def _row(step: PhasePlan, state: str, seconds: float | None, numbers: dict[str, float]) -> SummaryRow:
    shown = {
        name: value for name, value in numbers.items() if name not in ("samples", "samples_per_s", "rate", "epoch")
    }
    return SummaryRow(step.name, step.phase.kind, state, seconds, numbers.get("samples_per_s"), shown)
