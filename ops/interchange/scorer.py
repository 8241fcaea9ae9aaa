"""A scorer in Python, from the file that `rocketctl snapshot export --format safetensors` writes.

    python ops/interchange/scorer.py MODEL.safetensors < request.json

The request is `rocket-scorer`'s: {"context": {…}, "candidates": [{…}, …], "time_ms": …}; so is the answer. Everything that a server in
another language has to do is here and in features.py; ops/FEATURES.md says the same in words.
"""

import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from features import NO_KEY, Example, Features

EPSILON = np.float32(1e-5)
DTYPES = {"F32": "<f4", "F16": "<f2", "I8": "i1", "U64": "<u8"}


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata: eight bytes of length, a JSON header of that length, then the tensors at the offsets it says."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, said in header.items():
        start, end = said["data_offsets"]
        flat = np.frombuffer(data[8 + length + start : 8 + length + end], DTYPES[said["dtype"]])
        tensors[name] = flat.reshape(said["shape"])
    return tensors, metadata


def sigmoid(x: np.ndarray) -> np.ndarray:
    # Where exp overflows, 1 / (1 + ∞) is the 0 that it should be.
    with np.errstate(over="ignore"):
        return np.float32(1) / (np.float32(1) + np.exp(-x))


class Scorer:
    def __init__(self, path: Path) -> None:
        self.tensors, metadata = read_safetensors(path)
        self.manifest = json.loads(metadata["manifest"])
        self.architecture = self.manifest["architecture"]
        self.features = Features(self.manifest["schema"])
        self.tables = {}
        for dim in [self.architecture["embedding_dim"], *self.architecture.get("further_dims", [])]:
            name = "embedding" if dim == self.architecture["embedding_dim"] else f"embedding.{dim}"
            rows = self.tensors[f"{name}.rows"].astype(np.float32)
            if f"{name}.scales" in self.tensors:
                rows *= self.tensors[f"{name}.scales"][:, None]
            self.tables[dim] = dict(zip(self.tensors[f"{name}.keys"].tolist(), rows))
        self.counts = {}
        if self.features.click_rates:
            self.counts = dict(zip(self.tensors["click_rates.keys"].tolist(), self.tensors["click_rates.counts"]))

    def score(self, request: dict[str, Any]) -> dict[str, Any]:
        inputs = self.inputs(request)
        return {"version": self.manifest["version"], "scores": sigmoid(self.logits(inputs)).tolist()}

    def inputs(self, request: dict[str, Any]) -> np.ndarray:
        """What the net reads, `[candidates, inputs]`; the ONNX file takes the same."""
        time_ms = request.get("time_ms", time.time_ns() // 1_000_000)
        rows = [self.input(self.features.of(time_ms, request["context"] | candidate)) for candidate in request["candidates"]]
        return np.array(rows, np.float32).reshape(len(rows), self.architecture["inputs"])

    def input(self, example: Example) -> np.ndarray:
        """Slots in their order, then numbers, then two of each click rate."""
        slots = [self._pooled(feature, ids) for feature, ids in zip(self.features.slots, example.ids)]
        rates = [self._click_rate(feature["prior"], key) for feature, key in zip(self.features.click_rates, example.click_rates)]
        return np.concatenate([*slots, np.array(example.numbers, np.float32), *rates])

    def _pooled(self, feature: dict[str, Any], ids: list[int]) -> np.ndarray:
        dim = feature.get("dim") or self.architecture["embedding_dim"]
        zero = np.zeros(dim, np.float32)
        # An id without a row is the zero vector, and counts in the mean.
        total = sum((self.tables[dim].get(key, zero) for key in ids), zero)
        mean = feature["kind"] == "cross" or feature.get("pooling") == "mean"
        return total * np.float32(1 / len(ids)) if mean and len(ids) > 1 else total

    def _click_rate(self, prior: float, key: int) -> np.ndarray:
        nothing = (0.0, 0.0)
        impressions, clicks = map(float, self.counts.get(key, nothing) if key != NO_KEY else nothing)
        if impressions <= 0:
            return np.zeros(2, np.float32)
        # The whole stream's counts stand under key 0.
        stream_impressions, stream_clicks = map(float, self.counts.get(NO_KEY, nothing))
        p = (stream_clicks + 1) / (stream_impressions + 2)
        odds = (clicks + prior * p) / (impressions - clicks + prior * (1 - p))
        return np.array([np.log(odds) - np.log(p / (1 - p)), np.log1p(impressions / prior)], np.float32)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """`[candidates, inputs]` → `[candidates]`."""
        shared, light = self.architecture["shared"], self.architecture["light"]
        for layer in [*(f"shared.{i}" for i in range(len(shared))), *(f"light.{i}" for i in range(len(light)))]:
            x = self._hidden(layer, self._product(layer, x))
        return self._product(f"light.{len(light)}", x)[:, 0]

    def _product(self, layer: str, x: np.ndarray) -> np.ndarray:
        return x @ self.tensors[f"{layer}.weight"] + self.tensors[f"{layer}.bias"]

    def _hidden(self, layer: str, y: np.ndarray) -> np.ndarray:
        hidden = self.architecture.get("hidden", {})
        of = lambda name: self.tensors[f"{layer}.{name}"]  # noqa: E731
        if hidden.get("layer_norm", False):
            centred = y - y.mean(axis=1, keepdims=True)
            variance = (centred * centred).mean(axis=1, keepdims=True)
            y = centred / np.sqrt(variance + EPSILON) * of("norm.scale") + of("norm.shift")
        match hidden.get("activation", "relu"):
            case "relu":
                return np.maximum(y, 0)
            case "prelu":
                return np.where(y < 0, y * of("slope"), y)
            case "dice":
                p = sigmoid((y - of("mean")) / np.sqrt(of("variance") + EPSILON))
                return y * (of("slope") + p * (1 - of("slope")))
            case other:
                raise ValueError(f"activation {other} is not known here")


if __name__ == "__main__":
    print(json.dumps(Scorer(Path(sys.argv[1])).score(json.load(sys.stdin))))
