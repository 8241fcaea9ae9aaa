"""Vowpal Wabbit: online linear models with adaptive, normalised steps; what most teams would try first on such a stream."""

import string
from collections.abc import Iterator

import numpy as np
import vowpalwabbit

import peer
from config import Config
from features import Samples

# VW knows namespaces by their first character. Ids are distinct over all slots, so slots beyond these may share one.
NAMESPACES = string.ascii_letters + string.digits
NUMBERS = "_"

# Chosen by hand on KuaiRand. Also tried, and worse in AUC and log loss than PAIRS: FTRL, coin betting, --nn, low-rank interactions
# (--lrqfa), pairs with the user or the item alone.
LINEAR = "-b 22 -l 0.5"
PAIRS = "-b 24 -l 0.1 -q ::"


def lines(samples: Samples) -> Iterator[str]:
    """Rows in VW's text format: a namespace per slot, one for all numbers."""
    slots = len(samples.slots)
    names = [NAMESPACES[slot % len(NAMESPACES)] for slot in range(slots)]
    ids = [
        f"{identity}" if weight == 1 else f"{identity}:{weight:.6g}"
        for identity, weight in zip(samples.ids.tolist(), samples.weights.tolist(), strict=True)
    ]
    bounds = samples.bounds.tolist()
    for row, (label, numbers) in enumerate(zip(samples.labels.tolist(), samples.numbers.tolist(), strict=True)):
        line = ["1" if label else "-1"]
        for slot, name in enumerate(names):
            start, end = bounds[row * slots + slot], bounds[row * slots + slot + 1]
            if end > start:
                line.append(f"|{name} {' '.join(ids[start:end])}")
        line.append(f"|{NUMBERS} {' '.join(f'{name}:{number:.7g}' for name, number in enumerate(numbers))}")
        yield " ".join(line)


def model(name: str, options: str) -> peer.Model:
    """A model of these options."""

    def scores(samples: Samples, _: Config) -> dict[str, np.ndarray]:
        workspace = vowpalwabbit.Workspace(f"--quiet --loss_function logistic --link identity {options}")
        logits = np.empty(samples.rows)
        for row, line in enumerate(lines(samples)):
            example = workspace.parse(line)
            # What stands in the example afterwards is the prediction from before the update.
            workspace.learn(example)
            logits[row] = example.get_simplelabel_prediction()
            workspace.finish_example(example)
        workspace.finish()
        return {"": logits}

    return peer.Model(name, options, scores)


if __name__ == "__main__":
    peer.main([model("vw linear", LINEAR), model("vw pairs", PAIRS)], versions=f"vowpalwabbit {vowpalwabbit.__version__}")
