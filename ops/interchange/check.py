"""Compares what `rocketctl snapshot export` wrote with what the scorer answered.

    python ops/interchange/check.py DIR

In DIR lie model.safetensors, model.onnx, request.json and answer.json, the scorer's own answer to the request. Prints one JSON object with
the widest distances; exit code 1 where one is above 1e-5.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

from scorer import Scorer

TOLERANCE = 1e-5


def main(directory: Path) -> int:
    request = json.loads((directory / "request.json").read_text())
    answer = json.loads((directory / "answer.json").read_text())
    expected = np.array(answer["scores"])
    scorer = Scorer(directory / "model.safetensors")
    found = scorer.score(request)

    session = onnxruntime.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = scorer.inputs(request)
    logits, probabilities = session.run(["logit", "probability"], {"inputs": inputs})
    said = session.get_modelmeta().custom_metadata_map

    widest = lambda a, b: float(np.abs(np.asarray(a) - b).max())  # noqa: E731
    outcome = {
        "version": found["version"],
        "onnx": {key: said[key] for key in ("model", "version", "schema_hash")},
        "candidates": len(expected),
        "spread": float(expected.max() - expected.min()),
        "python": widest(found["scores"], expected),
        "onnxruntime": widest(probabilities, expected),
        "onnxruntime_logit": widest(logits, scorer.logits(inputs)),
    }
    print(json.dumps(outcome))
    same = found["version"] == answer["version"] and said["version"] == str(answer["version"])
    close = max(outcome["python"], outcome["onnxruntime"]) <= TOLERANCE
    return 0 if same and close else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
