"""How cost grows: per sample with the rows of the table and of a batch, per GAUC update with users, per request with candidates.

Runs `rocketctl bench` over powers of ten or four, fits cost = c · size^exponent by least squares on logarithms, prints a table of it, and
draws the chart where `--chart FILE` says so.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from speed import ours
from table import table

Figures = dict[str, Any]


@dataclass(frozen=True)
class Growth:
    """What is made larger, and what of the figures is its cost."""

    name: str
    sizes: tuple[int, ...]
    arguments: Callable[[int], list[str]]
    cost: Callable[[Figures], float]
    unit: str


def candidates(name: str, catalogue: int) -> Growth:
    """Requests whose candidates are drawn out of so many; 0: each is new."""
    return Growth(
        name,
        (10, 50, 500, 5000),
        lambda size: ["score", "--shape", "published", "--catalogue", str(catalogue), "--candidates", str(size)],
        lambda figures: figures["shapes"][0]["request_ms"]["p50"] * 1e3,
        "µs per request",
    )


GROWTHS = (
    Growth(
        "table rows",
        (100_000, 1_000_000, 10_000_000),
        lambda size: ["train", "--rows", str(size), "--samples", "40000"],
        lambda figures: 1e6 / figures["samples_per_s"],
        "µs per sample",
    ),
    Growth(
        "rows of a batch",
        (256, 1024, 4096, 16_384, 65_536),
        lambda size: ["train", "--batch", str(size), "--rows", "100000", "--samples", str(max(30_000, size))],
        lambda figures: 1e6 / figures["samples_per_s"],
        "µs per sample",
    ),
    Growth(
        "users",
        (10_000, 100_000, 1_000_000),
        lambda size: ["gauc", "--users", str(size)],
        lambda figures: 1e6 / figures["samples_per_s"],
        "µs per sample",
    ),
    candidates("new candidates", 0),
    candidates("candidates out of 10,000", 10_000),
)


def main() -> int:
    """Measures, fits, prints, draws."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--chart", help="an SVG or PNG file")
    parser.add_argument("-o", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    found = [(growth, [growth.cost(ours(*growth.arguments(size))) for size in growth.sizes]) for growth in GROWTHS]
    lines = [
        {"of": growth.name, "unit": growth.unit, "costs": dict(zip(growth.sizes, costs, strict=True)), "exponent": exponent(growth.sizes, costs)}
        for growth, costs in found
    ]
    if arguments.chart:
        draw(lines, arguments.chart)
    print(json.dumps(lines, indent=2) if arguments.o == "json" else text(lines))
    return 0


def exponent(sizes: tuple[int, ...], costs: list[float]) -> float:
    """Slope of the least-squares line through (ln size, ln cost)."""
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def text(lines: list[dict]) -> str:
    """A line per measurement, and the exponent at the last of each."""
    rows = [
        [line["of"], f"{size:,}", f"{cost:.2f}", line["unit"], f"{line['exponent']:+.2f}" if size == max(line["costs"]) else ""]
        for line in lines
        for size, cost in line["costs"].items()
    ]
    return table(["grows", "size", "cost", "unit", "exponent"], rows)


def draw(lines: list[dict], path: str) -> None:
    """All of them, with logarithmic axes, costs relative to the smallest size."""
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "growth"
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for line in lines:
        sizes, costs = list(line["costs"]), list(line["costs"].values())
        label = f"{line['of']}: {line['unit']}, exponent {line['exponent']:+.2f}"
        axes.loglog(sizes, [cost / costs[0] for cost in costs], marker="o", label=label)
    axes.set(xlabel="size", ylabel="cost, that of the smallest size being 1")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


if __name__ == "__main__":
    sys.exit(main())
