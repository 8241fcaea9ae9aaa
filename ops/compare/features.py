"""Columns → ids and numbers, as src/features/transform.rs makes them.

A kind of feature is one function here, named as the configuration names it. Its arguments are the events, the feature's column and, by
keyword, the keys that the kind has in the configuration; it returns a `Slot` (ids) or an array of numbers, one per row.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from config import Schema
from errors import CompareError
from stream import Column, Events

# Numeric inputs are clamped to ± this, as in src/features/transform.rs.
NUMBER_LIMIT = 1e6
MS_PER_HOUR = 3_600_000
HOURS = 24


@dataclass(frozen=True)
class Slot:
    """Any number of ids per row, pooled by their weighted sum. A mean is a sum with weights 1/n."""

    # [rows]
    counts: np.ndarray
    # Of all rows, one row after the other; below `size`.
    ids: np.ndarray
    # [ids]
    weights: np.ndarray
    size: int


@dataclass(frozen=True)
class Samples:
    """What every peer learns from, in the order of the file."""

    # [rows]
    labels: np.ndarray
    users: np.ndarray
    times_ms: np.ndarray
    # Names of slots; the ids of slot s in row r are ids[bounds[r·slots + s]..bounds[r·slots + s + 1]].
    slots: list[str]
    bounds: np.ndarray
    # Distinct over all slots, below `vocabulary`.
    ids: np.ndarray
    weights: np.ndarray
    vocabulary: int
    # [rows, number_names]
    numbers: np.ndarray
    number_names: list[str]
    # Rows of the file that cannot be used.
    unusable: int

    @property
    def rows(self) -> int:
        """Rows that are learnt from."""
        return len(self.labels)

    def row_bounds(self) -> np.ndarray:
        """Row r's ids of all slots are `ids[b[r]..b[r + 1]]`."""
        return self.bounds[:: max(len(self.slots), 1)]


Kind = Callable[..., Slot | np.ndarray]
KINDS: dict[str, Kind] = {}


def kind(function: Kind) -> Kind:
    """Makes a function a kind of feature."""
    KINDS[function.__name__] = function
    return function


@kind
def categorical(events: Events, column: str) -> Slot:
    """The text as it is; empty text is no id."""
    cells = events.column(column)
    return one_id(cells.codes, events.present(column), len(cells.texts))


@kind
def bag(events: Events, column: str, *, pooling: str = "mean", separator: str = ",") -> Slot:
    """The parts of the text without the white space around them; order and repetitions stay."""
    if pooling not in ("mean", "sum"):
        raise CompareError(f'pooling = "{pooling}": expected mean or sum')
    cells = events.column(column)
    known: dict[str, int] = {}
    parts = [[known.setdefault(part, len(known)) for part in map(str.strip, text.split(separator)) if part] for text in cells.texts]
    return many_ids(cells, parts, len(known), mean=pooling == "mean")


@kind
def buckets(events: Events, column: str, *, bounds: list[float]) -> Slot:
    """The number of bounds that are ≤ x, as an id."""
    values, known = events.numbers(column)
    return one_id(np.searchsorted(np.array(bounds, dtype=np.float64), values, side="right"), known, len(bounds) + 1)


