"""Start the world, read, plan, walk the phases, skip finished ones."""

import gc
import os
import platform
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import app
from app.errors import Drifted, Held, MachineError, PhalanxError, Stopped
from app.inputfile import Input
from app.inputfile.phases import Export, Predict
from app.inputfile.read import read_text
from app.inputfile.resolved import resolved_dict, resolved_text
from app.job import Job, Options, read_job, version
from app.parallel import environment, slurm
from app.parallel.requests import to_stderr
from app.plan.plan import PhasePlan
from app.plan.show import folder_of
from app.report.age import age_s
from app.report.log import Log, escaped
from app.report.memory import peak_bytes, peak_line
from app.report.summary import SummaryRow, summary_table
from app.report.timers import Timers
from app.storage.lock import Lock
from app.storage.outcome import LIFE, LastWord
from app.storage.progress import RunProgress, write_progress
from app.storage.run_folder import RunFolder

if TYPE_CHECKING:  # `phalanx check` gets by without numpy
    from app.storage.artifact_file import Provenance

NO_MEMORY = (
    "there is no memory left for this rank ({}). What to try: more [grid] stages, so that a rank holds a smaller part"
    " of the network; recompute = true; a smaller microbatch_size; fewer ranks a host."
)


def main(options: Options) -> int:
    """`phalanx run FILE`: the exit code. Collective over: world, which it starts."""
    environment.prepare(os.environ)
    os.umask(os.umask(0) | 0o022)  # nobody else writes in a run folder, in files of libraries neither
    from app.parallel import failures
    from app.parallel import world as worlds
    from app.parallel.requests import Requests

    try:
        world = worlds.start()
    except PhalanxError as error:
        return _told(error)
    end = _End(_Place(), LastWord(os.environ.get(LIFE, ""), options.until), Lock(_job_number(), slurm.runs))
    failures.install_hooks(world, end.place, end.word.failed)
    requests = Requests(partial(_tell, world, end.place))
    state, code, text = "done", 0, ""
    try:
        _run(options, world, end, requests)
    except PhalanxError as error:
        if not error.everywhere and world.size > 1:
            sys.excepthook(type(error), error, error.__traceback__)  # one rank's trouble: names it and ends the others
        state = _state(error)
        code, text = _told(error) if world.rank == 0 else error.exit_code, "\n".join(error.problems)
    world.barrier()
    if world.rank == 0:  # before any rank leaves: mpirun ends the others when one has another exit code than 0
        code = _ended(end, state, code, text)
    world.leave()
    requests.ignore()  # the last word is said: a signal that comes now must not change the exit code
    return code


def _state(error: PhalanxError) -> str:
    """In a word of app.storage.outcome, how a run ends with an error."""
    if isinstance(error, Drifted):
        return "done"
    return "held" if isinstance(error, Held) else "stopped" if isinstance(error, Stopped) else "failed"


class _End(NamedTuple):
    """What is needed wherever a run comes to its end."""

    place: "_Place"
    word: LastWord
    lock: Lock


def _ended(end: _End, state: str, code: int, text: str) -> int:
    """The last word, when all ranks have come to the end; the exit code. Collective over: none (rank 0)."""
    try:
        end.word.say(state, code, text)
    except PhalanxError as error:
        code = code or _told(error)
    end.lock.leave()
    return code


def _job_number() -> str:
    here = slurm.job(os.environ)
    return here.number if here else ""


def _tell(world: Any, place: Callable[[], str], signal: str) -> None:
    """Where the run is when a signal comes; if a rank has died, the launcher ends the others with one. Two ranks do."""
    if world.rank < 2:
        to_stderr(f"rank {world.rank} of {world.size} on {world.host}, {place()}: {signal} arrived")


class _Place:
    """Where this rank is: said by the watchdog once there is one."""

    def __init__(self) -> None:
        self.where: Callable[[], str] = lambda: "at the start"

    def __call__(self) -> str:
        return self.where()


def _told(error: PhalanxError) -> int:
    for problem in error.problems:
        print(escaped(problem), file=sys.stderr)
    sys.stderr.flush()
    return error.exit_code


def _run(options: Options, world: Any, end: _End, requests: Any) -> None:
    from app.storage.artifact_file import Provenance

    text = world.bcast(world.together(lambda: read_text(options.file) if world.rank == 0 else ""))
    job = world.together(lambda: read_job(options, world.size, text, runs=True))
    folder = RunFolder(Path(folder_of(job.given)).absolute())
    world.together(lambda: _prepare_folder(folder, job.given, options.fresh, end) if world.rank == 0 else None)
    end.word.known(folder.outcome)
    log = Log(folder.log, rank=world.rank, console=True, verbose=options.verbose)
    run_id = world.bcast(job.progress.run_id if job.progress else uuid.uuid4().hex)
    provenance = Provenance("phalanx", app.__version__, resolved_text(job.given), run_id, "")
    before = job.progress or RunProgress(run_id, {})
    try:
        context = _context(options, world, job, folder, log, provenance, end.place, requests)
        _collect_again()
        now = replace(before, input=resolved_dict(job.given), code=job.code, ran_on=_runs_on(context))
        _warn_of_other_threads(context, before.ran_on, now.ran_on)
        with ExitStack() as opened:
            rows, progress = _walk(context, now, options.until, _samples(job, before, opened))
    except PhalanxError as error:
        log.note("\n".join(error.problems if isinstance(error, Stopped) else ["stopped:", *error.problems]))
        raise
    context.watchdog.stop()
    memory = peak_line(world.allgather(peak_bytes()), world.hosts)
    tables = [*summary_table(rows), *_networks(context)]
    log.info("\n".join([f"done; results in {folder_of(job.given)}", *tables, memory]))
    log.close()
    _tell_of_drift(job.given, progress)


