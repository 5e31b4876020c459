"""A Slurm of our own on this machine: munged, slurmctld, two slurmd; whatever happens, nothing of it stays behind."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")
LIMIT_S = 120.0  # many times what anything here takes, for machines under load
POLL_S = 0.2
MARK = "PHALANX_TEST_CLUSTER"  # in the environment of every daemon and of every process of a job
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
DAEMONS = ("munged", "slurmctld", "slurmd")
NODES = ("n1", "n2")
CPUS = 8  # a node; more than there are, so that jobs which mostly sleep run side by side

# TmpFS: a folder of its own for each node, or the sockets of PMIx collide. cred_expire: a requeued job waits as long
# (Slurm: 120 s). cons_tres with TaskPlugin none: nothing is bound, the processors are only counted.
CONFIGURATION = """\
ClusterName=phalanx
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n/spool
TmpFS={folder}/%n/tmp
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
MailProg=/bin/true
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} Gres=gpu:2 State=UNKNOWN\n"
PARTITIONS = """\
PartitionName=batch Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 State=UP
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""
# NAME COMMAND, with a host name and shared memory of its own: ranks on different nodes must not meet in /dev/shm.
OWN_HOST = """\
hostname "$1" && mount -t tmpfs -o size=1g tmpfs /dev/shm && shift && exec "$@"
"""
UNSHARE = ("unshare", "--uts", "--mount", "--propagation", "private", "sh", "-c", OWN_HOST, "sh")


def missing() -> str:
    """Why there can be no cluster on this machine; empty when there can."""
    absent = [name for name in DAEMONS if not shutil.which(name, path=PATH)]
    return f"{', '.join(absent)} not found: install slurm-wlm and munge" if absent else ""


class Cluster:
    """Starts with the `with` block, and ends with it together with all its jobs."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self.folder = Path(tempfile.mkdtemp(prefix="phx-", dir="/tmp"))  # short: paths of sockets have 108 characters
        self.folder.chmod(0o755)  # munged refuses otherwise
        self.own_hosts = _can_unshare()
        self.environ = self._environ()
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Cluster":
        try:
            self._configure()
            self._start_munged()
            self._start("slurmctld", "slurmctld", "-D", "-c")
            for node in NODES:
                self.start_node(node)
            self.until(lambda: self.idle() == len(NODES), "idle nodes", 60)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.end()

    def command(self, *words: str, limit_s: float = LIMIT_S) -> str:
        """What one of Slurm's commands printed; it must end well."""
        ended = self.tried(*words, limit_s=limit_s)
        assert ended.returncode == 0, f"{' '.join(words)}: {ended.stdout}{ended.stderr}"
        return ended.stdout.strip()

    def tried(
        self,
        *words: str,
        folder: Path | None = None,
        environ: Mapping[str, str] | None = None,
        limit_s: float = LIMIT_S,
    ) -> subprocess.CompletedProcess[str]:
        """One command on this cluster, ended well or not."""
        return subprocess.run(
            words,
            cwd=folder,
            env=self.environ | (environ or {}),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=limit_s,
            check=False,
        )

    def idle(self) -> int:
        """The number of nodes that could take a job at once."""
        return int(self.tried("sinfo", "-h", "-p", "batch", "-t", "idle", "-o", "%D").stdout.strip() or 0)

    def start_node(self, name: str) -> None:
        """Start the slurmd of a node."""
        words = ["slurmd", "-D", "-N", name]
        if self.own_hosts:
            words = [*UNSHARE, name, *words]
        self._start(name, *words)

    def kill_node(self, name: str) -> None:
        """The node loses power: its slurmd and everything that runs on it is killed at once. Its disk is a RAM disk.

        On another one the step's folder of PMIx would stay, and no step of the same number starts there any more.
        """
        slurmd = self._daemons.pop(name)
        victims = self._pids(_host(slurmd.pid))
        for number in (signal.SIGSTOP, signal.SIGKILL):  # or those that live longest would report the others' death
            for pid in victims:
                _kill(pid, number)
        slurmd.wait()
        shutil.rmtree(self.folder / name)
        self._make_disk(name)

    def until(self, arrived: Callable[[], T], what: str, limit_s: float = LIMIT_S) -> T:
        """Wait for something true, and return it."""
        end = time.monotonic() + limit_s
        while not (found := arrived()):
            if time.monotonic() > end:
                raise TimeoutError(f"no {what} within {limit_s} s\n{self.logs()}")
            time.sleep(POLL_S)
        return found

    def logs(self) -> str:
        """The ends of what the daemons wrote."""
        parts = []
        for file in sorted(self.folder.glob("*.log")):
            lines = file.read_text(errors="replace").splitlines()[-20:]
            parts.append("\n".join([f"-- {file.name}", *lines]))
        return "\n".join(parts)

    def end(self) -> None:
        """Cancel all jobs, then end every process of this cluster, and only those."""
        if "slurmctld" in self._daemons:
            self._end_jobs()
        hosts = ["", *(_host(self._daemons[name].pid) for name in NODES if name in self._daemons)]
        for daemon in self._daemons.values():
            daemon.terminate()
        for daemon in self._daemons.values():
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()
        for host in hosts:
            for pid in self._pids(host):
                _kill(pid, signal.SIGKILL)
        self._remove()

    def _remove(self) -> None:
        for _ in range(5):  # what was just killed may still have been writing
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return
            time.sleep(POLL_S)

    def _end_jobs(self) -> None:
        """Whether that works or not: what is left is killed anyway."""
        for words in (["scancel", "--state=PENDING", "-u", str(os.getuid())], ["scancel", "-u", str(os.getuid())]):
            self.tried(*words, limit_s=20)
        end = time.monotonic() + 3
        while time.monotonic() < end and self.tried("squeue", "-h", limit_s=20).stdout.strip():
            time.sleep(POLL_S)

    def _environ(self) -> dict[str, str]:
        """For daemons, commands and jobs: nothing of a Slurm or an MPI in which the tests themselves may run."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        return kept | {
            "PATH": PATH,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            MARK: self._mark,
            "OMP_NUM_THREADS": "1",
            "OMPI_MCA_btl_tcp_if_include": "lo",  # what ranks send
        }

    def _configure(self) -> None:
        host = socket.gethostname().split(".")[0]
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        ports = _free_ports(1 + len(NODES))
        text = CONFIGURATION.format(host=host, user=user, ports=ports, folder=self.folder)
        for name, port in zip(NODES, ports[1:], strict=True):
            self._make_disk(name)
            text += NODE.format(name=name, host=name if self.own_hosts else host, port=port, cpus=CPUS)
        (self.folder / "state").mkdir(mode=0o700)
        (self.folder / "slurm.conf").write_text(text + PARTITIONS)
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")  # only counted

    def _make_disk(self, name: str) -> None:
        for part in ("spool", "tmp"):
            (self.folder / name / part).mkdir(parents=True)

    def _start_munged(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {"key-file": key}
        for name in ("socket", "pid-file", "log-file", "seed-file"):
            files[name] = self.folder / f"munge.{name.split('-')[0].replace('socket', 'sock')}"
        options = [f"--{name}={path}" for name, path in files.items()]
        self._start("munged", "munged", "--foreground", "--force", *options)
        self.until(lambda: files["socket"].exists(), "socket of munged")

    def _start(self, name: str, *words: str) -> None:
        """One daemon as our own child, its output in a file."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                words, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _pids(self, host: str = "") -> list[int]:
        """Its living processes, or those on one host of its own: a slurmstepd has no environment to know it by."""
        numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        if host and host != _host(os.getpid()):
            return [pid for pid in numbers if _host(pid) == host]
        return [pid for pid in numbers if f"{MARK}={self._mark}" in _environment(pid)]


_FOREIGN = ("SLURM", "SBATCH", "SRUN", "SQUEUE", "SINFO", "OMPI_", "PRTE_", "PMIX_", "PMI_", "PHALANX_")


def _can_unshare() -> bool:
    """Whether we may give a process a host name of its own."""
    if os.getuid() or not shutil.which("unshare"):
        return False
    return subprocess.run([*UNSHARE, "n0", "true"], capture_output=True, check=False).returncode == 0


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback device on which nobody listens now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _environment(pid: int) -> list[str]:
    """NAME=VALUE of a process; none for those that have ended and those of other users."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _host(pid: int) -> str:
    """What stands for the host name that a process sees; empty when it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/uts")
    except OSError:
        return ""


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
