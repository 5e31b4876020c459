"""The files an input file names: found, or a sentence why not. Opens none of them."""

import difflib
import glob
from pathlib import Path

from app.errors import InputError
from app.inputfile.models import Input


def data_files(given: Input, folder: Path) -> tuple[Path, ...]:
    """The data files in order: as listed, those of a glob sorted by name. `folder` is the input file's.

    Raises InputError naming every entry that matches nothing.
    """
    found: dict[Path, None] = {}
    problems = []
    for entry in given.data.file:
        path = folder / entry
        matches = sorted(glob.glob(str(path))) if glob.has_magic(entry) else [str(path)] if path.exists() else []
        found |= {Path(match): None for match in matches}
        if not matches:
            problems.append(_missing(entry, path))
        problems += [
            f'[data] file = "{entry}": {match} is a folder; add /*.h5' for match in matches if Path(match).is_dir()
        ]
    if problems:
        raise InputError(*problems)
    return tuple(found)


def network_file(given: Input, folder: Path) -> list[str]:
    """Why the user's own network file is not there, as sentences."""
    file, colon, _ = given.network.kind.rpartition(":")
    if not colon or (folder / file).is_file():
        return []
    return [f'[network] kind = "{given.network.kind}": {folder / file} is not a file{_near(folder / file)}']


def _missing(entry: str, path: Path) -> str:
    if glob.has_magic(entry):
        return f'[data] file = "{entry}": no file matches in {path.parent}.'
    return f'[data] file = "{entry}": {path} does not exist{_near(path)}'


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; nor does the folder {path.parent}."
    names = [p.name for p in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, 1)
    return f'; did you mean "{near[0]}"?' if near else "."