@kind
def hour(events: Events, column: str) -> Slot:
    """Hour of the day (UTC) of the event time; there is no column to read."""
    del column
    return one_id(events.times_ms // MS_PER_HOUR % HOURS, np.ones(len(events.times_ms), dtype=bool), HOURS)


@kind
def log1p(events: Events, column: str) -> np.ndarray:
    """sign(x)·ln(1 + |x|); missing is 0."""
    values, _ = events.numbers(column)
    return np.sign(values) * np.log1p(np.abs(values))


@kind
def standardise(events: Events, column: str, *, mean: float, std: float) -> np.ndarray:
    """(x − mean) / std; missing is 0."""
    values, known = events.numbers(column)
    return np.where(known, (values - mean) / std, 0.0)


def one_id(ids: np.ndarray, known: np.ndarray, size: int) -> Slot:
    """A slot with one id where `known`, none elsewhere."""
    counts = known.astype(np.int64)
    return Slot(counts, ids[known].astype(np.int64), np.ones(counts.sum(), dtype=np.float32), size)


def many_ids(cells: Column, parts: list[list[int]], size: int, *, mean: bool) -> Slot:
    """A slot whose row r has the ids `parts[cells.codes[r]]`."""
    lengths = np.array([len(ids) for ids in parts], dtype=np.int64)
    flat = np.array([part for ids in parts for part in ids], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    counts = lengths[cells.codes]
    ids = flat[spread(starts[cells.codes], counts)]
    weights = np.repeat(1.0 / np.maximum(counts, 1) if mean else np.ones(len(counts)), counts)
    return Slot(counts, ids, weights.astype(np.float32), size)


def spread(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start + 1, … of every range, one range after the other."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


def build(events: Events, schema: Schema) -> Samples:
    """All features of the usable rows."""
    made = {feature["name"]: make(events, feature) for feature in schema.features}
    slots = {name: value for name, value in made.items() if isinstance(value, Slot)}
    numbers = {name: np.clip(value, -NUMBER_LIMIT, NUMBER_LIMIT) for name, value in made.items() if not isinstance(value, Slot)}
    # Only now: a kind may have found more of them.
    usable = ~events.unusable
    rows = int(usable.sum())
    if rows == 0:
        raise CompareError(f"{events.path}: none of its {len(usable)} rows has a time, a user, an item and a label as [schema] says")
    kept = [usable_only(slot, usable) for slot in slots.values()]
    bounds = np.concatenate([[0], np.cumsum(np.stack([slot.counts for slot in kept], axis=1).ravel())]) if kept else np.zeros(1, np.int64)
    ids, weights = np.empty(bounds[-1], dtype=np.int64), np.empty(bounds[-1], dtype=np.float32)
    offset = 0
    for place, slot in enumerate(kept):
        into = spread(bounds[place :: len(kept)][:rows], slot.counts)
        ids[into], weights[into] = slot.ids + offset, slot.weights
        offset += slot.size
    columns = [value[usable].astype(np.float32) for value in numbers.values()]
    return Samples(
        labels=events.labels[usable],
        users=events.users[usable],
        times_ms=events.times_ms[usable],
        slots=list(slots),
        bounds=bounds,
        ids=ids,
        weights=weights,
        vocabulary=offset,
        numbers=np.stack(columns, axis=1) if columns else np.zeros((rows, 0), dtype=np.float32),
        number_names=list(numbers),
        unusable=len(usable) - rows,
    )


def make(events: Events, feature: dict[str, Any]) -> Slot | np.ndarray:
    """One feature by the function of its kind."""
    name, kind_name = feature["name"], feature["kind"]
    function = KINDS.get(kind_name)
    if function is None:
        raise CompareError(
            f"feature `{name}`: kind `{kind_name}` is not known here, known are {', '.join(KINDS)}; "
            "add a function of that name to ops/compare/features.py"
        )
    given = {key: value for key, value in feature.items() if key not in ("name", "column", "kind")}
    keys = {key: parameter for key, parameter in inspect.signature(function).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    for key in given.keys() - keys.keys():
        raise CompareError(
            f"feature `{name}`: key `{key}` of kind `{kind_name}` is not known here, known are {', '.join(keys) or 'none'}; "
            "add it to that function in ops/compare/features.py"
        )
    for key in (key for key, parameter in keys.items() if parameter.default is parameter.empty and key not in given):
        raise CompareError(f"feature `{name}`: kind `{kind_name}` needs the key `{key}`")
    try:
        return function(events, feature.get("column", name), **given)
    except CompareError as error:
        raise CompareError(f"feature `{name}`: {error}") from error


def usable_only(slot: Slot, usable: np.ndarray) -> Slot:
    """The slot without the rows that cannot be used."""
    kept = np.repeat(usable, slot.counts)
    return Slot(slot.counts[usable], slot.ids[kept], slot.weights[kept], slot.size)