def _tell_of_drift(given: Input, progress: RunProgress) -> None:
    """Once all is done, and on each later start too. Raises Drifted where a phase asks for it."""
    drifted = [
        f"{phase.name}: {progress.done[phase.name]['drifted']:.0f} inputs and outputs have drifted from what its"
        " network was trained on; run.log and the predictions' file say which."
        for phase in given.phase
        if isinstance(phase, Predict) and phase.monitor and phase.monitor.on_drift == "fail"
        if progress.done.get(phase.name, {}).get("drifted")
    ]
    if drifted:
        raise Drifted(*drifted).on_every_rank()


def _runs_on(context: Any) -> dict[str, int]:
    grid, given = context.plan.grid, context.plan.input.run
    return {"ranks": context.world.size, "stages": grid.stages, "threads": given.threads or context.world.threads}


def _warn_of_other_threads(context: Any, before: dict[str, int], now: dict[str, int]) -> None:
    """The number of threads changes how sums are rounded."""
    if before and before != now and {**before, "threads": 0} == {**now, "threads": 0}:
        context.log.warn(
            f"{now['threads']} threads a rank, {before['threads']} before: from here the numbers agree with those of a"
            " run never stopped up to rounding, not to the last bit."
        )


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


def _prepare_folder(folder: RunFolder, given: Input, fresh: bool, end: _End) -> None:
    """Rank 0 takes the folder. Raises ArtifactError: another run is at work there."""
    folder.create()
    end.lock.take(folder.lock, to_stderr)
    end.word.begin(folder.outcome)
    if fresh:
        folder.clear(phase.name for phase in given.phase if isinstance(phase, Export))
        folder.create()
    here = slurm.job(os.environ)
    if folder.stop.exists() and not (here and here.restarts):
        folder.stop.unlink()  # it has stopped the run before; who submits it anew wants it to go on


def _context(
    options: Options,
    world: Any,
    job: Job,
    folder: RunFolder,
    log: Log,
    provenance: "Provenance",
    place: _Place,
    requests: Any,
) -> Any:
    """Devices, data and everything else that phases share. Collective over: world."""
    from app.learning.device import keep_freed_memory, set_threads
    from app.learning.devices.choose import choose_devices
    from app.parallel.watchdog import Watchdog
    from app.phases.context import Context
    from app.phases.context.stopping import Stopping
    from app.storage.results import Results

    given = job.given
    limit_s = given.run.watchdog
    watchdog = Watchdog(world.rank, world.size, world.host, folder.watchdog, limit_s, log.error_here, world.abort)
    place.where = watchdog.where
    watchdog.start()
    world.watch(watchdog.waiting)
    keep_freed_memory()
    threads = set_threads(given.run.threads or world.threads)
    chosen = choose_devices(given.run, world)
    _say_start(options, world, job, log, f"{chosen.line}, threads: {threads}")
    for note in chosen.notes:
        log.warn(note)
    results = Results(folder.results)
    grid = job.plan.grid
    return Context(
        plan=job.plan,
        input_folder=options.file.absolute().parent,
        world=world,
        everyone=world.group(0, world.rank).watched(watchdog.waiting),
        data_group=world.group(grid.stage(world.rank), world.rank).watched(watchdog.waiting),
        stage_group=world.group(grid.replica(world.rank), world.rank).watched(watchdog.waiting),
        device=chosen.device,
        known_data=None,
        folder=folder,
        results=results,
        provenance=provenance,
        log=log,
        timers=Timers(),
        watchdog=watchdog,
        stopping=Stopping(world, requests, folder.stop, partial(_ends_at, given), given.run.stop_margin),
    )


def _ends_at(given: Input, ask: bool) -> float | None:
    """When this run's time is up, as time.time() counts."""
    if given.run.stop_after is not None:
        return time.time() - age_s() + 60 * given.run.stop_after
    return slurm.ends_at(os.environ, ask=ask)


def _say_start(options: Options, world: Any, job: Job, log: Log, own: str) -> None:
    """The start-up block: versions, MPI, grid, and what each rank runs on. Collective over: world."""
    everyone = world.allgather(own)
    hosts = len(set(world.hosts))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "h5py", "mpi4py", "horovod"))
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


def _samples(job: Job, before: RunProgress, opened: ExitStack) -> Any:
    """The samples of [data], still to be opened."""
    from app.phases.context.data import Samples

    return Samples(job.given, job.files, before.begun, opened)


def _walk(context: Any, progress: RunProgress, until: str, samples: Any) -> tuple[list[SummaryRow], RunProgress]:
    """All phases in order, or those up to one; finished ones are skipped. Collective over: world. Raises Stopped."""
    from app.learning.device import give_freed_memory_back, out_of_memory
    from app.phases import PHASES

    rows = []
    made = context.plan.input.data.phase
    if made is None:  # the files are there, and what is wrong with them is told before hours of other phases
        context = samples.known(context)
    for step in context.plan.phases:
        if made in step.needs:
            context = samples.known(context)
        if step.done:
            context.log.info(f"{step.name}: done on an earlier start, skipped")
            _forget_checkpoints(context, step)
            rows.append(_row(step, "skipped", None, progress.done[step.name]))
            if step.name == until:
                break
            continue
        context.stopping.between(f"phase {step.name}")
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
        if step.name == until:
            break
    return rows, progress


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
