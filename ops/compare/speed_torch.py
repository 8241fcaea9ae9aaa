"""PyTorch's speed on the model and the stream of `rocketctl bench train`: one step of both nets, their rows and optimizers.

The stream's ids come as row numbers, drawn before the clock starts: hashing, admission and GAUC, which `rocketctl bench train` has in its
figure, cost PyTorch nothing. Prints one JSON object.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from peer_torch import mlp

# As src/bench/workload.rs has them.
SLOTS, DIM, NUMBERS, ZIPF, CLICKS = 24, 16, 8, 1.05, 0.2
LIGHT, BOOSTER = [128, 64], [1024, 512, 256]
WARM_STEPS = 3
HINT_WEIGHT = 0.5


class Step:
    """Model, optimizers and one step of them."""

    def __init__(self, rows: int, device: str):
        self.table = nn.Embedding(rows, DIM, sparse=True, device=device)
        nn.init.zeros_(self.table.weight)
        inputs = SLOTS * DIM + NUMBERS
        self.light, self.booster = mlp(inputs, LIGHT).to(device), mlp(inputs, BOOSTER).to(device)
        dense = [*self.light.parameters(), *self.booster.parameters()]
        self.adam = torch.optim.Adam(dense, fused=True)
        self.adagrad = torch.optim.Adagrad(self.table.parameters(), lr=0.05, initial_accumulator_value=1e-6)
        self.loss = loss

    def compile(self) -> None:
        """Forward, loss and backward of the nets as one graph, CUDA graphs where there is a GPU."""
        mode = "reduce-overhead" if self.table.weight.is_cuda else "default"
        self.loss = torch.compile(loss, mode=mode)

    def __call__(self, ids: Tensor, numbers: Tensor, labels: Tensor) -> Tensor:
        inputs = torch.cat([self.table(ids).flatten(1), numbers], dim=1)
        self.adagrad.zero_grad()
        self.adam.zero_grad()
        total = self.loss(self.light, self.booster, inputs, labels)
        total.backward()
        self.adagrad.step()
        self.adam.step()
        return total


def loss(light: nn.Module, booster: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """H(y, l) + H(y, z) + λ·mean((l − sg(z))²)."""
    small, big = light(inputs), booster(inputs)
    entropy = functional.binary_cross_entropy_with_logits
    return entropy(small, labels) + entropy(big, labels) + HINT_WEIGHT * functional.mse_loss(small, big.detach())


def zipf(random: np.random.Generator, ids: int, count: int) -> np.ndarray:
    """Numbers in 0..ids by Zipf's law."""
    shares = np.cumsum(np.arange(1, ids + 1, dtype=np.float64) ** -ZIPF)
    return np.searchsorted(shares / shares[-1], random.random(count))


def stream(rows: int, batch: int, batches: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Row numbers `[batch, slots]`, numbers `[batch, numbers]` and labels `[batch]` of each batch."""
    random = np.random.default_rng(1)
    per_slot = rows // SLOTS
    ids = zipf(random, per_slot, batches * batch * SLOTS).reshape(batches, batch, SLOTS) + np.arange(SLOTS) * per_slot
    # As scattered over the table as rows are that came by and by.
    ids = random.permutation(per_slot * SLOTS)[ids]
    numbers = (random.random((batches, batch, NUMBERS), dtype=np.float32) - 0.5) / 0.3
    labels = (random.random((batches, batch)) < CLICKS).astype(np.float32)
    return list(zip(map(torch.from_numpy, ids), map(torch.from_numpy, numbers), map(torch.from_numpy, labels), strict=True))


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=0, help="0: one per core")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--samples", type=int, default=80_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    step = Step(arguments.rows, arguments.device)
    if arguments.compile:
        step.compile()
    batches = stream(arguments.rows, arguments.batch, WARM_STEPS + max(1, -(-arguments.samples // arguments.batch)))
    on_gpu = step.table.weight.is_cuda
    if on_gpu:
        batches = [tuple(part.pin_memory() for part in batch) for batch in batches]
    times = []
    for number, batch in enumerate(batches):
        if number == WARM_STEPS:
            if on_gpu:
                torch.cuda.synchronize()
            begun = time.perf_counter()
        start = time.perf_counter()
        total = step(*(part.to(arguments.device, non_blocking=True) for part in batch))
        times.append(time.perf_counter() - start)
    # Waits for the last step where the device works on its own.
    final = float(total.detach())
    seconds = time.perf_counter() - begun
    count = (len(batches) - WARM_STEPS) * arguments.batch
    figures = {
        "torch": torch.__version__,
        "device": arguments.device,
        "compiled": arguments.compile,
        "threads": torch.get_num_threads(),
        "batch": arguments.batch,
        "samples": count,
        "samples_per_s": count / seconds,
        "step_p50_ms": statistics.median(times[WARM_STEPS:]) * 1e3,
        "loss": final,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
