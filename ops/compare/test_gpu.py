"""What is said of figures; the figures themselves need a GPU."""

import contextlib
import io
import json
import os
import sys
import types
import unittest
from unittest import mock

import gpu

RATES = {"ours": 6000.0, "eager": 1500.0, "compiled": 6000.0}


def torch(version="2.9.0+cu128", gpus=1):
    """A stand-in for the module."""
    cuda = types.SimpleNamespace(is_available=lambda: gpus > 0, get_device_name=lambda device: f"a GPU, {device}")
    return types.SimpleNamespace(__version__=version, cuda=cuda)


def run(arguments, *, loss=0.5, **module):
    """Exit code, output and errors of the program, `loss` being the device's where the CPU's is 0.5."""

    def ours(*load):
        lost = loss if load[-1] != "cpu" else 0.5
        return {"samples_per_s": RATES["ours"], "loss": lost, "last_loss": lost}

    def peer(command):
        if "--compile" not in command:
            return {"samples_per_s": RATES["eager"]}
        if os.environ[gpu.TF32] == "1":
            raise ValueError("no compiler")
        return {"samples_per_s": RATES["compiled"]}

    environment = {"ROCKETCTL": "rocketctl", "TORCH": "python3", "TORCH_WANTED": "2.9.0"}
    out, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.dict(sys.modules, torch=torch(**module)),
        mock.patch.multiple(gpu, ours=ours, run=peer),
        mock.patch.object(sys, "argv", ["gpu", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        return gpu.main(), out.getvalue(), errors.getvalue()


class GpuTest(unittest.TestCase):
    def test_every_batch_stands_beside_every_peer_in_both_precisions(self):
        code, out, _ = run(["-o", "json", "--batches", "64,128"])
        result = json.loads(out)
        found = [(line["item"], line["peer_name"], line["ratio"]) for line in result["lines"]]
        of_f32 = [
            (f"train, batch {batch}, f32", peer, ratio) for batch in (64, 128) for peer, ratio in (("PyTorch eager", 4.0), ("torch.compile", 1.0))
        ]
        of_tf32 = [(f"train, batch {batch}, tf32", "PyTorch eager", 4.0) for batch in (64, 128)]
        fastest = ("the fastest: train, batch 64, f32", "goal", 0.006)
        self.assertEqual(found, [*of_f32, *of_tf32, fastest])
        self.assertEqual([failure["item"] for failure in result["failed"]], [f"{item}: torch.compile" for item, _, _ in of_tf32])
        self.assertEqual(code, 1, "something could not be measured")

    def test_another_loss_than_the_cpus_is_an_error_and_a_missed_goal_is_none(self):
        with mock.patch.object(gpu, "PEERS", gpu.PEERS[:1]):
            for loss, code, said in ((0.5, 0, ""), (0.50001, 0, ""), (0.51, 1, "WRONG")):
                with self.subTest(loss=loss):
                    found = run(["--batches", "64"], loss=loss)
                    self.assertEqual(found[0], code)
                    self.assertIn(said, found[1])
                    self.assertIn("missed", found[1])

    def test_where_nothing_can_be_measured_one_line_says_why(self):
        for module, why in (({"gpus": 0}, "no GPU here"), ({"version": "2.11.0"}, "--torch 2.11.0")):
            with self.subTest(why):
                code, out, errors = run([], **module)
                self.assertEqual((code, out, errors.count("\n")), (1, "", 1))
                self.assertIn(why, errors)


if __name__ == "__main__":
    unittest.main()
