"""Operations and copies of one training step, by the calls of LibTorch's C functions that valgrind sees. `launches` says how it is called."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from table import table

BATCH = 64
# Steps of the two runs whose difference is counted: what comes once, before the steps, falls away.
STEPS = (2, 6)
# C functions of operations begin with this; they stand for one kernel each, but for those that follow.
OPERATION = "atg_"
# Another look at the same memory, or memory without contents. Moving a tensor to the CPU where it is does nothing either.
NO_LAUNCH = {
    "atg_alias", "atg_detach", "atg_empty", "atg_expand", "atg_narrow", "atg_permute", "atg_reshape", "atg_select", "atg_slice", "atg_squeeze",
    "atg_squeeze_dim", "atg_swapdims", "atg_t", "atg_to", "atg_transpose", "atg_unsqueeze", "atg_view", "atg_view_",
}  # fmt: skip
COPIES = {"at_tensor_of_data": "host to device", "at_copy_data": "device to host"}
CALLED = re.compile(r"cfn=\((\d+)\)(?: (\S+))?")
DEFINED = re.compile(r"fn=\((\d+)\) (\S+)")
CALLS = re.compile(r"calls=(\d+)")


def main() -> int:
    """Counts, prints."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    parser = argparse.ArgumentParser(prog="ops/compare/launches")
    parser.add_argument("-o", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    few, many = (calls(profile(steps)) for steps in STEPS)
    per_step = {name: (many[name] - few[name]) / (STEPS[1] - STEPS[0]) for name in many}
    counts = {name: count for name, count in per_step.items() if count and (is_launch(name) or name in COPIES)}
    result = {
        "per_step": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        "launches": sum(count for name, count in counts.items() if is_launch(name)),
        "copies": {way: counts.get(name, 0.0) for name, way in COPIES.items()},
    }
    if not result["launches"]:
        print(f"ops/compare/launches: {os.environ['ROCKETCTL']} calls nothing of LibTorch; was it stripped?", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=2) if arguments.o == "json" else text(result))
    return 0


def profile(steps: int) -> list[str]:
    """Lines of what callgrind writes of so many steps of the bench's nets."""
    load = ["--batch", str(BATCH), "--samples", str(BATCH * steps), "--threads", "1", "--rows", "100", "--users", "10"]
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "profile"
        valgrind = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={written}"]
        command = [*valgrind, os.environ["ROCKETCTL"], "bench", "train", "--device", "tch-cpu", *load]
        print(f"ops/compare: {steps} steps under valgrind", file=sys.stderr)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return written.read_text(encoding="utf-8", errors="replace").splitlines()


def calls(profile: Iterable[str]) -> Counter[str]:
    """How often each function was called. A name stands at the first use of its number alone."""
    names: dict[str, str] = {}
    found: Counter[str] = Counter()
    called = ""
    for line in profile:
        if match := CALLED.match(line):
            called = match[1]
            if match[2]:
                names[called] = match[2]
        elif match := DEFINED.match(line):
            names[match[1]] = match[2]
        elif match := CALLS.match(line):
            found[called] += int(match[1])
    by_name: Counter[str] = Counter()
    for number, count in found.items():
        by_name[names[number]] += count
    return by_name


def is_launch(name: str) -> bool:
    """A kernel of its own on a GPU."""
    return name.startswith(OPERATION) and name not in NO_LAUNCH


def text(result: dict) -> str:
    """A line per function, then the sums."""
    rows = [[name, f"{count:g}", COPIES.get(name, "")] for name, count in result["per_step"].items()]
    sums = ", ".join([f"{result['launches']:g} launches", *(f"{count:g} copies {way}" for way, count in result["copies"].items())])
    return f"{table(['function', 'calls per step', ''], rows)}\n\nper step: {sums}"


if __name__ == "__main__":
    sys.exit(main())
