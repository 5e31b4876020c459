"""Read by every Python process whose PYTHONPATH names this folder: the disk fails when a chosen file is to be written.

PHALANX_TEST_DISK is JSON: `file` matches the path that is opened, temporary or not; `rank` is whose; `fault` is full
(of the file `filler` in `folder`), limit (of file sizes, for this process) or read-only (`folder`).
"""

import json
import os
import re
import resource
import subprocess
import sys

WANTED = json.loads(os.environ.get("PHALANX_TEST_DISK", "{}"))
RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ.get("PMI_RANK") or 0)
WRITES = os.O_WRONLY | os.O_RDWR


def audit(event: str, arguments: tuple) -> None:
    if event == "open" and WANTED and isinstance(arguments[0], str) and arguments[2] & WRITES:
        path = re.sub(r"/\.([^/]+)\.\d+\.part$", r"/\1", arguments[0])
        if re.fullmatch(WANTED["file"], path):
            chosen = dict(WANTED)
            WANTED.clear()
            fail(chosen)


def fail(chosen: dict) -> None:
    folder = chosen["folder"]
    if chosen["fault"] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    elif chosen["fault"] == "full":
        fill(os.path.join(folder, "filler"))
    else:
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)


def fill(path: str) -> None:
    """To the last byte."""
    with open(path, "ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


if WANTED and WANTED["rank"] == RANK:
    sys.addaudithook(audit)
