"""Pictures of diffusers' own pipelines with a text in the webui's form: tests/data/replay/*.png.

Run: python tools/reference/replay_pictures.py
The tiny SD1.5 and SD2.1 of the fixtures, torch's CPU generator, f32. The text is what a webui with `RNG: CPU` would
write, but for the version, so that `tintype replay` has nothing but the file to go by.
"""

import json
import tempfile
from pathlib import Path

import diffusers
import torch
from PIL import Image, PngImagePlugin

import k_sampler_cases
import models
import unet_runs
from kdiffusion import Model

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
# k-diffusion's loops by other programs' rules (program_cases.py).
CASES_OF_PROGRAMS = {
    "webui-euler-a": {"family": "sd15", "sampler": "euler_a", "steps": 5, "says": "Sampler: Euler a, Schedule type: "
                      "Automatic", "levels_as": "webui", "version": "v1.10.1"},
    "webui-dpmpp-2m-karras": {"family": "sd15", "sampler": "dpmpp_2m", "steps": 6, "schedule": "karras", "says": "Sampler: "
                              "DPM++ 2M Karras", "levels_as": "webui", "version": "v1.6.0"},
    "forge-euler-karras": {"family": "sd15", "sampler": "euler", "steps": 4, "schedule": "karras", "says": "Sampler: Euler, "
                           "Schedule type: Karras", "levels_as": "forge", "version": "f2.0.1v1.10.1-previous"},
    "comfyui-dpmpp-2m-karras": {"family": "sd15", "sampler": "dpmpp_2m", "steps": 5, "schedule": "karras",
                                "levels_as": "comfyui"},
    "webui-sd2-clip-skip": {"family": "sd21", "sampler": "euler", "steps": 4, "schedule": "karras", "says": "Sampler: Euler, "
                            "Schedule type: Karras, Clip skip: 2", "levels_as": "webui", "version": "v1.10.1"},
}
PROMPT = "a photo of a cat"
SEED, WIDTH, HEIGHT, GUIDANCE = 1234, 64, 48, 5.0


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
        f"Size: {WIDTH}x{HEIGHT}, RNG: CPU, Version: diffusers {diffusers.__version__}"
    )
    return "\n".join(lines)


def of_program(case: dict, parts: dict) -> Image.Image:
    """One picture of a program."""
    unet = unet_runs.Unet(parts, GUIDANCE, PROMPT)
    prediction = parts["scheduler"].config.get("prediction_type", "epsilon")
    shape = (1, 4, HEIGHT // 8, WIDTH // 8)
    latents = k_sampler_cases.run({**case, "seed": SEED}, Model(prediction, unet, unet.without), shape)
    vae = parts["vae"]
    pixels = vae.decode(latents / vae.config.scaling_factor).sample
    return diffusers.image_processor.VaeImageProcessor().postprocess(pixels)[0]


def graph(case: dict) -> str:
    """ComfyUI's graph of it, as it runs."""
    def node(kind, **inputs):
        return {"class_type": kind, "inputs": inputs}

    return json.dumps({
        "3": node("KSampler", seed=SEED, steps=case["steps"], cfg=GUIDANCE, sampler_name=case["sampler"],
                  scheduler=case["schedule"], denoise=1.0, model=["4", 0], positive=["6", 0], negative=["7", 0],
                  latent_image=["5", 0]),
        "4": node("CheckpointLoaderSimple", ckpt_name="model.safetensors"),
        "5": node("EmptyLatentImage", width=WIDTH, height=HEIGHT, batch_size=1),
        "6": node("CLIPTextEncode", text=PROMPT, clip=["4", 1]),
        "7": node("CLIPTextEncode", text="", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0])})


def main() -> None:
    for name, case in CASES_OF_PROGRAMS.items():
        with tempfile.TemporaryDirectory() as work, torch.no_grad():
            made = of_program(case, models.load(case["family"], Path(work)))
        info = PngImagePlugin.PngInfo()
        if "says" in case:
            said = (f"{PROMPT}\nSteps: {case['steps']}, {case['says']}, CFG scale: {GUIDANCE}, Seed: {SEED}, "
                    f"Size: {WIDTH}x{HEIGHT}, RNG: CPU, Version: {case['version']}")
            info.add_text("parameters", said)
        else:
            info.add_text("prompt", graph(case))
        made.save(OUT / f"{name}.png", pnginfo=info, optimize=True)
    OUT.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as work, torch.no_grad():
            made: Image.Image = picture(case, models.load(case["family"], Path(work)))
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", text(case))
        made.save(OUT / f"{name}.png", pnginfo=info, optimize=True)


if __name__ == "__main__":
    main()
