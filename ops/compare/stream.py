"""Files as columns: the rows that `rocketctl backtest` reads, in the order of the file.

Cells repeat a lot, so a column is kept as codes into its distinct texts: four bytes a cell, and every text is parsed once.
"""

import csv
import gzip
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO

import numpy as np

from config import Schema
from errors import CompareError

# Longest cell, as long as the longest event of src/wire/event.rs.
CELL_CHARS_MAX = 1 << 20
# 9999-12-31T23:59:59.999Z, as in src/wire/event.rs: microseconds read as milliseconds lie beyond it.
TIME_MS_MAX = 253_402_300_799_999
# Milliseconds per unit of the time column, as numerator and denominator.
TIME_UNITS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000)}


@dataclass(frozen=True)
class Column:
    """One column: row r holds `texts[codes[r]]`; empty text is no value."""

    codes: np.ndarray
    texts: list[str]

    def parsed(self, parse: Callable[[str], float | None], dtype: type) -> tuple[np.ndarray, np.ndarray]:
        """Values by row, and which rows have one; `parse` gives `None` where the text is no value."""
        values = [parse(text) for text in self.texts]
        known = np.array([value is not None for value in values], dtype=bool)
        filled = np.array([0 if value is None else value for value in values], dtype=dtype)
        return filled[self.codes], known[self.codes]


class Events:
    """All rows of a file. Rows that the trainer would send to the dead letters are marked `unusable`, and no peer sees them."""

    def __init__(self, columns: dict[str, Column], schema: Schema, path: Path):
        self.path = path
        self.columns = columns
        self.batch_rows = schema.batch_rows
        self.users = self.column(schema.user).codes
        self.times_ms, timed = self.column(schema.time).parsed(lambda text: time_ms(text, schema.time_unit), np.int64)
        self.labels, labelled = self.column(schema.label).parsed(label, bool)
        self.unusable = ~(timed & labelled & self.present(schema.user) & self.present(schema.item))

    def column(self, name: str) -> Column:
        """The column of this name."""
        if name not in self.columns:
            raise CompareError(f"{self.path}: no column `{name}` in its first line; correct [schema] or the file")
        return self.columns[name]

    def present(self, name: str) -> np.ndarray:
        """Which rows have a value in this column."""
        column = self.column(name)
        return np.array([text != "" for text in column.texts], dtype=bool)[column.codes]

    def numbers(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A column as doubles, and which rows have one. Text that is no finite number makes its row unusable."""
        values, known = self.column(name).parsed(number, np.float64)
        self.unusable |= ~known & self.present(name)
        return values, known


def read(path: Path, schema: Schema) -> Events:
    """Reads a TSV or CSV file, `.gz` too; the name tells the format, as in src/stream/file/rows.rs."""
    csv.field_size_limit(CELL_CHARS_MAX)
    try:
        with opened(path) as lines:
            return Events(columns_of(rows_of(path, lines), path, schema.names()), schema, path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise CompareError(f"{path}: {error}") from error


def opened(path: Path) -> TextIO:
    """The file as text, unpacked. Line ends are left to the reader of cells."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def rows_of(path: Path, lines: TextIO) -> Iterator[list[str]]:
    """Rows of cells; in a TSV quotes mean nothing."""
    stem = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    match stem.suffix.lower():
        case ".tsv" | ".txt":
            return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        case ".csv":
            return csv.reader(lines)
    raise CompareError(f"{path}: its name does not tell a format known here; name it .tsv or .csv, with .gz behind if it is packed")


def columns_of(rows: Iterator[list[str]], path: Path, wanted: set[str]) -> dict[str, Column]:
    """The wanted columns that the first line names."""
    header = next(rows, [])
    picked = [(place, name) for place, name in enumerate(header) if name in wanted]
    codes = [array("i") for _ in picked]
    known: list[dict[str, int]] = [{} for _ in picked]
    sinks = [(place, codes[i].append, known[i]) for i, (place, _) in enumerate(picked)]
    for number_of_row, row in enumerate(rows, start=1):
        if len(row) != len(header):
            if not row:
                continue
            raise CompareError(f"{path}: row {number_of_row} has {len(row)} cells, the first line names {len(header)}; mend the file")
        for place, append, seen in sinks:
            append(seen.setdefault(row[place], len(seen)))
    return {
        name: Column(np.frombuffer(codes[i], dtype=np.int32) if codes[i] else np.zeros(0, np.int32), list(known[i]))
        for i, (_, name) in enumerate(picked)
    }


def number(text: str) -> float | None:
    """A finite number. Python reads `1_000`, the trainer does not."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) and "_" not in text else None


def label(text: str) -> bool | None:
    """0, 1, true or false."""
    if text.strip() in ("true", "false"):
        return text.strip() == "true"
    value = number(text)
    return bool(value) if value in (0.0, 1.0) else None


def time_ms(text: str, unit: str) -> int | None:
    """A time in milliseconds since 1970."""
    if unit == "rfc3339":
        return in_range(rfc3339_ms(text))
    if unit not in TIME_UNITS:
        raise CompareError(f'schema.time_unit = "{unit}": expected s, ms, us or rfc3339')
    numerator, denominator = TIME_UNITS[unit]
    value = number(text)
    if value is None:
        return None
    # Whole numbers stay integers: a double has no room for microseconds beyond the year 2255.
    whole = text.strip().lstrip("+-").isdecimal()
    return in_range(int(text) * numerator // denominator if whole else round(value * numerator / denominator))


def rfc3339_ms(text: str) -> int | None:
    """A time such as 2022-04-27T00:00:00Z; the offset must be there."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return None if time.tzinfo is None else int(time.timestamp() * 1000)


def in_range(ms: int | None) -> int | None:
    """A time that an event may have."""
    return ms if ms is not None and 0 <= ms <= TIME_MS_MAX else None
