"""PyTorch on the CPU: a plain MLP, and the trainer's own nets with its own learning rule, written again in another framework."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import peer
from config import Config, Nets
from features import Samples

# The plain MLP knows nothing of the configuration's nets. Rates by hand on KuaiRand, as those of the configuration were.
PLAIN = Nets(light=[64, 32], dim=16, batch_rows=128, dense_lr=1e-3, embedding_lr=0.05)
# PyTorch's own start for the plain MLP's rows is N(0, 1), which drowns what one pass can learn.
PLAIN_EMBEDDING_STD = 0.01


class Embedding(nn.Module):
    """One table for all slots; a slot of a row is the weighted sum of its ids' embeddings, without ids the zero vector."""

    def __init__(self, samples: Samples, dim: int, init: Callable[[Tensor], Tensor]):
        super().__init__()
        self.table = nn.EmbeddingBag(samples.vocabulary, dim, mode="sum", sparse=True, include_last_offset=True)
        init(self.table.weight.data)
        self.slots, self.dim = len(samples.slots), dim
        self.bounds = torch.from_numpy(samples.bounds)
        self.ids = torch.from_numpy(samples.ids)
        self.weights = torch.from_numpy(samples.weights)
        self.numbers = torch.from_numpy(samples.numbers)
        self.width = self.slots * dim + samples.numbers.shape[1]

    def forward(self, rows: range) -> Tensor:
        """The input matrix of these rows: `[rows, width]`, slots then numbers."""
        bounds = self.bounds[rows.start * self.slots : rows.stop * self.slots + 1]
        ids = slice(int(bounds[0]), int(bounds[-1]))
        pooled = self.table(self.ids[ids], bounds - bounds[0], per_sample_weights=self.weights[ids])
        return torch.cat([pooled.view(len(rows), self.slots * self.dim), self.numbers[rows.start : rows.stop]], dim=1)


class Optimizers:
    """Sparse Adagrad on the rows of the batch, Adam on dense layers."""

    def __init__(self, embedding: Embedding, dense: Iterable[nn.Parameter], nets: Nets):
        self.adagrad = torch.optim.Adagrad(
            embedding.parameters(), lr=nets.embedding_lr, initial_accumulator_value=nets.embedding_initial_accumulator
        )
        self.adam = torch.optim.Adam(dense, lr=nets.dense_lr, betas=(nets.beta1, nets.beta2), eps=nets.epsilon)

    def step(self, loss: Tensor) -> None:
        """One update."""
        self.adagrad.zero_grad()
        self.adam.zero_grad()
        loss.backward()
        self.adagrad.step()
        self.adam.step()


def mlp(inputs: int, hidden: list[int], *, logit: bool = True, layer_norm: bool = False) -> nn.Sequential:
    """Dense layers with ReLUs between; they start as in src/nets/layout.rs: He uniform before a ReLU, Glorot before the logit, biases 0."""
    layers = nn.Sequential()
    for outputs in hidden:
        linear = nn.Linear(inputs, outputs)
        nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers.extend([linear, *([nn.LayerNorm(outputs)] if layer_norm else []), nn.ReLU()])
        inputs = outputs
    if logit:
        linear = nn.Linear(inputs, 1)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers.extend([linear, nn.Flatten(0)])
    return layers


