"""Training on a GPU beside the CPU, whose losses it must have, and beside PyTorch on the same GPU. `gpu` says how it is called."""

import argparse
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from errors import CompareError
from speed import HERE, Line, machine, ours, run, text
from table import table

BATCHES = (2048, 8192, 32_768, 65_536)
SAMPLES_MIN, STEPS_MIN = 200_000, 16
SAMPLES_PER_S = 1_000_000
# Name, options of speed_torch.py, and how many times faster ours shall be.
PEERS = (("PyTorch eager", [], 3.0), ("torch.compile", ["--compile"], 1.2))
# cuBLAS may round the factors of products to 10 bits: for ours and for the peers.
TF32 = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
# Of the loss, relative. The nets amplify how a device rounds, by a little in every step.
TOLERANCES = {"f32": 1e-4, "tf32": 1e-2}
CHECKED = ("loss", "last_loss")
ERRORS = (subprocess.CalledProcessError, OSError, ValueError, KeyError)


@dataclass(frozen=True)
class Check:
    """A figure on the device beside that on the CPU. `error`: how far apart they are, relative."""

    item: str
    device: float
    cpu: float
    error: float
    allowed: float


def main() -> int:
    """Checks, measures. Exit code 1 where something is wrong or could not be measured; a missed goal is a figure, not an error."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    arguments = options()
    try:
        gpu = find_gpu(arguments.device)
    except CompareError as error:
        print(f"ops/compare/gpu: {error}", file=sys.stderr)
        return 1
    begun, failed, checks, lines = time.monotonic(), [], [], []
    device = "tch-cpu" if arguments.device == "cpu" else arguments.device
    for precision in TOLERANCES:
        with in_precision(precision):
            try:
                checks += check(device, precision, arguments.batches[0])
            except ERRORS as error:
                failed.append({"item": f"check, {precision}", "why": f"{type(error).__name__}: {error}"})
            for batch in arguments.batches:
                lines += compared(device, precision, batch, arguments, failed)
    lines += [goal(lines)] if lines else []
    result = {
        "machine": f"{gpu}; {machine()}",
        "seconds": time.monotonic() - begun,
        "checks": [asdict(check) for check in checks],
        "lines": [asdict(line) for line in lines],
        "failed": failed,
    }
    print(json.dumps(result, indent=2) if arguments.o == "json" else f"{text_of_checks(checks)}\n\n{text(result)}")
    return 1 if failed or any(check.error > check.allowed for check in checks) else 0


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="ops/compare/gpu")
    parser.add_argument("-o", choices=["table", "json"], default="table")
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu to try the script")
    parser.add_argument("--batches", type=lambda text: [int(batch) for batch in text.split(",")], default=list(BATCHES))
    parser.add_argument("--samples", type=int, help=f"by default {SAMPLES_MIN:,}, and {STEPS_MIN} batches at least")
    parser.add_argument("--rounds", type=int, default=1, help="ours and the peers take turns; medians count")
    return parser.parse_args()


def find_gpu(device: str) -> str:
    """What the device is called."""
    import torch

    wanted, found = os.environ["TORCH_WANTED"], torch.__version__.split("+")[0]
    if found != wanted:
        raise CompareError(f"rocketctl was built for torch {wanted}, this Python has {found}; prepare again with --torch {found}")
    if device == "cpu":
        return "no GPU"
    if not torch.cuda.is_available():
        raise CompareError("no GPU here: torch finds none; run it where there is one, or try the script with --device cpu")
    return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"


@contextmanager
def in_precision(precision: str) -> Iterator[None]:
    """What is run meanwhile multiplies in it."""
    os.environ[TF32] = "1" if precision == "tf32" else "0"
    try:
        yield
    finally:
        del os.environ[TF32]


def check(device: str, precision: str, batch: int) -> Iterator[Check]:
    """The same steps on the device and on the CPU."""
    load = ["train", "--batch", str(batch), "--samples", str(STEPS_MIN * batch)]
    found, expected = ours(*load, "--device", device), ours(*load, "--device", "cpu")
    for name in CHECKED:
        error = abs(found[name] - expected[name]) / abs(expected[name])
        yield said(Check(f"{name}, {precision}", found[name], expected[name], error, TOLERANCES[precision]))


def compared(device: str, precision: str, batch: int, arguments: argparse.Namespace, failed: list[dict[str, str]]) -> Iterator[Line]:
    """Ours beside each peer; adds to `failed` what could not be measured."""
    load = ["--batch", str(batch), "--samples", str(arguments.samples or max(SAMPLES_MIN, STEPS_MIN * batch))]
    item = f"train, batch {batch}, {precision}"
    commands = {name: [*shlex.split(os.environ["TORCH"]), str(HERE / "speed_torch.py"), *load, *more] for name, more, _ in PEERS}
    mine: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(arguments.rounds):
        try:
            mine.append(ours("train", *load, "--device", device)["samples_per_s"])
        except ERRORS as error:
            failed.append({"item": item, "why": f"{type(error).__name__}: {error}"})
            return
        for name, command in commands.items():
            try:
                theirs[name].append(run([*command, "--device", arguments.device])["samples_per_s"])
            except ERRORS as error:
                failed.append({"item": f"{item}: {name}", "why": f"{type(error).__name__}: {error}"})
    for name, _, wanted in PEERS:
        if theirs[name]:
            rate, peer = statistics.median(mine), statistics.median(theirs[name])
            yield said(Line(item, rate, peer, name, "samples/s", rate / peer, wanted))


def goal(lines: list[Line]) -> Line:
    """The fastest of ours against what we want of it."""
    best = max(lines, key=lambda line: line.ours)
    return Line(f"the fastest: {best.item}", best.ours, SAMPLES_PER_S, "goal", "samples/s", best.ours / SAMPLES_PER_S, 1.0)


def said(found: Any) -> Any:
    """The same; a run that is ended early has printed what it found."""
    print(f"ops/compare/gpu: {found}", file=sys.stderr)
    return found


def text_of_checks(checks: list[Check]) -> str:
    """A table of them."""
    rows = [
        [
            check.item,
            f"{check.device:.7f}",
            f"{check.cpu:.7f}",
            f"{check.error:.1e}",
            f"{check.allowed:.0e}",
            "" if check.error <= check.allowed else "WRONG",
        ]
        for check in checks
    ]
    return table(["check", "device", "cpu", "error", "allowed", ""], rows)


if __name__ == "__main__":
    sys.exit(main())
