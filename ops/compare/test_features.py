"""Files and features: the cases of src/features/transform.rs and src/wire/event.rs, through a file."""

import gzip
import tempfile
import unittest
from itertools import pairwise
from pathlib import Path

import numpy as np

import config
import features
import stream
from errors import CompareError

HOUR_MS = 3_600_000
EVERY_KIND = [
    {"name": "age", "kind": "standardise", "mean": 30.0, "std": 10.0},
    {"name": "item", "kind": "categorical"},
    {"name": "tags", "kind": "bag"},
    {"name": "sums", "column": "tags", "kind": "bag", "pooling": "sum"},
    {"name": "price", "kind": "log1p"},
    {"name": "length", "kind": "buckets", "bounds": [1.0, 2.0, 4.0]},
    {"name": "hour", "kind": "hour"},
]
HEADER = "ts user item label age tags price length spare"


def schema(kinds, **keys):
    table = {"time": "ts", "user": "user", "item": "item", "features": kinds, **keys}
    return config.schema_of(table, Path("test.toml"), batch_rows=2)


def build(rows, kinds, name="x.tsv", **keys):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        text = "\n".join([HEADER, *rows]).replace(" ", "," if ".csv" in name else "\t") + "\n"
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        of = schema(kinds, **keys)
        return features.build(stream.read(path, of), of)


def slots_of(samples, row):
    """Per slot, its ids counted from the slot's lowest, with weights."""
    count = len(samples.slots)
    bounds = samples.bounds[row * count : (row + 1) * count + 1]
    return [list(zip(samples.ids[a:b].tolist(), samples.weights[a:b].tolist())) for a, b in pairwise(bounds)]


class DerivedTest(unittest.TestCase):
    """Features made of others, and of what the stream has shown before."""

    ITEM = {"name": "item", "kind": "categorical", "embed": False}
    TAGS = {"name": "tags", "kind": "bag", "last": 2}

    def test_crosses_pair_every_id_of_a_bag(self):
        kinds = [self.ITEM, self.TAGS, {"name": "both", "kind": "cross", "of": ["item", "tags"]}]
        samples = build([f"1 u i7 1 50 a,b,c -1 2 x", "2 u i7 0 50 b 1 2 x", "3 u i8 0  b   ", "4 u i8 0     "], kinds)
        self.assertEqual(samples.slots, ["tags", "both"])
        tags, both = zip(*(slots_of(samples, row) for row in range(4)))
        self.assertEqual([len(ids) for ids in tags], [2, 1, 1, 0])
        self.assertEqual([[weight for _, weight in ids] for ids in both], [[0.5, 0.5], [1.0], [1.0], []])
        self.assertEqual(both[1][0][0], both[0][0][0], "i7 with b")
        self.assertNotIn(both[2][0][0], [id for id, _ in both[0]], "i8 with b is another")

    def test_click_rates_are_older_than_their_batch(self):
        kinds = [self.ITEM, {"name": "rate", "kind": "click_rate", "of": ["item"], "prior": 2.0}]
        samples = build([f"{n} u {item} {label}     " for n, (item, label) in enumerate([("a", 1), ("a", 0), ("a", 1), ("b", 1)])], kinds)
        # The first batch of two knows nothing; the second one of it: two impressions, one click, in the stream and of a.
        rate = (1 + 1) / (2 + 2)
        smooth = (1 + 2 * rate) / (2 + 2)
        expected = [np.log(smooth / (1 - smooth)) - np.log(rate / (1 - rate)), np.log1p(2 / 2)]
        np.testing.assert_allclose(samples.numbers, [[0, 0], [0, 0], expected, [0, 0]], atol=1e-6)
        self.assertEqual(samples.number_names, ["rate.0", "rate.1"])

    def test_weekdays_start_on_monday(self):
        samples = build([f"{ms} u i 0     " for ms in (1_704_067_200_000, 0)], [{"name": "day", "kind": "weekday"}])
        self.assertEqual(samples.ids.tolist(), [0, 3])

    def test_parts_stand_before(self):
        with self.assertRaisesRegex(CompareError, "stand before"):
            build(["1 u i 0     "], [{"name": "both", "kind": "cross", "of": ["item", "tags"]}])


