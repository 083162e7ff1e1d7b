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


def load(family: str, folder: pathlib.Path, **parts):
    """The pipeline, in f32 whatever the files hold; `parts` that are None stay on the disk."""
    kind = getattr(diffusers, families.FAMILIES[family]["index"]["_class_name"])
    more = {} if "text_encoder_2" in families.FAMILIES[family] else {"safety_checker": None, "feature_extractor": None}
    return kind.from_pretrained(folder, dtype=torch.float32, **more, **parts)


def text(family: str, folder: pathlib.Path) -> tuple[dict, dict]:
    """What the prompt becomes, as a run takes it and as one forward does. Text towers are gone again afterwards, so that
    SDXL fits into 12 GB."""
    pipe = load(family, folder, unet=None, vae=None)
    if "text_encoder_2" not in families.FAMILIES[family]:
        cond, none = pipe.encode_prompt(families.PROMPT, "cpu", 1, True, negative_prompt="")
        return {"prompt_embeds": cond, "negative_prompt_embeds": none}, {"context": torch.cat([none, cond])}
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    run = dict(zip(names, pipe.encode_prompt(families.PROMPT, device="cpu")))
    cond, none, pooled, pooled_none = pipe.encode_prompt(families.PROMPT, device="cpu", negative_prompt="")
    return run, {"context": torch.cat([none, cond]), "text_embeds": torch.cat([pooled_none, pooled])}


def one_forward(unet, inputs: dict, out: pathlib.Path, size: int) -> None:
    """Keeps one UNet forward over (uncond, cond) and prints how it looks."""
    more = {}
    if "text_embeds" in inputs:
        inputs["time_ids"] = torch.tensor([[size, size, 0, 0, size, size]] * 2, dtype=torch.float32)
        more["added_cond_kwargs"] = {name: inputs[name] for name in ("text_embeds", "time_ids")}
    noise = torch.randn(1, 4, size // 8, size // 8, generator=torch.Generator("cpu").manual_seed(42))
    inputs |= {"sample": noise.repeat(2, 1, 1, 1), "timestep": torch.tensor([621.0, 621.0])}
    start = time.time()
    result = unet(inputs["sample"], inputs["timestep"], encoder_hidden_states=inputs["context"], **more).sample
    differ = (result[1] - result[0]).abs().mean()
    print(f"forward {time.time() - start:.1f} s, std {result.std():.3f}, |cond - uncond| {differ:.3f}", flush=True)
    np.savez(out / "unet.npz", **{name: runs.numpy(value) for name, value in inputs.items()}, out=runs.numpy(result))


def picture(pipe, name: str, embeds: dict, arguments) -> dict:
    """One whole run."""
    kind, options, eta = runs.SAMPLERS[name]
    pipe.scheduler = getattr(diffusers, kind).from_config(pipe.native.config, **options)
    noise = torch.randn(1, 4, arguments.size // 8, arguments.size // 8, generator=torch.Generator("cpu").manual_seed(42))
    start = time.time()
    options = {"eta": eta} if kind == "DDIMScheduler" else {}
    latents = pipe(
        **embeds,
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
    Image.fromarray(pixels).save(arguments.out / f"{name}.png")
    np.savez(arguments.out / f"{name}.npz", noise=runs.numpy(noise), latents=runs.numpy(latents), decoded=runs.numpy(decoded), image=pixels)
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
    embeds, inputs = text(arguments.family, arguments.checkpoint)
    absent = [name for name in ("text_encoder", "text_encoder_2") if name in families.FAMILIES[arguments.family]]
    absent += list(families.tokenizers(arguments.family))
    pipe = load(arguments.family, arguments.checkpoint, **dict.fromkeys(absent))
    pipe.native = pipe.scheduler
    one_forward(pipe.unet, inputs, arguments.out, arguments.size)
    notes = [picture(pipe, name, embeds, arguments) for name in arguments.samplers.split(",") if name]
    settings = {"family": arguments.family, "steps": arguments.steps, "guidance": arguments.guidance, "seed": 42}
    settings |= {"size": arguments.size, "prompt": families.PROMPT, "torch": torch.__version__, "diffusers": diffusers.__version__}
    models.write_json(arguments.out / "run.json", settings | {"runs": notes})


if __name__ == "__main__":
    main()
