"""Lines of CSV, told apart before they are parsed, so that a line is a record wherever a file is cut."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from app.storage.raw.records import SHOWN

LEAST_BLOCK = 64 << 10
NEWLINE, RETURN, QUOTE, ASCII = 10, 13, 34, 127
UNPAIRED = "has a quotation mark without its partner; line breaks within quotation marks are not read"


class Lines(NamedTuple):
    """What is to be parsed, and of each of its lines the number of the record; why other records are bad."""

    text: bytes
    rows: np.ndarray
    total: int
    bad: dict[int, str]


def lines_of(text: bytes) -> Lines:
    """Cut a text into records: lines that are not empty. Those of which Arrow would make more or fewer are bad."""
    data = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(data == NEWLINE)
    if len(data) and data[-1] != NEWLINE:
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    quotes = np.flatnonzero(data == QUOTE)
    odd = np.diff(np.searchsorted(quotes, np.append(starts, len(data)))) & 1 == 1
    returns = np.flatnonzero(data == RETURN)
    last = len(data) - 1
    inner = returns[(data[np.minimum(returns + 1, last)] != NEWLINE) & (returns != last)]
    broken = np.zeros(len(ends), bool)
    broken[np.searchsorted(ends, inner)] = True
    empty = (ends == starts) | ((ends == starts + 1) & (data[np.minimum(starts, last)] == RETURN))
    kept = ~empty
    numbers = np.cumsum(kept) - 1
    bad = dict.fromkeys(numbers[kept & broken].tolist(), "has a carriage return within")
    bad |= dict.fromkeys(numbers[kept & odd].tolist(), UNPAIRED)
    foreign = _no_utf8(text, data, starts, ends)
    bad |= {int(numbers[line]): f"is no text of UTF-8: {text[starts[line] : ends[line]][:SHOWN]!r}" for line in foreign}
    good = kept & ~odd & ~broken
    good[foreign] = False
    return Lines(_only(text, starts, ends, good, kept), numbers[good], int(kept.sum()), bad)


def _no_utf8(text: bytes, data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[int]:
    """Lines that cannot be decoded."""
    found = []
    for line in np.unique(np.searchsorted(ends, np.flatnonzero(data > ASCII))).tolist():
        try:
            text[starts[line] : ends[line]].decode()
        except UnicodeDecodeError:
            found.append(line)
    return found


def _only(text: bytes, starts: np.ndarray, ends: np.ndarray, good: np.ndarray, kept: np.ndarray) -> bytes:
    """The text without some lines; empty ones are skipped by Arrow."""
    if good.all() or (good == kept).all():
        return text
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    runs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return b"".join(text[int(starts[first]) : int(ends[stop - 1]) + 1] for first, stop in runs)


def without_open_quotes(lines: Lines, delimiter: str) -> Lines:
    """Lines one by one, without those in which a quotation begins and does not end."""
    texts = [line for line in lines.text.split(b"\n") if line not in (b"", b"\r")]
    good = np.ones(len(texts), bool)
    for number, line in enumerate(texts):
        good[number] = not _is_open(line.decode(errors="replace"), delimiter)
    bad = lines.bad | dict.fromkeys(lines.rows[~good].tolist(), UNPAIRED)
    text = b"\n".join(line for line, keep in zip(texts, good, strict=True) if keep)
    return Lines(text, lines.rows[good], lines.total, bad)


def _is_open(line: str, delimiter: str) -> bool:
    """Whether a quotation goes on behind the end of a line."""
    reader = csv.reader([line + "\n", "next"], delimiter=delimiter)
    try:
        next(reader)
    except csv.Error:
        return True
    return reader.line_num > 1


def table_of(
    text: bytes, all_names: list[str], delimiter: str, types: Mapping[str, pa.DataType], wanted: list[str]
) -> tuple[pa.Table, dict[int, str]]:
    """Lines as a table, and those with another number of fields, counted from 0. Raises ArrowInvalid."""
    ragged: dict[int, str] = {}

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        ragged[row.number - 1] = f"has {row.actual_columns} fields, expected {row.expected_columns}"
        return "skip"

    pa.enable_signal_handlers(False)  # a signal may ask the run to stop soon; Arrow would break off with an error
    table = pyarrow.csv.read_csv(
        pa.BufferReader(text),
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, block_size=max(len(text), LEAST_BLOCK), column_names=all_names
        ),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict(types), include_columns=wanted),
    )
    return table, ragged
