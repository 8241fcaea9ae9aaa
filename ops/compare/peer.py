"""What every peer's program does around its models: arguments, reading, timing, measuring, one JSON object on standard output."""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import config
import features
import metrics
import stream
from config import Config
from errors import CompareError
from features import Samples


@dataclass(frozen=True)
class Model:
    """One pass over the samples, each scored before it is learnt from; returns logits `[rows]` by name of head ("" where there is one)."""

    name: str
    # What was chosen by hand, in words: a figure without its settings says nothing.
    settings: str
    scores: Callable[[Samples, Config], dict[str, np.ndarray]]


def main(models: list[Model], versions: str) -> None:
    """Runs all models of a peer. A model that fails is reported, and the next one runs."""
    arguments = parse()
    lines, failed = [], []
    try:
        start = time.perf_counter()
        configuration = config.load(arguments.config)
        samples = features.build(stream.read(arguments.file, configuration.schema), configuration.schema)
        reading_s = time.perf_counter() - start
        for model in models:
            try:
                lines += run(model, samples, configuration, reading_s, arguments.eval_from)
            except CompareError as error:
                failed.append({"model": model.name, "why": str(error)})
            except Exception as error:  # Whatever a library throws, the models after it still run.
                traceback.print_exc()
                failed.append({"model": model.name, "why": f"{type(error).__name__}: {error}"})
    except CompareError as error:
        failed += [{"model": model.name, "why": str(error)} for model in models]
    for failure in failed:
        print(f"{failure['model']}: {failure['why']}", file=sys.stderr)
    print(json.dumps({"versions": versions, "models": lines, "failed": failed}))


def parse() -> argparse.Namespace:
    """The arguments that `run` hands on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--eval-from", type=time_of_argument, help="RFC 3339")
    return parser.parse_args()


def time_of_argument(text: str) -> int:
    """Milliseconds of an RFC 3339 time."""
    ms = stream.rfc3339_ms(text)
    if ms is None:
        raise argparse.ArgumentTypeError(f"{text} is no time in RFC 3339; write it like 2022-04-27T00:00:00Z")
    return ms


def run(model: Model, samples: Samples, configuration: Config, reading_s: float, eval_from_ms: int | None) -> list[dict]:
    """One line per head. Seconds run from opening the file to the last score, as the trainer's do; loading of libraries is not in."""
    start = time.perf_counter()
    heads = model.scores(samples, configuration)
    seconds = reading_s + time.perf_counter() - start
    lines = []
    for head, logits in heads.items():
        if not np.isfinite(logits).all():
            raise CompareError(f"{int((~np.isfinite(logits)).sum())} scores are not finite; lower its learning rates")
        over = {"all": metrics.measure(samples.labels, logits, samples.users).json()}
        if eval_from_ms is not None:
            late = samples.times_ms >= eval_from_ms
            over["from"] = metrics.measure(samples.labels[late], logits[late], samples.users[late]).json()
        lines.append(
            {
                "model": f"{model.name} {head}".strip(),
                "settings": model.settings,
                "rows": samples.rows,
                "unusable": samples.unusable,
                "seconds": seconds,
                "rows_per_s": samples.rows / seconds,
                "over": over,
            }
        )
    return lines
