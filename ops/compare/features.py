"""Columns → ids and numbers, as src/features/transform.rs makes them.

A kind of feature is one function here, named as the configuration names it. Its arguments are the events, the feature's column (or, where
it is made of others, their slots) and, by keyword, the keys that the kind has in the configuration; it returns a `Slot` (ids) or an array of
numbers, one or several per row.
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
DAYS = 7
# 1 January 1970 was a Thursday, the fourth day from Monday on.
WEEKDAY_OF_EPOCH = 3
# Keys that every kind may have and that change nothing of what it makes: without a slot of its own, and missing when served.
COMMON_KEYS = ("embed", "training_only")


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
def bag(events: Events, column: str, *, pooling: str = "mean", separator: str = ",", last: int | None = None) -> Slot:
    """The last parts of the text (all, unless told) without the white space around them; order and repetitions stay."""
    if pooling not in ("mean", "sum"):
        raise CompareError(f'pooling = "{pooling}": expected mean or sum')
    cells = events.column(column)
    known: dict[str, int] = {}
    parts = [[known.setdefault(part, len(known)) for part in map(str.strip, text.split(separator)) if part] for text in cells.texts]
    return many_ids(cells, [part[-last:] for part in parts] if last else parts, len(known), mean=pooling == "mean")


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
def weekday(events: Events, column: str) -> Slot:
    """Day of the week (UTC) of the event time, from Monday on; there is no column to read."""
    del column
    days = (events.times_ms // (MS_PER_HOUR * HOURS) + WEEKDAY_OF_EPOCH) % DAYS
    return one_id(days, np.ones(len(days), dtype=bool), DAYS)


@kind
def cross(events: Events, parts: list[Slot], *, of: list[str]) -> Slot:
    """The ids of all parts together, as one id; of a bag, one for each of its ids, pooled to their mean."""
    del events, of
    present = np.all([part.counts > 0 for part in parts], axis=0)
    counts = np.where(present, np.max([part.counts for part in parts], axis=0), 0)
    places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.repeat(np.arange(len(counts)), counts)
    columns = []
    for part in parts:
        starts = np.cumsum(part.counts) - part.counts
        columns.append(part.ids[starts[rows] + np.minimum(places, part.counts[rows] - 1)])
    distinct, ids = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return Slot(counts, ids.ravel().astype(np.int64), (1.0 / np.maximum(counts, 1))[rows].astype(np.float32), len(distinct))


@kind
def click_rate(events: Events, parts: list[Slot], *, of: list[str], prior: float = 20.0) -> np.ndarray:
    """The past click rate of the parts together, as in src/features/click_rate.rs: `[rows, 2]`, from batches before the row's own."""
    joint = cross(events, parts, of=of)
    rows, usable = len(joint.counts), np.flatnonzero(~events.unusable)
    keys = np.full(rows, -1)
    keys[joint.counts > 0] = joint.ids
    seen, clicked = np.zeros(joint.size), np.zeros(joint.size)
    of_stream = np.zeros(2)
    made = np.zeros((rows, 2))
    for start in range(0, len(usable), events.batch_rows):
        batch = usable[start : start + events.batch_rows]
        labels = events.labels[batch]
        known = batch[keys[batch] >= 0]
        key = keys[known]
        rate = (of_stream[1] + 1.0) / (of_stream[0] + 2.0)
        smooth = (clicked[key] + prior * rate) / (seen[key] + prior)
        distance = np.log(smooth / (1.0 - smooth)) - np.log(rate / (1.0 - rate))
        made[known] = np.stack([np.where(seen[key] > 0, distance, 0.0), np.log1p(seen[key] / prior)], axis=1)
        np.add.at(seen, key, 1.0)
        np.add.at(clicked, key, events.labels[known])
        of_stream += (len(batch), labels.sum())
    return made


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
    made: dict[str, Slot | np.ndarray] = {}
    for feature in schema.features:
        made[feature["name"]] = make(events, feature, made)
    hidden = {feature["name"] for feature in schema.features if not feature.get("embed", True)}
    slots = {name: value for name, value in made.items() if isinstance(value, Slot) and name not in hidden}
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
    columns = [value[usable].astype(np.float32).reshape(rows, -1) for value in numbers.values()]
    return Samples(
        labels=events.labels[usable],
        users=events.users[usable],
        times_ms=events.times_ms[usable],
        slots=list(slots),
        bounds=bounds,
        ids=ids,
        weights=weights,
        vocabulary=offset,
        numbers=np.concatenate(columns, axis=1) if columns else np.zeros((rows, 0), dtype=np.float32),
        number_names=[name if value.ndim == 1 else f"{name}.{place}" for name, value in numbers.items() for place in range(width(value))],
        unusable=len(usable) - rows,
    )


def width(numbers: np.ndarray) -> int:
    """How many numbers a feature has per row."""
    return 1 if numbers.ndim == 1 else numbers.shape[1]


def make(events: Events, feature: dict[str, Any], made: dict[str, Slot | np.ndarray]) -> Slot | np.ndarray:
    """One feature by the function of its kind; `made` are those before it."""
    name, kind_name = feature["name"], feature["kind"]
    function = KINDS.get(kind_name)
    if function is None:
        raise CompareError(
            f"feature `{name}`: kind `{kind_name}` is not known here, known are {', '.join(KINDS)}; "
            "add a function of that name to ops/compare/features.py"
        )
    given = {key: value for key, value in feature.items() if key not in ("name", "column", "kind", *COMMON_KEYS)}
    keys = {key: parameter for key, parameter in inspect.signature(function).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    for key in given.keys() - keys.keys():
        raise CompareError(
            f"feature `{name}`: key `{key}` of kind `{kind_name}` is not known here, known are {', '.join(keys) or 'none'}; "
            "add it to that function in ops/compare/features.py"
        )
    for key in (key for key, parameter in keys.items() if parameter.default is parameter.empty and key not in given):
        raise CompareError(f"feature `{name}`: kind `{kind_name}` needs the key `{key}`")
    try:
        if "of" not in keys:
            return function(events, feature.get("column", name), **given)
        parts = [made.get(part) for part in given["of"]]
        if not all(isinstance(part, Slot) for part in parts):
            raise CompareError(f"of = {given['of']}: expected features with ids that stand before this one")
        return function(events, parts, **given)
    except CompareError as error:
        raise CompareError(f"feature `{name}`: {error}") from error


def usable_only(slot: Slot, usable: np.ndarray) -> Slot:
    """The slot without the rows that cannot be used."""
    kept = np.repeat(usable, slot.counts)
    return Slot(slot.counts[usable], slot.ids[kept], slot.weights[kept], slot.size)
