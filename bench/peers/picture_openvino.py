"""Prompt to PNG with OpenVINO: a program of its own, as lean as its users could write it.

No torch and no diffusers in the process: the text tower, the UNet and the VAE are OpenVINO's, the tokenizer is
`tokenizers`, DDIM is NumPy, and --cache keeps OpenVINO's compiled models from run to run.
"""

import time

START = time.perf_counter()

import json  # noqa: E402
import pathlib  # noqa: E402

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

import picture  # noqa: E402
import vino  # noqa: E402
import work  # noqa: E402


def token_ids(folder: pathlib.Path, texts: list[str]) -> np.ndarray:
    """(texts, 77), padded with the end token as SD1.x does."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.enable_padding(length=work.TOKENS, pad_id=end, pad_token="<|endoftext|>")
    tokenizer.enable_truncation(work.TOKENS)
    return np.array([encoding.ids for encoding in tokenizer.encode_batch(texts)], np.int64)


class Ddim:
    """Deterministic DDIM with leading spacing, as diffusers does it for SD1.x."""

    def __init__(self, config: dict, steps: int) -> None:
        count = config["num_train_timesteps"]
        betas = np.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, count, dtype=np.float32) ** 2
        self.alphas = np.cumprod(1 - betas)
        self.last = np.float32(1) if config["set_alpha_to_one"] else self.alphas[0]
        self.stride = count // steps
        self.timesteps = np.arange(steps)[::-1] * self.stride + config["steps_offset"]

    def step(self, latents: np.ndarray, noise: np.ndarray, timestep: int) -> np.ndarray:
        """One step down."""
        alpha, before = self.alphas[timestep], timestep - self.stride
        following = self.alphas[before] if before >= 0 else self.last
        clean = (latents - np.sqrt(1 - alpha) * noise) / np.sqrt(alpha)
        return np.sqrt(following) * clean + np.sqrt(1 - following) * noise


def main() -> None:
    """The whole run; prints where the time went."""
    taken = picture.arguments(__doc__, list(vino.HINTS))
    held = work.Work(taken.work)
    folder = held.folder / taken.family
    config = json.loads((held.checkpoint(taken.family) / "scheduler" / "scheduler_config.json").read_text())
    job = work.Job(taken.family, "unet", taken.width, taken.height, 2)
    arrays = held.arrays(job)
    latents = held.arrays(work.Job(taken.family, "vae", taken.width, taken.height, 1))["latents"]

    def load(stage: str, inputs: dict):
        precision = "bf16" if taken.precision == "int8" and stage != "unet" else taken.precision
        return vino.compiled(vino.file(folder, stage, precision), inputs, precision, taken.threads, taken.cache)

    ids = token_ids(folder, ["", work.PROMPT])
    marks = [time.perf_counter()]
    text, unet, vae = load("text", {"ids": ids}), load("unet", arrays), load("vae", {"latents": latents})
    marks.append(time.perf_counter())
    context = text({"ids": ids})[0]
    marks.append(time.perf_counter())
    ddim, request = Ddim(config, taken.steps), unet.create_infer_request()
    for timestep in ddim.timesteps:
        inputs = {"sample": np.concatenate([latents, latents]), "context": context}
        inputs["timestep"] = np.full(2, timestep, np.float32)
        empty, prompt = np.split(request.infer(inputs, share_inputs=True, share_outputs=True)[0], 2)
        latents = ddim.step(latents, empty + np.float32(work.GUIDANCE) * (prompt - empty), timestep)
    marks.append(time.perf_counter())
    pixels = vae({"latents": latents})[0][0]
    bytes_ = (np.clip(pixels / 2 + 0.5, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(bytes_).save(taken.out)
    marks.append(time.perf_counter())
    picture.report(START, marks)


if __name__ == "__main__":
    main()
