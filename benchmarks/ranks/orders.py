"""How a rank of a contender waits for orders of the benchmark that launched it, and answers them."""

import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Client
from typing import Any


def serve(name: str, rank: int, about: str, answer: Callable[[Any], object]) -> None:
    """Say who this is, then answer orders until there are no more; does not return."""
    with Client(os.path.join(os.environ["BENCHMARK_FOLDER"], "socket")) as parent:
        parent.send((name, rank, os.getpid(), about))
        while order := parent.recv():
            parent.send(answer(order))
    sys.stdout.flush()
    os._exit(0)  # the benchmark is over; no need to part in order
