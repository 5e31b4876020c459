"""The files an input file names: found, or a sentence why not. Opens none of them."""

import difflib
import glob
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from app.errors import InputError
from app.inputfile.models import Input
from app.inputfile.phases import Distill, Export, Predict, Preprocess, Quantum, Train


def data_files(given: Input, folder: Path) -> tuple[Path, ...]:
    """The data files in order: as listed, those of a glob sorted by name. `folder` is the input file's.

    Raises InputError naming every entry that matches nothing.
    """
    return _matching(given.data.file or (), folder, "[data] file", folders=False)


def raw_files(phase: Preprocess, folder: Path) -> tuple[Path, ...]:
    """The raw files and folders of a preprocess phase; as `data_files`."""
    return _matching(phase.file, folder, f'[[phase]] "{phase.name}": file', folders=True)


def new_files(phase: Predict, folder: Path) -> tuple[Path, ...]:
    """The files of new samples of a predict phase, () where it names none; as `data_files`."""
    return _matching(phase.file or (), folder, f'[[phase]] "{phase.name}": file', folders=False)


def missing_files(given: Input, folder: Path) -> list[str]:
    """Why files that phases read samples from are not there, as sentences."""
    problems: list[str] = []
    for phase in given.phase:
        try:
            if isinstance(phase, Preprocess):
                raw_files(phase, folder)
            if isinstance(phase, Predict):
                new_files(phase, folder)
        except InputError as error:
            problems += error.problems
    return problems


def _matching(entries: Iterable[str], folder: Path, where: str, *, folders: bool) -> tuple[Path, ...]:
    """What entries name, in order, each once; folders: whether they may be folders. Raises InputError."""
    found: dict[Path, None] = {}
    problems = []
    for entry in entries:
        path = folder / entry
        matches = sorted(glob.glob(str(path))) if glob.has_magic(entry) else [str(path)] if path.exists() else []
        found |= {Path(match): None for match in matches}
        if not matches:
            problems.append(_missing(where, entry, path))
        if not folders:
            problems += [
                f'{where} = "{entry}": {match} is a folder; add /*.h5' for match in matches if Path(match).is_dir()
            ]
    if problems:
        raise InputError(*problems)
    return tuple(found)


def network_files(given: Input, folder: Path) -> list[str]:
    """Why files of networks and circuits are not there, the user's own and those of other runs, as sentences."""
    named = [(where, word) for _, where, word in _named(given)]
    missing = [(where, path) for where, path in _files(named, folder) if not path.is_file()]
    return [f"{where}: {path} is not a file{_near(path)}" for where, path in missing]


def code_files(given: Input, folder: Path, phases: Collection[str]) -> dict[str, Path]:
    """The user's own files of Python that these phases use, by the name that the input file gives them."""
    words = [word for phase, _, word in _named(given) if phase in ("", *phases)]
    found = ((word.rpartition(":")[0], word) for word in words)
    return {name: folder / name for name, word in found if name and not word.endswith((".h5", ".onnx"))}


def _named(given: Input) -> Iterator[tuple[str, str, str]]:
    """Words that may name files: the phase that uses it ("" for all of them), where the word stands, the word."""
    yield "", f'[network] kind = "{given.network.kind}"', given.network.kind
    for phase in given.phase:
        title, name = f'[[phase]] "{phase.name}"', phase.name
        if isinstance(phase, Distill):
            for teacher in phase.teacher:
                yield name, f'{title}: teacher = "{teacher}"', teacher
            if phase.student is not None:
                yield name, f'{title}: student: kind = "{phase.student.kind}"', phase.student.kind
        if isinstance(phase, Train) and phase.architecture is not None:
            yield name, f'{title}: architecture: kind = "{phase.architecture.kind}"', phase.architecture.kind
        if isinstance(phase, Export | Predict) and phase.network is not None:
            yield name, f'{title}: network = "{phase.network}"', phase.network
        if isinstance(phase, Quantum) and phase.circuit.function is not None:
            yield name, f'{title}: circuit: function = "{phase.circuit.function}"', phase.circuit.function


def _files(named: Iterable[tuple[str, str]], folder: Path) -> Iterator[tuple[str, Path]]:
    """Those of FILE.py:function, FILE.h5 and FILE.onnx; other words name no file."""
    for where, word in named:
        file, colon, _ = word.rpartition(":")
        if colon or word.endswith((".h5", ".onnx")):
            yield where, folder / (file if colon else word)


def _missing(where: str, entry: str, path: Path) -> str:
    if glob.has_magic(entry):
        return f'{where} = "{entry}": no file matches in {path.parent}.'
    return f'{where} = "{entry}": {path} does not exist{_near(path)}'


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; nor does the folder {path.parent}."
    names = [p.name for p in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, 1)
    return f'; did you mean "{near[0]}"?' if near else "."
