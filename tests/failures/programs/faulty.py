"""A small job of which one rank misbehaves:  mpirun -np 3 python faulty.py FAULT FOLDER LIMIT_S [RANK [PLACE [ENGINE]]]

RANK misbehaves at step 20. PLACE: "main", between two operations; or "thread", in a thread, while the main thread waits
for the next rank in an operation. ENGINE: what the ranks wait in, "mpi" or "horovod".

Prints its process numbers into FOLDER, so that the test can see that all are gone and can stop or kill one.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from app.errors import DataError
from app.parallel import environment

STEPS = 100_000
STEP = 20  # at which it happens
SLOW_S = 1.5  # the next rank comes so much later, so that the one that misbehaves waits for it
WAITS_S = 0.5  # into this wait


def main() -> None:
    fault, folder, limit_s = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    rank, place, engine = (sys.argv[4:] + ["1", "main", "mpi"][len(sys.argv) - 4 :])[:3]
    environment.prepare(os.environ)
    from app.parallel import failures, world
    from app.parallel.requests import Requests, to_stderr
    from app.parallel.watchdog import Watchdog

    here = world.start()
    say = lambda text: print(f"LOG {text}", file=sys.stderr, flush=True)  # noqa: E731
    dog = Watchdog(here.rank, here.size, here.host, folder / "watchdog", limit_s, say, here.abort)
    failures.install_hooks(here, dog.where)
    Requests(lambda name: to_stderr(f"rank {here.rank} of {here.size} on {here.host}, {dog.where()}: {name} arrived"))
    wait = waits(here, engine)
    dog.start()
    (folder / f"rank{here.rank}.pid").write_text(str(os.getpid()))
    for step in range(STEPS):
        dog.place("faulty", 0, step)
        if here.rank == int(rank) and step == STEP:
            if place == "main":
                misbehave(fault, folder, here, dog, wait)
            else:
                threading.Timer(WAITS_S, misbehave, (fault, folder, here, dog, wait)).start()
        if place == "thread" and here.rank == (int(rank) + 1) % here.size and step == STEP:
            time.sleep(SLOW_S)
        with dog.operation("sum of the loss"):
            wait()
        time.sleep(0.01)
        if fault == "none" and step == STEP:
            break
    dog.stop()
    here.leave()


def waits(here, engine: str):
    """What all ranks wait in: `wait()`, or `wait(size)` with another size than the others."""
    if engine == "mpi":
        import numpy as np

        group = here.group(0, here.rank)
        return lambda size=1000: group.sum_(np.ones(size))
    import torch

    from app.parallel.sums.gradients import choose

    sums = choose(here.group(0, here.rank), wanted="horovod", device_type="cpu", hosts=1)
    assert sums.name == "horovod"
    return lambda size=1000: sums.sum_([torch.ones(size)])


def misbehave(fault: str, folder: Path, here, dog, wait) -> None:
    """What goes wrong on one rank."""
    (folder / "misbehaves").touch()
    if fault == "exception":
        raise ValueError("bad luck")
    if fault == "message":
        raise DataError("the file is damaged")
    if fault == "exit":
        sys.exit(3)
    if fault == "exit-0":
        sys.exit(0)
    if fault == "_exit-0":
        os._exit(0)
    if fault.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, fault))
    if fault == "thread":
        threading.Thread(target=lambda: 1 / 0, name="reader").start()
        time.sleep(600)
    if fault == "lost":  # what a thread that leaves without a word was to bring never comes
        threading.Thread(target=sys.exit, name="reader").start()
        threading.Event().wait(600)
    if fault == "elsewhere":
        with dog.operation("broadcast of weights"):
            here.bcast(1, root=(here.rank + 1) % here.size)
            threading.Event().wait()
    if fault == "size":
        with dog.operation("sum of the loss"):
            wait(3)
            threading.Event().wait()
    if fault == "busy":
        time.sleep(600)


if __name__ == "__main__":
    main()
