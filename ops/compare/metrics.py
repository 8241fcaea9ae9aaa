"""AUC, GAUC and log loss of one stretch of rows, as src/evaluate defines them.

Exact on the logits as they are; `rocketctl` counts logits within one 1/1024 as tied in AUC (not in GAUC), which moves it by less than its
noise. What is not defined is `None`, never 0.5 or 0.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Figures:
    """Metrics of one model over one stretch of rows."""

    rows: int
    clicks: int
    users: int
    # Users with one class only: in neither sum of GAUC.
    gauc_users_skipped: int
    auc: float | None
    gauc: float | None
    gauc_stderr: float | None
    logloss: float | None

    def json(self) -> dict[str, Any]:
        """As `rocketctl backtest -o json` names them."""
        return asdict(self)


def measure(labels: np.ndarray, logits: np.ndarray, users: np.ndarray) -> Figures:
    """All metrics. `labels` are bool, `users` any integers; all are `[rows]`."""
    logits = logits.astype(np.float64)
    wins, positives, negatives = pairs_won(labels, logits, np.zeros(len(labels), dtype=np.int64))
    user_wins, user_positives, user_negatives = pairs_won(labels, logits, users)
    gauc, stderr = weighted_mean(user_wins, user_positives, user_negatives)
    return Figures(
        rows=len(labels),
        clicks=int(labels.sum()),
        users=len(user_wins),
        gauc_users_skipped=int((user_positives * user_negatives == 0).sum()),
        auc=float(wins[0] / (positives[0] * negatives[0])) if len(wins) and positives[0] * negatives[0] > 0 else None,
        gauc=gauc,
        gauc_stderr=stderr,
        logloss=logloss(labels, logits) if len(labels) else None,
    )


def pairs_won(labels: np.ndarray, logits: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per group, by its number: (positive, negative) pairs in order plus half the tied ones; positives; negatives.

    Rows sorted by group and logit fall into runs of equal logit. A positive wins over the negatives of its group's earlier runs and ties
    with those of its own.
    """
    if len(labels) == 0:
        return (np.zeros(0),) * 3
    order = np.lexsort((logits, groups))
    labels, logits, groups = labels[order], logits[order], groups[order]
    new_group = np.concatenate([[True], groups[1:] != groups[:-1]])
    new_run = new_group | np.concatenate([[True], logits[1:] != logits[:-1]])
    group_starts, run_starts = np.flatnonzero(new_group), np.flatnonzero(new_run)
    run_positives, run_negatives = (np.add.reduceat(one.astype(np.float64), run_starts) for one in (labels, ~labels))
    # Which run each group starts with.
    firsts = np.searchsorted(run_starts, group_starts)
    negatives_before = np.cumsum(run_negatives) - run_negatives
    run_group = np.cumsum(new_group[run_starts]) - 1
    earlier = negatives_before - negatives_before[firsts][run_group]
    won = np.add.reduceat(run_positives * (earlier + run_negatives / 2), firsts)
    return won, np.add.reduceat(run_positives, firsts), np.add.reduceat(run_negatives, firsts)


def weighted_mean(won: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> tuple[float | None, float | None]:
    """GAUC = Σ w·a / Σ w over users with both classes, w their impressions, and its standard error sqrt(Σ w²·(a − g)²) / Σ w."""
    both = positives * negatives > 0
    if not both.any():
        return None, None
    weight = (positives + negatives)[both]
    auc = won[both] / (positives * negatives)[both]
    gauc = (weight * auc).sum() / weight.sum()
    stderr = np.sqrt((weight**2 * (auc - gauc) ** 2).sum()) / weight.sum()
    return float(gauc), float(stderr)


def logloss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean of −ln P(label), in nats: ln(1 + e^−x) for a click and ln(1 + e^x) for none, which neither overflows nor cancels."""
    return float(np.logaddexp(0.0, np.where(labels, -logits, logits)).mean())
