"""Raw columns → ids, numbers and keys of click rates, as ops/FEATURES.md says.

`Features(schema).of(time_ms, columns)` is the whole of it; `schema` is the manifest's, parsed.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import xxhash

NUMBER_LIMIT = 1e6
EXACT_INTEGER_MAX = 2**53
# Integers of JSON outside are doubles to most readers, and have lost digits.
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1
TEXT_BYTES_MAX = 4096
LIST_VALUES_MAX = 1024
MS_PER_HOUR = 3_600_000
NO_KEY = 0
CATEGORIES = ("categorical", "bag")
NUMBERS = ("log1p", "standardise")


class ColumnError(ValueError):
    """A column holds what the schema does not allow."""


@dataclass(frozen=True)
class Example:
    """One example: the ids of each slot, the numbers, and what each click rate is counted under."""

    ids: list[list[int]]
    numbers: list[float]
    click_rates: list[int]


def slot_key(table: str, value: str) -> int:
    return xxhash.xxh3_64_intdigest(table.encode() + b"\0" + value.encode()) or 1


def joint_key(name: str, keys: list[int]) -> int:
    return xxhash.xxh3_64_intdigest(name.encode() + b"\0" + b"".join(struct.pack("<Q", key) for key in keys)) or 1


def shortest(x: float) -> str:
    """The shortest decimal that reads back as the same double, without an exponent."""
    digits, _, exponent = repr(x).partition("e")
    if not exponent:
        return digits
    sign = "-" if digits.startswith("-") else ""
    whole, _, fraction = digits.removeprefix("-").partition(".")
    # Doubles from 2⁵³ on are refused before, so what repr writes with an exponent is small.
    return f"{sign}0.{'0' * (-int(exponent) - 1)}{whole}{fraction}"


def is_missing(raw: Any) -> bool:
    return raw is None or raw == ""


def canonical(raw: Any) -> str:
    """The text that a value is known by."""
    if isinstance(raw, bool):
        text = "true" if raw else "false"
    elif isinstance(raw, int) and INTEGER_MIN <= raw <= INTEGER_MAX:
        text = str(raw)
    elif isinstance(raw, float) and math.isfinite(raw) and abs(raw) < EXACT_INTEGER_MAX:
        text = str(int(raw)) if raw.is_integer() else shortest(raw)
    elif isinstance(raw, str):
        text = raw
    else:
        raise ColumnError(f"{raw!r} is no category")
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise ColumnError(f"a category of more than {TEXT_BYTES_MAX} bytes")
    return text


def values(raw: Any, separator: str) -> list[str]:
    """The values of a bag, in their order."""
    if isinstance(raw, list):
        found = [canonical(value) for value in raw if not is_missing(value)]
        count = len(raw)
    elif isinstance(raw, str):
        found = [canonical(part.strip()) for part in raw.split(separator) if part.strip()]
        count = len(found)
    else:
        found, count = [canonical(raw)], 1
    if count > LIST_VALUES_MAX:
        raise ColumnError(f"{count} values in a bag; at most {LIST_VALUES_MAX}")
    return found


def number(raw: Any) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)) or "_" in str(raw):
        raise ColumnError(f"{raw!r} is no number")
    try:
        x = float(raw)
    except (ValueError, OverflowError):
        raise ColumnError(f"{raw!r} is no number") from None
    if not math.isfinite(x):
        raise ColumnError(f"{raw!r} is not finite")
    return x


def narrow(x: float) -> float:
    return max(-NUMBER_LIMIT, min(NUMBER_LIMIT, x))


class Features:
    def __init__(self, schema: dict[str, Any]) -> None:
        self.features = schema["features"]
        self.slots = [feature for feature in self.features if self._has_slot(feature)]
        self.click_rates = [feature for feature in self.features if feature["kind"] == "click_rate"]

    @staticmethod
    def _has_slot(feature: dict[str, Any]) -> bool:
        return feature["kind"] not in (*NUMBERS, "click_rate") and feature.get("embed", True)

    def of(self, time_ms: int, columns: dict[str, Any], serving: bool = True) -> Example:
        """`serving`: what is known in training only counts as missing, whatever the columns say."""
        ids: dict[str, list[int]] = {}
        slots, numbers, click_rates = [], [], []
        for feature in self.features:
            name, kind = feature["name"], feature["kind"]
            raw = columns.get(feature.get("column") or name)
            hidden = serving and feature.get("training_only", False)
            if kind in NUMBERS:
                x = None if is_missing(raw) else number(raw)
                numbers.append(0.0 if x is None or hidden else self._transformed(feature, x))
                continue
            if kind == "click_rate":
                keys = self._joint(name, [ids[part] for part in feature["of"]])
                click_rates.append(keys[0] if keys else NO_KEY)
                continue
            found = self._joint(name, [ids[part] for part in feature["of"]]) if kind == "cross" else self._ids(feature, time_ms, raw)
            ids[name] = [] if hidden else found
            if self._has_slot(feature):
                slots.append(ids[name])
        return Example(slots, numbers, click_rates)

    @staticmethod
    def _transformed(feature: dict[str, Any], x: float) -> float:
        if feature["kind"] == "log1p":
            return narrow(math.copysign(math.log1p(abs(x)), x))
        return narrow((x - feature["mean"]) / feature["std"])

    @staticmethod
    def _ids(feature: dict[str, Any], time_ms: int, raw: Any) -> list[int]:
        table = feature.get("table") or feature["name"]
        match feature["kind"]:
            case "hour":
                found = [str(time_ms // MS_PER_HOUR % 24)]
            case "weekday":
                # 1 January 1970 was a Thursday, and 0 is Monday.
                found = [str((time_ms // (24 * MS_PER_HOUR) + 3) % 7)]
            case _ if is_missing(raw):
                found = []
            case "categorical":
                found = [canonical(raw)]
            case "bag":
                found = values(raw, feature["separator"])
                found = found[-feature["last"] :] if feature.get("last") else found
            case "buckets":
                x = number(raw)
                found = [str(sum(bound <= x for bound in feature["bounds"]))]
            case kind:
                raise ColumnError(f"feature {feature['name']}: kind {kind} is not known here")
        return [slot_key(table, value) for value in found]

    @staticmethod
    def _joint(name: str, parts: list[list[int]]) -> list[int]:
        """One key, or as many as the bag among the parts has ids; none where a part is missing."""
        if not all(parts):
            return []
        count = max(len(part) for part in parts)
        return [joint_key(name, [part[min(i, len(part) - 1)] for part in parts]) for i in range(count)]
