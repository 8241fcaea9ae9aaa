"""The vectorised metrics against the definitions, pair by pair."""

import math
import unittest

import numpy as np

import metrics


def auc(labels, logits):
    """(pairs in order + ½ tied pairs) / pairs."""
    pairs = [(p, n) for p, y in zip(logits, labels) if y for n, z in zip(logits, labels) if not z]
    return sum((p > n) + (p == n) / 2 for p, n in pairs) / len(pairs) if pairs else None


def gauc(labels, logits, users):
    """GAUC, its standard error, users left out."""
    parts, skipped = [], 0
    for user in set(users):
        mine = [i for i, other in enumerate(users) if other == user]
        own = auc([labels[i] for i in mine], [logits[i] for i in mine])
        if own is None:
            skipped += 1
        else:
            parts.append((len(mine), own))
    if not parts:
        return None, None, skipped
    total = sum(w for w, _ in parts)
    g = sum(w * a for w, a in parts) / total
    return g, math.sqrt(sum(w**2 * (a - g) ** 2 for w, a in parts)) / total, skipped


class MetricsTest(unittest.TestCase):
    def assert_figure(self, found, expected):
        if expected is None:
            self.assertIsNone(found)
        else:
            self.assertAlmostEqual(found, expected, places=12)

    def test_equal_the_definitions(self):
        random = np.random.default_rng(1)
        for case in range(200):
            rows = int(random.integers(1, 60))
            labels = random.random(rows) < random.random()
            # Few distinct logits: ties are the hard part.
            logits = random.integers(-3, 4, rows) / 2
            users = random.integers(0, 1 + case % 9, rows) * 7
            with self.subTest(case=case):
                found = metrics.measure(labels, logits, users)
                expected_gauc, stderr, skipped = gauc(labels, logits, users)
                self.assert_figure(found.auc, auc(labels, logits))
                self.assert_figure(found.gauc, expected_gauc)
                self.assert_figure(found.gauc_stderr, stderr)
                self.assertEqual((found.rows, found.clicks), (rows, labels.sum()))
                self.assertEqual((found.users, found.gauc_users_skipped), (len(set(users)), skipped))
                losses = [-math.log(1 / (1 + math.exp(-x if y else x))) for x, y in zip(logits, labels)]
                self.assert_figure(found.logloss, sum(losses) / rows)

    def test_losses_are_finite_at_both_ends(self):
        found = metrics.measure(np.array([True, False]), np.array([-1000.0, -1000.0], dtype=np.float32), np.array([0, 0]))
        self.assertEqual((found.logloss, found.auc), (500.0, 0.5))

    def test_no_rows_have_no_figures(self):
        found = metrics.measure(np.zeros(0, dtype=bool), np.zeros(0), np.zeros(0, dtype=np.int64))
        self.assertEqual((found.rows, found.users, found.auc, found.gauc, found.logloss), (0, 0, None, None, None))


if __name__ == "__main__":
    unittest.main()
