"""Pictures of diffusers' own pipelines with the webui's text for them: tests/data/replay/*.png.

Run: python tools/reference/replay_pictures.py
The tiny SD1.5 and SD2.1 of the fixtures, torch's CPU generator, f32. The text is what a webui with `RNG: CPU` would
write, so that `tintype replay` has nothing but the file to go by.
"""

import tempfile
from pathlib import Path

import diffusers
import torch
from PIL import Image, PngImagePlugin

import models

OUT = Path(__file__).resolve().parents[2] / "tests/data/replay"
CASES = {
    "sd15-ddim": {"family": "sd15", "sampler": "DDIM", "class": diffusers.DDIMScheduler, "guidance": 7.5},
    "sd15-euler-a": {
        "family": "sd15",
        "sampler": "Euler a",
        "class": diffusers.EulerAncestralDiscreteScheduler,
        "guidance": 5.0,
        "negative": "blurry, dog",
        "steps": 5,
    },
    "sd21-dpmpp-2m-karras": {
        "family": "sd21",
        "sampler": "DPM++ 2M Karras",
        "class": diffusers.DPMSolverMultistepScheduler,
        "options": {"use_karras_sigmas": True},
        "guidance": 6.0,
    },
}
PROMPT = "a photo of a cat"
SEED, WIDTH, HEIGHT = 1234, 64, 48


def picture(case: dict, parts: dict) -> Image.Image:
    """One picture."""
    pipe = diffusers.StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = case["class"].from_config(parts["scheduler"].config, **case.get("options", {}))
    return pipe(
        PROMPT,
        negative_prompt=case.get("negative"),
        num_inference_steps=case.get("steps", 4),
        guidance_scale=case["guidance"],
        width=WIDTH,
        height=HEIGHT,
        generator=torch.Generator("cpu").manual_seed(SEED),
        output_type="pil",
    ).images[0]


def text(case: dict) -> str:
    lines = [PROMPT]
    if "negative" in case:
        lines.append(f"Negative prompt: {case['negative']}")
    lines.append(
        f"Steps: {case.get('steps', 4)}, Sampler: {case['sampler']}, CFG scale: {case['guidance']}, Seed: {SEED}, "
        f"Size: {WIDTH}x{HEIGHT}, RNG: CPU"
    )
    return "\n".join(lines)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as work, torch.no_grad():
            made: Image.Image = picture(case, models.load(case["family"], Path(work)))
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", text(case))
        made.save(OUT / f"{name}.png", pnginfo=info, optimize=True)


if __name__ == "__main__":
    main()
