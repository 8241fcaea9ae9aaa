"""River: models that learn from one dict at a time, in Python.

Its factorization machine (facto.FMClassifier) is left out: about 300 rows a second with 37 features, whatever the number of factors.
"""

import numpy as np
import river
from river import linear_model, optim

import peer
from config import Config
from features import Samples

# By hand on KuaiRand; FTRL and plain SGD were worse in AUC and log loss.
RATE = 0.1
# River clips probabilities at none; the logit of 0 or 1 would be infinite.
PROBABILITY_MIN = 1e-12
# Step sizes are per weight, but the first step of a weight moves the logit by rate · x: numbers such as ln(1 + ms) ≈ 10 would shout.
NUMBER_SCALE = 0.1


def logistic(samples: Samples, _: Config) -> dict[str, np.ndarray]:
    """Logistic regression on one-hot ids and numbers."""
    model = linear_model.LogisticRegression(optimizer=optim.AdaGrad(RATE))
    bounds, ids, weights = samples.row_bounds().tolist(), samples.ids.tolist(), samples.weights.tolist()
    numbers = (samples.numbers * NUMBER_SCALE).tolist()
    probabilities = np.empty(samples.rows)
    for row, label in enumerate(samples.labels.tolist()):
        x: dict[int | str, float] = dict(zip(samples.number_names, numbers[row], strict=True))
        for place in range(bounds[row], bounds[row + 1]):
            # A bag may hold an id twice.
            x[ids[place]] = x.get(ids[place], 0.0) + weights[place]
        probabilities[row] = model.predict_proba_one(x)[True]
        model.learn_one(x, label)
    probabilities = probabilities.clip(PROBABILITY_MIN, 1 - PROBABILITY_MIN)
    return {"": np.log(probabilities) - np.log1p(-probabilities)}


if __name__ == "__main__":
    peer.main([peer.Model("river logistic", f"AdaGrad {RATE}", logistic)], versions=f"river {river.__version__}")
