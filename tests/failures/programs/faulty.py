"""A small job of which one rank misbehaves:  mpirun -np 3 python faulty.py FAULT FOLDER LIMIT_S

Prints its process numbers into FOLDER, so that the test can see that all are gone and can stop or kill one.
"""

import os
import sys
import threading
import time
from pathlib import Path

from app.errors import DataError
from app.parallel import environment

FAULTY = 1  # the rank that misbehaves
STEPS = 100_000


def main() -> None:
    fault, folder, limit_s = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    environment.prepare(os.environ)
    from app.parallel import failures, world
    from app.parallel.watchdog import Watchdog

    here = world.start()
    say = lambda text: print(f"LOG {text}", file=sys.stderr, flush=True)  # noqa: E731
    dog = Watchdog(here.rank, here.size, here.host, folder / "watchdog", limit_s, say, here.abort)
    failures.install_hooks(here, dog.where)
    dog.start()
    (folder / f"rank{here.rank}.pid").write_text(str(os.getpid()))
    for step in range(STEPS):
        dog.place("faulty", 0, step)
        if here.rank == FAULTY and step == 20:
            misbehave(fault, dog)
        with dog.operation("sum of the loss"):
            here.barrier()
        time.sleep(0.01)
        if fault == "none" and step == 20:
            break
    dog.stop()
    here.leave()


def misbehave(fault: str, dog) -> None:
    """What goes wrong on one rank."""
    if fault == "exception":
        raise ValueError("bad luck")
    if fault == "message":
        raise DataError("the file is damaged")
    if fault == "exit":
        sys.exit(3)
    if fault == "thread":
        threading.Thread(target=lambda: 1 / 0, name="reader").start()
        time.sleep(600)
    if fault == "elsewhere":
        with dog.operation("broadcast of weights"):
            time.sleep(600)
    if fault == "busy":
        time.sleep(600)


if __name__ == "__main__":
    main()
