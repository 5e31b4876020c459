"""The timeline of a train phase: some steps recorded on every rank, written as one trace."""

from app.inputfile.phases import Trains
from app.parallel import clock
from app.phases.context import Context
from app.report.chrome import to_json
from app.report.timeline import on_one_clock
from app.report.trace import NOTHING, Recorder
from app.storage import atomic_write


class Timeline:
    """Records [run] trace steps of a phase from its second on; then one file is written. Collective over: world."""

    def __init__(self, context: Context, phase: Trains, predicted: float) -> None:
        """predicted: the bubble, as a share of the ranks' time."""
        self._context, self._phase, self._predicted = context, phase, predicted
        self._left = context.plan.input.run.trace
        self.recorder = Recorder() if self._left else NOTHING

    def step_done(self) -> None:
        """Call after every step."""
        recorder = self.recorder
        if not self._left:
            return
        if not recorder.recording:  # the first step chooses kernels and fills buffers
            recorder.start()
            return
        self._left -= 1
        if not self._left:
            self.write()

    def write(self) -> None:
        """Write what has been recorded, if that has not been done; for phases that end early too."""
        context, recorder = self._context, self.recorder
        if not recorder.recording:
            return
        recorder.stop()
        self._left = 0
        with context.watchdog.operation("gathering of the timeline"):
            everyone = context.world.allgather(recorder.events)
            shifts = clock.offsets(context.world)
        context.alone(lambda: self._write(everyone, shifts))

    def _write(self, everyone: list, shifts: list[float]) -> None:
        context = self._context
        timeline = on_one_clock(
            everyone,
            shifts,
            grid=context.plan.grid,
            hosts=context.world.hosts,
            phase=self._phase.name,
            schedule=context.plan.schedule,
            predicted=self._predicted,
        )
        path = context.folder.traces / f"{self._phase.name}.json"
        atomic_write.make_folder(path.parent)
        atomic_write.replace(path, [to_json(timeline)])
        context.log.info(f"timeline of {self._phase.name} written; phalanx report {context.folder.path} draws it")
