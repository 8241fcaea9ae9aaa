"""Our scorer against ONNX Runtime: the same weights, from our own export, the same candidates, one thread each, in one run.

    eval "$(ops/compare/packages interchange)"
    "$PYTHON" ops/compare/score_onnx.py [--rocketctl PATH] [--shape NAME] [--candidates N] [--rows N] [--rounds N]

ONNX Runtime is given the inputs as they enter the net, `[candidates, inputs]`: it neither reads columns nor hashes nor looks anything up.
Ours is timed by `rocketctl bench score`, in turn with it, from a request's bytes on. Prints a line of JSON per item: {"item", "ours", "peer",
"unit", "ratio"}, ratio being how many times as long the peer takes. Of new candidates, which nobody has asked for before, and of those of a
catalogue of ten thousand, most of which have been scored for somebody else:

    net       the dense layers of both: what ONNX Runtime does, and what is left of it for us to do
    looked_up ours with embedding rows looked up and pooled, the peer without
    request   ours from the request's bytes to probabilities, the peer as before
    service   the same, the peer with our own reading, hashing and looking up before it

Exit code 1 where the probabilities differ by more than 1e-5.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "interchange"))
from scorer import Scorer  # noqa: E402

TOLERANCE = 1e-5
SHAPES = ("workload", "published")
WARM = 50
RUNS = 500
# Candidates that there are; 0: each is a new one.
CATALOGUES = {"new": 0, "catalogue": 10_000}


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def quantiles(spent_ms: list[float]) -> tuple[float, float]:
    ordered = np.sort(spent_ms)
    return float(np.quantile(ordered, 0.5)), float(np.quantile(ordered, 0.99))


def peer_ms(net: onnxruntime.InferenceSession, inputs: np.ndarray) -> tuple[float, float]:
    spent = []
    for turn in range(WARM + RUNS):
        begun = time.perf_counter()
        net.run(["probability"], {"inputs": inputs})
        if turn >= WARM:
            spent.append((time.perf_counter() - begun) * 1e3)
    return quantiles(spent)


class Ours:
    def __init__(self, rocketctl: str, shape: str, candidates: int, rows: int) -> None:
        self.command = [rocketctl, "bench", "score", "-o", "json", "--shape", shape]
        self.command += ["--candidates", str(candidates), "--rows", str(rows)]

    def run(self, catalogue: int, *more: str, requests: int = RUNS) -> dict[str, Any]:
        command = [*self.command, "--catalogue", str(catalogue), "--requests", str(requests), *more]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout)["shapes"][0]


def compare(ours: Ours, shape: str, rounds: int) -> bool:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ours.run(CATALOGUES["new"], "--export", name, requests=1)
        request = json.loads((directory / "request.json").read_text())
        expected = np.array(json.loads((directory / "answer.json").read_text())["scores"])
        inputs = Scorer(directory / "model.safetensors").inputs(request)
        net = session(directory / "model.onnx")
    (probabilities,) = net.run(["probability"], {"inputs": inputs})
    distance = float(np.abs(probabilities - expected).max())
    say({"item": f"{shape}.distance_max", "ours": distance, "peer": 0.0, "unit": "probability", "ratio": None})

    peers, figures = [], {name: [] for name in CATALOGUES}
    for _ in range(rounds):
        peers.append(peer_ms(net, inputs))
        for name, catalogue in CATALOGUES.items():
            figures[name].append(ours.run(catalogue))
    p50, p99 = (statistics.median(peer[which] for peer in peers) for which in (0, 1))
    for name, found in figures.items():
        of = lambda part, which="p50", found=found: statistics.median(figure[part][which] for figure in found)  # noqa: E731
        before = of("features_ms") + of("look_up_ms")
        report(f"{shape}.{name}.net_p50", of("net_ms"), p50)
        report(f"{shape}.{name}.looked_up_p50", of("net_ms") + of("look_up_ms"), p50)
        report(f"{shape}.{name}.request_p50", of("request_ms"), p50)
        report(f"{shape}.{name}.request_p99", of("request_ms", "p99"), p99)
        report(f"{shape}.{name}.service_p50", of("request_ms"), before + p50)
    return distance <= TOLERANCE


def report(item: str, ours: float, peer: float) -> None:
    say({"item": item, "ours": round(ours, 4), "peer": round(peer, 4), "unit": "ms", "ratio": round(peer / ours, 2)})


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Our scorer against ONNX Runtime, one thread each.")
    parser.add_argument("--rocketctl", default="target/release/rocketctl")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="both unless given")
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    shapes = arguments.shape or SHAPES
    ours = {shape: Ours(arguments.rocketctl, shape, arguments.candidates, arguments.rows) for shape in shapes}
    return 0 if all([compare(ours[shape], shape, arguments.rounds) for shape in shapes]) else 1


if __name__ == "__main__":
    sys.exit(main())
