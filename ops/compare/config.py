"""What the peers need of the trainer's TOML file.

`rocketctl check` judges the file; here only what would make a comparison wrong is an error. The defaults are those of src/config/model.rs.
The environment (`ROCKET__…`) is not read: a peer sees the file alone.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errors import CompareError

# Known only after the click: a feature made of one of them would read the answer.
AFTER_THE_CLICK = frozenset({"label", "long_view", "is_like"})


@dataclass(frozen=True)
class Schema:
    """`[schema]`: which columns mean what; features stay as the file has them, since each kind has keys of its own."""

    time: str
    user: str
    item: str
    label: str
    time_unit: str
    features: list[dict[str, Any]]
    # Rows that are scored before any of them is learnt from: what click rates are older than.
    batch_rows: int

    def names(self) -> set[str]:
        """Everything in it that could name a column, so that a new kind may read several without a change here."""
        return {self.time, self.user, self.item, self.label} | set(texts(self.features))


@dataclass(frozen=True)
class Nets:
    """`[model]` and `[train]`: shapes of the nets and the learning rule."""

    shared: list[int] = field(default_factory=list)
    light: list[int] = field(default_factory=lambda: [64, 32])
    booster: list[int] = field(default_factory=lambda: [256, 128, 64])
    layer_norm: bool = False
    booster_layer_norm: bool = False
    cross_layers: int = 0
    control: bool = True
    dim: int = 16
    init_scale: float = 0.0
    seed: int = 1
    batch_rows: int = 256
    shared_grad: str = "all"
    hint_weight: float = 0.01
    gradient_block: bool = True
    dense_lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    embedding_lr: float = 0.05
    embedding_initial_accumulator: float = 1e-8


@dataclass(frozen=True)
class Config:
    """One configuration file."""

    schema: Schema
    nets: Nets


def load(path: Path) -> Config:
    """Reads a configuration file."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CompareError(f"{path}: {error}; name a configuration of the trainer by --config, e.g. config/kuairand.toml") from error
    refuse_other_nets(document, path)
    nets = nets_of(document)
    return Config(schema_of(document.get("schema", {}), path, nets.batch_rows), nets)


def schema_of(table: dict[str, Any], path: Path, batch_rows: int) -> Schema:
    """`[schema]`, without features that read the answer."""
    for key in ("time", "user", "item", "features"):
        if key not in table:
            raise CompareError(f"{path}: schema.{key} is missing; `rocketctl check --config {path}` says what a file needs")
    label = table.get("label", "label")
    for number, feature in enumerate(table["features"]):
        if not {"name", "kind"} <= feature.keys():
            raise CompareError(f"{path}: schema.features[{number}] needs `name` and `kind`, and has {', '.join(feature)}")
        for column in sorted({feature["name"], *texts([feature])} & (AFTER_THE_CLICK | {label})):
            raise CompareError(f"{path}: feature `{feature['name']}` names `{column}`, which is known only after the click; remove it")
    return Schema(table["time"], table["user"], table["item"], label, table.get("time_unit", "ms"), table["features"], batch_rows)


def nets_of(document: dict[str, Any]) -> Nets:
    """`[model]` and `[train]` with their sub-tables, flattened; keys that only the daemon has are left out."""
    model, train = document.get("model", {}), document.get("train", {})
    flat = {
        **model,
        "layer_norm": model.get("hidden", {}).get("layer_norm", False),
        "booster_layer_norm": model.get("booster_hidden", {}).get("layer_norm", False),
        "cross_layers": model.get("booster_cross", {}).get("layers", 0),
        **model.get("embedding", {}),
        **train,
        **train.get("optimizer", {}),
        **{{"weight": "hint_weight"}.get(key, key): value for key, value in train.get("hint", {}).items()},
    }
    return Nets(**{key: value for key, value in flat.items() if key in Nets.__dataclass_fields__})


def refuse_other_nets(document: dict[str, Any], path: Path) -> None:
    """Nets and features that the peers do not have would be compared with something else."""
    model, train = document.get("model", {}), document.get("train", {})
    features = document.get("schema", {}).get("features", [])
    others = {
        "model.hidden.activation": model.get("hidden", {}).get("activation", "relu") != "relu",
        "model.booster_hidden.activation": model.get("booster_hidden", {}).get("activation", "relu") != "relu",
        "model.booster_fm": model.get("booster_fm", False),
        "model.booster_attention": bool(model.get("booster_attention", {}).get("of")),
        "train.teacher.weight": train.get("teacher", {}).get("weight", 0.0) != 0.0,
        "train.negatives.keep": train.get("negatives", {}).get("keep", 1.0) != 1.0,
        "schema.features `dim` or `table`": any({"dim", "table"} & feature.keys() for feature in features),
    }
    for key in (key for key, differs in others.items() if differs):
        raise CompareError(f"{path}: the peers do not know {key}; compare with a configuration that leaves it out")


def texts(value: Any) -> list[str]:
    """All text inside tables and lists, keys left out."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in inner for text in texts(part)]
