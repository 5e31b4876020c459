"""The exceptions a user may see: each is a list of sentences and an exit code, printed without a traceback."""

from typing import Self


class PhalanxError(Exception):
    """Something a user can act on. `problems` are whole sentences, all found at once."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.everywhere = False

    def on_every_rank(self) -> Self:
        """Mark that all ranks raise this at the same place, so that one may speak and all may leave."""
        self.everywhere = True
        return self


class InputError(PhalanxError):
    """The text or the plan of the input file is wrong."""


class DataError(PhalanxError):
    """A data file is missing, damaged or not what the input file says it is."""


class ArtifactError(PhalanxError):
    """A file of the run folder is missing, damaged, of another kind or of another run."""


class MachineError(PhalanxError):
    """The machine or its software cannot do what was asked: no Horovod, wrong MPI, full disk."""

    exit_code = 1


class LaunchError(MachineError):
    """The ranks were started in a way that cannot work: the user's to mend, and no use to try again."""

    exit_code = 2


class NumbersError(PhalanxError):
    """A number is not finite or does not agree between ranks: going on would give wrong results."""

    exit_code = 1


class Drifted(PhalanxError):
    """All is done, and what a predict phase was given is not what its network was trained on."""

    exit_code = 3


class Stopped(PhalanxError):
    """Stopped on request with work left; a batch script may submit the job again."""

    exit_code = 75


class Held(Stopped):
    """Stopped by the user's own file: nobody submits the job again."""
