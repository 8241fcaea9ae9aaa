"""What the hint may move, on real gradients; the trainer's own test of it is tests/gradient_block.rs."""

import unittest
from dataclasses import replace

try:
    import torch

    import peer_torch
    from config import Nets
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise unittest.SkipTest("no torch here; `ops/compare/test torch` brings it") from error

NETS = Nets(shared=[5], light=[4], booster=[6], control=False)


def gradients(nets, **weights):
    """Largest gradient by part of the hint alone: the loss with a hint less the loss without one."""
    found = []
    for weight in (1.0, 0.0):
        torch.manual_seed(1)
        net = peer_torch.Rocket(7, replace(nets, **weights, hint_weight=weight)).double()
        inputs, labels = torch.randn(32, 7).double(), (torch.rand(32) < 0.5).double()
        logits, light_stopped = net(inputs)
        peer_torch.rocket_loss(logits, light_stopped, labels, net.nets).backward()
        found.append([[parameter.grad for parameter in part.parameters()] for part in (net.booster, net.light, net.shared)])
    return [max((a - b).abs().max().item() for a, b in zip(*parts, strict=True)) for parts in zip(*found, strict=True)]


class GradientBlockTest(unittest.TestCase):
    def test_the_hint_moves_what_it_may(self):
        for weights, moved in [
            ({}, [False, True, True]),
            ({"gradient_block": False}, [True, True, True]),
            ({"shared_grad": "no_hint"}, [False, True, False]),
            ({"shared_grad": "booster_only"}, [False, True, False]),
        ]:
            with self.subTest(**weights):
                self.assertEqual([largest > 0.0 for largest in gradients(NETS, **weights)], moved)

    def test_control_starts_as_light_and_moves_no_trunk(self):
        torch.manual_seed(1)
        net = peer_torch.Rocket(7, replace(NETS, control=True))
        logits, _ = net(torch.randn(3, 7))
        self.assertTrue(torch.equal(logits["control"], logits["light"]))
        logits["control"].sum().backward()
        self.assertTrue(all(parameter.grad is None for parameter in net.shared.parameters()))


if __name__ == "__main__":
    unittest.main()
