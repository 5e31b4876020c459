"""The messages that a rank gets while it plays a schedule: posted ahead in the order in which they are needed."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import torch

from app.networks.shapes import Boundary
from app.parallel.links import Links, Message, Receipt
from app.parallel.watchdog import Watchdog
from app.plan.pipelines.schedules import RECEIVE_GRADIENTS, RECEIVES, Action

AHEAD = 3  # receives under way: the next ones of both directions, while the one before is still at work


class Inbox:
    """Receives activations and gradients for the chunks of one rank, and sends its own.

    Chunk v lives on stage v % stages. Sizes are known to both sides from the batch alone, so no shapes travel.
    """

    def __init__(self, links: Links, boundaries: Mapping[int, Boundary], stages: int, watchdog: Watchdog) -> None:
        """boundaries: by the number of the chunk that the activations enter."""
        self._links, self._boundaries, self._stages = links, boundaries, stages
        self._watchdog = watchdog
        self._sizes: Sequence[int] = ()
        self._waiting: deque[Action] = deque()
        self._posted: deque[tuple[Action, Receipt]] = deque()

    def begin(self, row: Sequence[Action], sizes: Sequence[int]) -> None:
        """A batch: the rank's actions, and the samples of each microbatch."""
        self._sizes = sizes
        self._waiting.extend(action for action in row if action.kind in RECEIVES)
        self._post()

    def take(self, action: Action, idle: Callable[[], bool]) -> torch.Tensor:
        """The message of a receive, which must be the next of the row.

        idle: called while the message is not there; does some work that was due later, or returns False.
        """
        expected, receipt = self._posted.popleft()
        assert expected == action, f"{expected} was posted, {action} is played"
        while not self._links.arrived(receipt) and idle():
            pass
        with self._watchdog.operation(self._name(action)):
            tensor = self._links.take(receipt)
        self._post()
        return tensor

    def send_activations(self, tensor: torch.Tensor, chunk: int) -> None:
        """Send a chunk's outputs to the chunk after it."""
        self._links.send(tensor, (chunk + 1) % self._stages, 2 * (chunk + 1))

    def send_gradients(self, tensor: torch.Tensor, chunk: int) -> None:
        """Send the gradients towards a chunk's inputs to the chunk before it."""
        self._links.send(tensor, (chunk - 1) % self._stages, 2 * chunk + 1)

    def finish(self) -> None:
        """The end of a batch: whatever was sent has left."""
        with self._watchdog.operation("end of sending to the other stages"):
            self._links.finish()

    def close(self) -> None:
        """No more messages. Collective over: pipeline."""
        self._links.close()

    def _post(self) -> None:
        while self._waiting and len(self._posted) < AHEAD:
            action = self._waiting.popleft()
            self._posted.append((action, self._links.post(self._message(action))))

    def _message(self, action: Action) -> Message:
        """Gradients that chunk v gets are those towards the inputs of chunk v + 1."""
        gradients = action.kind == RECEIVE_GRADIENTS
        entered = action.chunk + gradients
        shape, dtype = self._boundaries[entered]
        source = (action.chunk + 1 if gradients else action.chunk - 1) % self._stages
        return Message(source, 2 * entered + gradients, (self._sizes[action.microbatch], *shape), dtype)

    def _name(self, action: Action) -> str:
        what, step = ("gradients", 1) if action.kind == RECEIVE_GRADIENTS else ("activations", -1)
        return f"{what} of microbatch {action.microbatch} from stage {(action.chunk + step) % self._stages}"
