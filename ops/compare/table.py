"""Puts what the programs of a comparison left in a folder into one table, or one JSON object.

The folder holds NAME.json for every program that ended well and NAME.log with what it said: `ours`, `ours-from` (`rocketctl backtest`)
and the peers (peer.py). A name without JSON has failed, and the last line of its log says why. Exit code 1 if anything failed.
"""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

OURS = "ours"
NONE = "-"


class NoResult(Exception):
    """A program failed; says why."""


def main() -> int:
    """Collects, prints."""
    # A reader that has closed the pipe (`| head`) has what it wanted.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--eval-from")
    parser.add_argument("-o", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"eval_from": arguments.eval_from, "versions": [], "models": [], "failed": []}
    for name in arguments.names:
        try:
            add(result, arguments.folder, name)
        except NoResult as error:
            result["failed"].append({"model": name, "why": str(error)})
    print(json.dumps(result, indent=2) if arguments.o == "json" else text(result))
    return 1 if result["failed"] else 0


def add(result: dict[str, Any], folder: Path, name: str) -> None:
    """Adds what one program found."""
    if name == OURS:
        result["models"] += ours(folder, result["eval_from"] is not None)
        return
    found = load(folder, name)
    result["versions"].append(found["versions"])
    result["models"] += found["models"]
    result["failed"] += found["failed"]


def load(folder: Path, name: str) -> dict[str, Any]:
    """The JSON of one program. Where one ends with an error, it says it last."""
    found, log = folder / f"{name}.json", folder / f"{name}.log"
    if not found.exists():
        said = log.read_text(encoding="utf-8", errors="replace").strip() if log.exists() else ""
        raise NoResult(said.splitlines()[-1] if said else "ended without a word; run it alone to see why")
    return json.loads(found.read_text(encoding="utf-8"))


def ours(folder: Path, with_from: bool) -> list[dict[str, Any]]:
    """`rocketctl backtest -o json` in the shape of peer.py, one line per head."""
    whole = load(folder, OURS)
    reports = {"all": whole} | ({"from": load(folder, f"{OURS}-from")} if with_from else {})
    return [
        {
            "model": f"{OURS} {head}",
            "settings": "as the configuration says",
            "rows": whole["rows"],
            "unusable": whole["dead_letters"],
            "seconds": whole["seconds"],
            "rows_per_s": whole["samples_per_s"],
            "over": {over: figures(report, head) for over, report in reports.items()},
        }
        for head in whole["heads"]
    ]


def figures(report: dict[str, Any], head: str) -> dict[str, Any]:
    """Metrics of one head, named as in metrics.py."""
    of_all = {"rows": report["rows_measured"], **{key: report[key] for key in ("clicks", "users", "gauc_users_skipped")}}
    return of_all | {key: report["heads"][head][key] for key in ("auc", "gauc", "gauc_stderr", "logloss")}


def text(result: dict[str, Any]) -> str:
    """One table for all rows and, where asked for, one for the rows from a time on; then what failed, settings and versions."""
    parts = []
    for over, title in (("all", "all rows"), ("from", f"rows from {result['eval_from']} on; training covers all")):
        lines = [line(model, model["over"][over]) for model in result["models"] if over in model["over"]]
        if lines:
            headings = ["model", "auc", "gauc", "± stderr", "logloss", "rows", "users", "in no gauc", "unusable", "rows/s"]
            parts.append(f"{title}\n{table(headings, lines)}")
    if result["failed"]:
        parts.append("\n".join(f"FAILED {failure['model']}: {failure['why']}" for failure in result["failed"]))
    settings = dict.fromkeys(f"{model['model']}: {model['settings']}" for model in result["models"] if not model["model"].startswith(OURS))
    parts.append("\n".join([*settings, *result["versions"]]))
    return "\n\n".join(part for part in parts if part)


def line(model: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    """Cells of one model."""
    decimals = [NONE if figures[key] is None else f"{figures[key]:.5f}" for key in ("auc", "gauc", "gauc_stderr", "logloss")]
    counts = [figures["rows"], figures["users"], figures["gauc_users_skipped"], model["unusable"], model["rows_per_s"]]
    return [model["model"], *decimals, *(f"{count:.0f}" for count in counts)]


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Columns under headings, two spaces apart, no lines, as rocketctl prints them."""
    cells = [[heading.upper() for heading in headings], *rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(headings))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


if __name__ == "__main__":
    sys.exit(main())
