"""The commands. A user's mistake is printed as text with exit code 2; nothing heavy is imported before it is needed."""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import app
from app.errors import PhalanxError

DESCRIPTION = "Train networks on HDF5 data over MPI, as one TOML input file says."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code: 0 done, 2 the user's mistake, 1 a failure, 75 stopped with work left."""
    given = _parser().parse_args(arguments)
    try:
        return given.command(given)
    except PhalanxError as error:
        from app.report.log import escaped

        print("\n".join(map(escaped, error.problems)), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output has gone, as in `phalanx template | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("phalanx", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("-V", "--version", action="version", version=f"phalanx {app.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = _command(commands, "run", _run, "run an input file, under mpirun or srun, or alone as one rank")
    _input_arguments(run)
    run.add_argument("--fresh", action="store_true", help="start over: delete what an earlier run left in the folder")
    run.add_argument("--until", default="", metavar="PHASE", help="end well after this phase; a later start goes on")
    run.add_argument(
        "--other-code",
        action="store_true",
        help="go on although versions or your own files of Python are others than when the run began",
    )
    run.add_argument("-v", "--verbose", action="store_true", help="say more")

    check = _command(commands, "check", _check, "check an input file and show the plan, without torch or MPI")
    _input_arguments(check)
    check.add_argument("--ranks", type=_ranks, default=1, metavar="N", help="the number of ranks to plan for")

    status = _command(commands, "status", _status, "how far a run has come, who is at work, and how it ended last")
    _input_arguments(status, "INPUT.toml or FOLDER")
    status.add_argument("--brief", action="store_true", help="one line for scripts: STATE PLACE")

    template = _command(commands, "template", _template, "a commented input file with every key")
    template.add_argument("kind", nargs="?", help="one kind of phase or network alone, or run, grid, data")

    info = _command(commands, "info", _info, "say what an HDF5 file is: one of ours, or a user's")
    info.add_argument("files", nargs="+", type=Path, metavar="FILE.h5")

    report = _command(
        commands, "report", _report, "one page of all that a run has found: curves, networks, time, predictions"
    )
    report.add_argument("folder", type=Path, metavar="FOLDER", help="the run folder")

    _command(commands, "doctor", _doctor, "what this machine has, what is missing, and what to do about it")
    return parser


def _command(commands, name: str, function, text: str) -> argparse.ArgumentParser:  # noqa: ANN001 - argparse's own types
    parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.set_defaults(command=function)
    return parser


def _input_arguments(parser: argparse.ArgumentParser, named: str = "INPUT.toml") -> None:
    parser.add_argument("file", type=Path, metavar=named)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="override a key, such as phase.teacher.epochs=3; may be given again",
    )


def _ranks(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of ranks, 1 or more")
    return int(text)


def _run(given: argparse.Namespace) -> int:
    # Until all is imported, collecting garbage among so many new objects takes a fifth of the start; run.py ends this.
    gc.disable()
    from app.job import Options
    from app.run import main as run

    return run(Options(given.file, given.settings, given.fresh, given.verbose, given.until, given.other_code))


def _check(given: argparse.Namespace) -> int:
    from app.inputfile.read import read_text
    from app.job import Options, read_job
    from app.plan.show import show_plan

    job = read_job(Options(given.file, given.settings), given.ranks, read_text(given.file))
    print("\n".join(show_plan(job.plan)))
    return 0


def _status(given: argparse.Namespace) -> int:
    from app.report.log import escaped
    from app.status import brief, find, told

    found = find(given.file, given.settings)
    print("\n".join(map(escaped, [brief(found)] if given.brief else told(found))))
    return 0


def _template(given: argparse.Namespace) -> int:
    from app.inputfile.template import template

    print(template(given.kind), end="")
    return 0


def _info(given: argparse.Namespace) -> int:
    from app.storage.describe import describe

    for number, path in enumerate(given.files):
        print(("\n" if number else "") + "\n".join(describe(path)))
    return 0


def _report(given: argparse.Namespace) -> int:
    from app.report.log import escaped
    from app.reporting import report

    print("\n".join(map(escaped, report(given.folder))))
    return 0


def _doctor(given: argparse.Namespace) -> int:
    from app.doctor import examine

    lines, well = examine()
    print("\n".join(lines))
    return 0 if well else 1
