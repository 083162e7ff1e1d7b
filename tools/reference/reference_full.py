"""Runs diffusers at f32 over a full-size checkpoint folder made by make_full.py and keeps what it gives.

    python reference_full.py FAMILY CHECKPOINT OUT [--samplers ddim,euler,euler-a] [--steps 20] [--size 512]

OUT gets unet.npz (one forward: inputs and output), <sampler>.npz (initial noise, final latents, decoded picture before
clamping, u8 picture), <sampler>.png and run.json.
"""

import argparse
import json
import pathlib
import time

import diffusers
import numpy as np
import torch
from PIL import Image

import families
import models
import runs

SAMPLERS = "ddim,euler,euler-a"


def load(family: str, folder: pathlib.Path):
    """The pipeline, in f32 whatever the files hold."""
    kind = getattr(diffusers, families.FAMILIES[family]["index"]["_class_name"])
    more = {} if "text_encoder_2" in families.FAMILIES[family] else {"safety_checker": None, "feature_extractor": None}
    pipe = kind.from_pretrained(folder, dtype=torch.float32, **more)
    pipe.set_progress_bar_config(disable=False)
    return pipe


def conditions(pipe, sdxl: bool, size: int) -> tuple[torch.Tensor, dict]:
    """(uncond, cond) context and what SDXL adds."""
    if not sdxl:
        cond, uncond = pipe.encode_prompt(families.PROMPT, "cpu", 1, True, negative_prompt="")
        return torch.cat([uncond, cond]), {}
    cond, uncond, pooled, none = pipe.encode_prompt(families.PROMPT, device="cpu", negative_prompt="")
    ids = torch.tensor([[size, size, 0, 0, size, size]] * 2, dtype=torch.float32)
    return torch.cat([uncond, cond]), {"added_cond_kwargs": {"text_embeds": torch.cat([none, pooled]), "time_ids": ids}}


def one_forward(pipe, sdxl: bool, out: pathlib.Path, size: int) -> None:
    """Keeps one UNet forward over (uncond, cond) and prints how it looks."""
    context, more = conditions(pipe, sdxl, size)
    sample = torch.randn(1, 4, size // 8, size // 8, generator=torch.Generator("cpu").manual_seed(42)).repeat(2, 1, 1, 1)
    timestep = torch.tensor([621.0, 621.0])
    start = time.time()
    result = pipe.unet(sample, timestep, encoder_hidden_states=context, **more).sample
    print(f"forward {time.time() - start:.1f} s, std {result.std():.3f}, |cond - uncond| {(result[1] - result[0]).abs().mean():.3f}")
    arrays = {"sample": sample, "timestep": timestep, "context": context, "out": result}
    arrays |= more.get("added_cond_kwargs", {})
    np.savez(out / "unet.npz", **{name: runs.numpy(value) for name, value in arrays.items()})


def picture(pipe, name: str, native, arguments, out: pathlib.Path) -> dict:
    """One whole run."""
    kind, options, eta = runs.SAMPLERS[name]
    pipe.scheduler = getattr(diffusers, kind).from_config(native.config, **options)
    noise = torch.randn(1, 4, arguments.size // 8, arguments.size // 8, generator=torch.Generator("cpu").manual_seed(42))
    start = time.time()
    options = {"eta": eta} if kind == "DDIMScheduler" else {}
    latents = pipe(
        families.PROMPT,
        num_inference_steps=arguments.steps,
        guidance_scale=arguments.guidance,
        width=arguments.size,
        height=arguments.size,
        generator=torch.Generator("cpu").manual_seed(42),
        output_type="latent",
        **options,
    ).images
    denoised = time.time() - start
    decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    image = pipe.image_processor.postprocess(decoded, output_type="np")
    pixels = models.to_u8(image)[0]
    Image.fromarray(pixels).save(out / f"{name}.png")
    np.savez(out / f"{name}.npz", noise=runs.numpy(noise), latents=runs.numpy(latents), decoded=runs.numpy(decoded), image=pixels)
    note = {
        "sampler": name,
        "seconds_denoising": round(denoised, 1),
        "seconds": round(time.time() - start, 1),
        "latents_std": float(latents.std()),
        "picture_mean": float(pixels.mean()),
        "picture_std": float(pixels.std()),
        "saturated": float(((pixels == 0) | (pixels == 255)).mean()),
    }
    print(json.dumps(note), flush=True)
    return note


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=list(families.FAMILIES))
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--samplers", default=SAMPLERS, help="comma separated; empty for the UNet forward alone")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pipe = load(arguments.family, arguments.checkpoint)
    sdxl = "text_encoder_2" in families.FAMILIES[arguments.family]
    one_forward(pipe, sdxl, arguments.out, arguments.size)
    native = pipe.scheduler
    notes = [picture(pipe, name, native, arguments, arguments.out) for name in arguments.samplers.split(",") if name]
    settings = {"family": arguments.family, "steps": arguments.steps, "guidance": arguments.guidance, "seed": 42}
    settings |= {"size": arguments.size, "prompt": families.PROMPT, "torch": torch.__version__, "diffusers": diffusers.__version__}
    models.write_json(arguments.out / "run.json", settings | {"runs": notes})


if __name__ == "__main__":
    main()
