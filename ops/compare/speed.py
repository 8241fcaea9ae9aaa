"""One table of speed: ours, a peer's, their ratio, and the ratio that we want. `run` says how it is called."""

import argparse
import contextlib
import json
import os
import platform
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from table import table

HERE = Path(__file__).parent
# Ours and the peer take turns, so that what else the machine does meets both; the median counts.
ROUNDS = 3
# Until a broker that was started answers.
BROKER_PATIENCE_S = 30


@dataclass(frozen=True)
class Line:
    """One comparison. `ratio`: how many times better ours is; `goal`: how many we want at least."""

    item: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    ratio: float
    goal: float


def ours(*arguments: str) -> dict[str, Any]:
    """Figures of `rocketctl bench`."""
    return run([os.environ["ROCKETCTL"], "bench", *arguments, "-o", "json"])


def run(command: list[str]) -> Any:
    """What a command prints as JSON."""
    return json.loads(printed(command))


def lines_of(command: list[str]) -> list[Any]:
    """What a command prints as JSON, one value a line."""
    return [json.loads(line) for line in printed(command).splitlines()]


def printed(command: list[str]) -> str:
    """What a command prints; says which one it is."""
    print(f"ops/compare: {shlex.join(command[-8:])}", file=sys.stderr)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def train() -> Iterator[Line]:
    """Hashing, lookup, step and GAUC against PyTorch's step alone."""
    peer = shlex.split(os.environ["TORCH"])
    for threads in ("2", "1"):
        for batch in ("512", "2048", "8192"):
            load = ["--batch", batch, "--threads", threads, "--samples", "30000" if threads == "2" else "16000"]
            rounds = [
                (ours("train", *load)["samples_per_s"], run([*peer, str(HERE / "speed_torch.py"), *load])["samples_per_s"])
                for _ in range(ROUNDS)
            ]
            mine, theirs = (statistics.median(side) for side in zip(*rounds, strict=True))
            item = f"train, batch {batch}, {threads} thread{'s' if threads != '1' else ''}"
            yield Line(item, mine, theirs, "PyTorch eager", "samples/s", mine / theirs, 1.25)


def score() -> Iterator[Line]:
    """Whole requests against ONNX Runtime's nets alone, and the slowest of them against a millisecond."""
    command = [*shlex.split(os.environ["ONNX"]), str(HERE / "score_onnx.py"), "--rocketctl", os.environ["ROCKETCTL"]]
    found = {line["item"]: line for line in lines_of(command)}
    for shape in ("published", "workload"):
        for name, candidates in (("catalogue", "10,000"), ("new", "never seen")):
            what = f"score 500 of {candidates}, {shape}"
            line = found[f"{shape}.{name}.request_p50"]
            yield Line(what, line["ours"], line["peer"], "ONNX Runtime, nets alone", "ms, median", line["ratio"], 2.0)
            p99 = found[f"{shape}.{name}.request_p99"]["ours"]
            yield Line(what, p99, 1.0, "limit", "ms, p99", 1.0 / p99, 1.0)


def ingest() -> Iterator[Line]:
    """Events of 300 bytes from memory to batches on one core; all the way through training beside training alone; and from a broker."""
    for form, goal in (("json", 400_000), ("protobuf", 1_000_000)):
        rate = statistics.median(ours("ingest", "--format", form)["events_per_s"] for _ in range(ROUNDS))
        yield Line(f"ingest, {form}, one core", rate, goal, "goal", "events/s", rate / goal, 1.0)
    load = ["train", "--samples", "40000"]
    rounds = [[ours(*load, *source)["samples_per_s"] for source in (["--from", "json"], [])] for _ in range(ROUNDS)]
    whole, alone = (statistics.median(side) for side in zip(*rounds, strict=True))
    yield Line("JSON to trained nets", whole, alone, "bench train", "samples/s", whole / alone, 0.85)
    with broker() as address:
        found = ours("ingest", "--brokers", address, "--events", "100000")
    yield Line("broker to batches, json", found["events_per_s"], found["bare_events_per_s"], "bare consumer", "events/s", found["ratio"], 0.9)


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """The address of a broker of our own, on a free port, its data in a directory that goes with it. Built where there is none yet."""
    binary = printed([str(HERE.parent / "broker")]).strip()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"tcp://127.0.0.1:{port}"
    # The path of its data is relative to the working directory: absolute ones are refused.
    command = [binary, "broker", "--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "sqlite://broker.db"]
    with tempfile.TemporaryDirectory() as data, open(os.path.join(data, "log"), "wb") as log:
        process = subprocess.Popen(command, cwd=data, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until the broker takes connections."""
    until = time.monotonic() + BROKER_PATIENCE_S
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise OSError(f"the broker takes no connections on port {port}; does the one that ops/broker prints run by hand?")


def gauc() -> Iterator[Line]:
    """GAUC of a million users in sled, as a share of what a sample takes end to end."""
    share = ours("gauc")["share"]
    yield Line("GAUC in sled, 1 M users", 100 * share, 10.0, "limit", "% of the time", 0.1 / share, 1.0)


ITEMS: dict[str, Callable[[], Iterator[Line]]] = {"train": train, "score": score, "ingest": ingest, "gauc": gauc}


def main() -> int:
    """Measures what is asked for. Exit code 1 where something could not be measured; a missed goal is a figure, not an error."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    parser = argparse.ArgumentParser()
    parser.add_argument("items", nargs="*", metavar="ITEM", help=", ".join(ITEMS))
    parser.add_argument("-o", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    unknown = [item for item in arguments.items if item not in ITEMS]
    if unknown:
        parser.error(f"{unknown[0]} is not known; known are {', '.join(ITEMS)}")
    begun, lines, failed = time.monotonic(), [], []
    for item in arguments.items or ITEMS:
        try:
            lines += ITEMS[item]()
        except (subprocess.CalledProcessError, OSError, ValueError, KeyError) as error:
            failed.append({"item": item, "why": f"{type(error).__name__}: {error}"})
    result = {"machine": machine(), "seconds": time.monotonic() - begun, "lines": [asdict(line) for line in lines], "failed": failed}
    print(json.dumps(result, indent=2) if arguments.o == "json" else text(result))
    return 1 if failed else 0


def machine() -> str:
    """Processor, cores and day."""
    processor = next((line.split(":", 1)[1].strip() for line in cpuinfo() if line.startswith("model name")), platform.machine())
    return f"{processor}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d', time.gmtime())}"


def cpuinfo() -> list[str]:
    """Lines that the kernel says of processors, where there are such."""
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def text(result: dict[str, Any]) -> str:
    """The table, and what has failed."""
    rows = [
        [
            line["item"],
            f"{line['ours']:,.3g}" if line["ours"] < 100 else f"{line['ours']:,.0f}",
            f"{line['peer']:,.3g}" if line["peer"] < 100 else f"{line['peer']:,.0f}",
            line["unit"],
            line["peer_name"],
            f"{line['ratio']:.2f}",
            f"{line['goal']:.2f}",
            "" if line["ratio"] >= line["goal"] else "missed",
        ]
        for line in result["lines"]
    ]
    parts = [table(["item", "ours", "peer's", "unit", "peer", "ratio", "goal", ""], rows)]
    parts += [f"FAILED {failure['item']}: {failure['why']}" for failure in result["failed"]]
    return "\n\n".join([*parts, f"{result['machine']}; {result['seconds']:.0f} s"])


if __name__ == "__main__":
    sys.exit(main())