class Cross(nn.Module):
    """Cross layers (DCN-v2): x₀ ⊙ (W x + b) + x."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, first: Tensor) -> Tensor:
        """`[rows, width]` → `[rows, width]`."""
        x = first
        for layer in self.layers:
            x = first * layer(x) + x
        return x


def rocket_loss(logits: dict[str, Tensor], light_stopped: Tensor, labels: Tensor, nets: Nets) -> Tensor:
    """H(y, l) + H(y, z) + λ·mean((l − sg(z))²), and H(y, c) where there is a control head. `light_stopped` is the l of the hint."""
    target = logits["booster"].detach() if nets.gradient_block else logits["booster"]
    entropies = [functional.binary_cross_entropy_with_logits(head, labels) for head in logits.values()]
    return sum(entropies) + nets.hint_weight * functional.mse_loss(light_stopped, target)


class Rocket(nn.Module):
    """Trunk and heads as the configuration says."""

    def __init__(self, inputs: int, nets: Nets):
        super().__init__()
        self.nets = nets
        self.shared = mlp(inputs, nets.shared, logit=False, layer_norm=nets.layer_norm)
        trunk = nets.shared[-1] if nets.shared else inputs
        self.light = mlp(trunk, nets.light, layer_norm=nets.layer_norm)
        self.booster = nn.Sequential(Cross(trunk, nets.cross_layers), mlp(trunk, nets.booster, layer_norm=nets.booster_layer_norm))
        self.control = mlp(trunk, nets.light, layer_norm=nets.layer_norm) if nets.control else None
        if self.control is not None:
            # What sets them apart later is what they were trained on.
            self.control.load_state_dict(self.light.state_dict())

    def forward(self, inputs: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Logits by head, and light's as the hint sees it. `shared_grad` says what of light reaches the trunk (src/nets/model.rs)."""
        trunk = self.shared(inputs)
        stopped = trunk.detach()
        light = self.light(stopped if self.nets.shared_grad == "booster_only" else trunk)
        logits = {"light": light, "booster": self.booster(trunk)}
        if self.control is not None:
            logits["control"] = self.control(stopped)
        return logits, self.light(stopped) if self.nets.shared_grad == "no_hint" else light


def batches(samples: Samples, rows: int) -> Iterable[tuple[range, Tensor]]:
    """Rows of each batch and their labels, in the order of the file."""
    labels = torch.from_numpy(samples.labels.astype(np.float32))
    for start in range(0, samples.rows, rows):
        batch = range(start, min(start + rows, samples.rows))
        yield batch, labels[batch.start : batch.stop]


def plain(samples: Samples, _: Config) -> dict[str, np.ndarray]:
    """An MLP on embeddings, without any teacher."""
    torch.manual_seed(PLAIN.seed)
    embedding = Embedding(samples, PLAIN.dim, lambda table: nn.init.normal_(table, std=PLAIN_EMBEDDING_STD))
    net = mlp(embedding.width, PLAIN.light)
    optimizers = Optimizers(embedding, net.parameters(), PLAIN)
    scores = []
    for rows, labels in batches(samples, PLAIN.batch_rows):
        logits = net(embedding(rows))
        scores.append(logits.detach())
        optimizers.step(functional.binary_cross_entropy_with_logits(logits, labels))
    return {"": torch.cat(scores).numpy()}


def rocket(samples: Samples, config: Config) -> dict[str, np.ndarray]:
    """The trainer's nets and rule."""
    nets = config.nets
    torch.manual_seed(nets.seed)
    embedding = Embedding(samples, nets.dim, lambda table: nn.init.uniform_(table, -nets.init_scale, nets.init_scale))
    net = Rocket(embedding.width, nets)
    optimizers = Optimizers(embedding, net.parameters(), nets)
    scores: dict[str, list[Tensor]] = {}
    for rows, labels in batches(samples, nets.batch_rows):
        logits, light_stopped = net(embedding(rows))
        for head, values in logits.items():
            scores.setdefault(head, []).append(values.detach())
        optimizers.step(rocket_loss(logits, light_stopped, labels, nets))
    return {head: torch.cat(values).numpy() for head, values in scores.items()}


def load_lazy_parts() -> None:
    """One step of a net of one weight: torch loads its compiler, which takes seconds, at the first step of the first optimizer."""
    weight = nn.Parameter(torch.zeros(1))
    weight.sum().backward()
    torch.optim.Adam([weight]).step()


if __name__ == "__main__":
    # Matrices of 128 rows are done before a second thread is awake; on a busy machine two threads were 14 times slower than one.
    torch.set_num_threads(1)
    load_lazy_parts()
    peer.main(
        [
            peer.Model("torch mlp", f"64-32, dim 16, batch 128, Adagrad {PLAIN.embedding_lr}, Adam {PLAIN.dense_lr}", plain),
            peer.Model("torch rocket", "as the configuration says", rocket),
        ],
        versions=f"torch {torch.__version__}",
    )
