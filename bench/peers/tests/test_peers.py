"""The peers over a tiny model: whether they all compute the same. Needs setup.sh's environment and about two minutes."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))
INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "diffusers", "openvino", "nncf", "open_clip"))


def script(name: str, *words: object, told: str = "") -> str:
    """What a script of bench/peers prints."""
    command = [sys.executable, str(HERE / name), *map(str, words)]
    done = subprocess.run(command, input=told, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


@unittest.skipUnless(INSTALLED, "bench/peers/setup.sh was not run in this Python")
class Peers(unittest.TestCase):
    """All of them, over one prepared folder."""

    @classmethod
    def setUpClass(cls) -> None:
        holder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(holder.cleanup)
        cls.folder = pathlib.Path(holder.name)
        cls.model, cls.work = cls.folder / "model", cls.folder / "work"
        words = ["--make", "--tiny", "--sizes", 64, "--int8", "--calibration", 64]
        script("prepare.py", "--work", cls.work, "--sd15", cls.model, *words)

    def test_operations_are_counted_as_the_formula_says(self) -> None:
        gflop = json.loads((self.work / "work.json").read_text())["gflop"]
        self.assertAlmostEqual(gflop["sd15/unet/64x64/2"], 2 * gflop["sd15/unet/64x64/1"], places=2)
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            torch.nn.Conv2d(3, 5, 3, padding=1)(torch.zeros(1, 3, 8, 8))
        self.assertEqual(counter.get_total_flops(), 2 * 3 * 5 * 9 * 8 * 8)

    def result(self, engine: str, stage: str, precision: str) -> dict:
        """The answer of one turn."""
        words = ["--work", self.work, "--stage", stage, "--precision", precision, "--width", 64, "--height", 64]
        words += ["--batch", 1 if stage == "vae" else 2, "--threads", 1]
        ready, answer = map(json.loads, script(f"worker_{engine}.py", *words, told="go\n").splitlines())
        self.assertEqual((ready["ready"], ready["peak"], ready["threads"]), (True, True, 1))
        self.assertGreater(answer["ms"], 0)
        return answer

    def test_openvino_computes_what_torch_computes(self) -> None:
        for stage in ("unet", "vae", "text"):
            with self.subTest(stage):
                torch, vino = self.result("torch", stage, "f32"), self.result("openvino", stage, "f32")
                self.assertEqual(torch["gflop"], vino["gflop"])
                self.assertAlmostEqual(vino["mean"], torch["mean"], delta=1e-4 * torch["std"])
                self.assertAlmostEqual(vino["std"], torch["std"], delta=1e-4 * torch["std"])

    def test_16_and_8_bits_are_near(self) -> None:
        exact = self.result("torch", "unet", "f32")
        for engine, precision in (("torch", "bf16"), ("openvino", "bf16"), ("openvino", "int8")):
            with self.subTest(f"{engine} {precision}"):
                self.assertAlmostEqual(self.result(engine, "unet", precision)["std"], exact["std"], delta=0.05 * exact["std"])

    def test_both_pictures_are_the_same(self) -> None:
        import numpy as np
        from PIL import Image

        pixels = []
        for engine in ("openvino", "torch"):
            out = self.folder / f"{engine}.png"
            words = ["--work", self.work, "--precision", "f32", "--width", 64, "--height", 64, "--threads", 1]
            timings = json.loads(script(f"picture_{engine}.py", *words, "--steps", 3, "--out", out))["timings"]
            parts = sum(timings[name] for name in ("load", "text", "denoise", "decode"))
            self.assertAlmostEqual(parts, timings["total"], places=6)
            pixels.append(np.asarray(Image.open(out), dtype=int))
        self.assertLessEqual(np.abs(pixels[0] - pixels[1]).max(), 1)

    def test_lean_tokenizer_and_ddim_are_diffusers(self) -> None:
        import diffusers
        import numpy as np
        import torch

        import picture_openvino
        import work

        held = work.Work(self.work)
        ids = held.arrays(work.Job("sd15", "text", 64, 64, 2))["ids"]
        np.testing.assert_array_equal(picture_openvino.token_ids(self.work / "sd15", ["", work.PROMPT]), ids)
        config = json.loads((self.model / "scheduler" / "scheduler_config.json").read_text())
        theirs, ours = diffusers.DDIMScheduler.from_config(config), picture_openvino.Ddim(config, 20)
        theirs.set_timesteps(20)
        self.assertEqual(theirs.timesteps.tolist(), ours.timesteps.tolist())
        latents = noise = np.random.default_rng(1).standard_normal((1, 4, 8, 8), dtype=np.float32)
        for timestep in ours.timesteps:
            expected = theirs.step(torch.from_numpy(noise), int(timestep), torch.from_numpy(latents)).prev_sample.numpy()
            got = ours.step(latents, noise, timestep)
            np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)
            latents, noise = expected, expected * np.float32(0.5)


if __name__ == "__main__":
    unittest.main()