class FeaturesTest(unittest.TestCase):
    ROWS = [f"{25 * HOUR_MS + 1} u1 i7 1 50 a,b,,a -1 2 x", f"{HOUR_MS - 1} u2 i8 0     "]

    def test_every_kind(self):
        for name in ("x.tsv", "x.csv", "x.tsv.gz"):
            rows = [row.replace("a,b,,a", '"a,b,,a"') for row in self.ROWS] if name == "x.csv" else self.ROWS
            with self.subTest(name=name):
                samples = build(rows, EVERY_KIND, name)
                self.assertEqual(samples.slots, ["item", "tags", "sums", "length", "hour"])
                self.assertEqual(samples.number_names, ["age", "price"])
                np.testing.assert_allclose(samples.numbers, [[2.0, -np.log(2.0)], [0.0, 0.0]], rtol=1e-6)
                self.assertEqual((samples.labels.tolist(), samples.unusable), ([True, False], 0))
                # Slots begin at 0 (2 items), 2 and 4 (2 tags each), 6 (4 buckets) and 10 (24 hours).
                third = np.float32(1 / 3).item()
                self.assertEqual(
                    slots_of(samples, 0),
                    [[(0, 1.0)], [(2, third), (3, third), (2, third)], [(4, 1.0), (5, 1.0), (4, 1.0)], [(8, 1.0)], [(11, 1.0)]],
                )
                self.assertEqual(slots_of(samples, 1), [[(1, 1.0)], [], [], [], [(10, 1.0)]])
                self.assertEqual(samples.vocabulary, 34)

    def test_buckets_hold_their_lower_bound(self):
        rows = [f"1 u i 0    {x} " for x in (0.999, 1, 1.999, 2, 1e300, -1e300)]
        samples = build(rows, [{"name": "length", "kind": "buckets", "bounds": [1.0, 2.0]}])
        self.assertEqual(samples.ids.tolist(), [0, 1, 1, 2, 2, 0])

    def test_large_numbers_are_clamped(self):
        samples = build(["1 u i 0 1e300    "], [{"name": "age", "kind": "standardise", "mean": 0.0, "std": 1e-3}])
        self.assertEqual(samples.numbers.tolist(), [[1e6]])

    def test_rows_for_the_dead_letters_are_left_out_everywhere(self):
        good = "5 u i true 1    "
        bad = [" u i 1 1    ", "5  i 1 1    ", "5 u  1 1    ", "5 u i 2 1    ", "5 u i 1 old    ", "x u i 1 1    ", "-5 u i 1 1    "]
        samples = build([*bad, good, *bad], EVERY_KIND)
        self.assertEqual((samples.rows, samples.unusable, samples.labels.tolist()), (1, 14, [True]))
        self.assertEqual([len(ids) for ids in slots_of(samples, 0)], [1, 0, 0, 0, 1])

    def test_units_of_time(self):
        for unit, text, ms in [
            ("s", "3", 3000),
            ("ms", "3", 3),
            ("us", "3999", 3),
            ("s", "1.5", 1500),
            ("rfc3339", "1970-01-01T01:00:00+01:00", 0),
        ]:
            samples = build([f"{text} u i 0     "], [{"name": "hour", "kind": "hour"}], time_unit=unit)
            self.assertEqual(samples.times_ms.tolist(), [ms], unit)

    def test_errors_name_the_thing(self):
        for kinds, words in [
            ([{"name": "a", "kind": "crossing"}], ["`a`", "`crossing`", "features.py"]),
            ([{"name": "tags", "kind": "bag", "longest": 3}], ["`tags`", "`longest`", "pooling, separator"]),
            ([{"name": "age", "kind": "standardise", "mean": 1.0}], ["`age`", "`std`"]),
            ([{"name": "gone", "kind": "categorical"}], ["`gone`", "first line"]),
            ([{"name": "liked", "column": "is_like", "kind": "categorical"}], ["`liked`", "`is_like`", "after the click"]),
            ([{"name": "label", "kind": "categorical"}], ["`label`", "after the click"]),
        ]:
            with self.subTest(kinds=kinds), self.assertRaises(CompareError) as raised:
                build(self.ROWS, kinds)
            for word in words:
                self.assertIn(word, str(raised.exception))

    def test_a_short_row_is_named(self):
        with self.assertRaisesRegex(CompareError, "row 2 has 3 cells"):
            build([self.ROWS[0], "1 u i"], EVERY_KIND)

    def test_the_name_tells_the_format(self):
        with self.assertRaisesRegex(CompareError, "format"):
            build(self.ROWS, EVERY_KIND, "x.parquet")


if __name__ == "__main__":
    unittest.main()
