"""Records whole runs with FreeU, perturbed attention and self-attention guidance: tests/data/guidance/runs.json.

Run: python tools/reference/guidance_runs.py
The tiny SD1.5 of the fixtures in diffusers' own pipelines.
"""

import json
import tempfile
from pathlib import Path

import diffusers
import torch

import families
import models
import runs

OUT = Path(__file__).resolve().parents[2] / "tests/data/guidance/runs.json"
FREEU = {"b1": 1.5, "b2": 1.6, "s1": 0.9, "s2": 0.2}
CASES = [
    {"name": "freeu", "freeu": FREEU, "width": 96, "height": 128},
    {"name": "freeu at odd sizes", "freeu": {"b1": 1.2, "b2": 0.7, "s1": 0.0, "s2": 1.8}, "width": 72, "height": 88},
    {"name": "pag", "pag": {"scale": 3.0}, "layers": {"mid": ["mid"]}},
    {"name": "pag and rescale", "pag": {"scale": 2.0}, "layers": {"up.1": ["up_blocks.1"]}, "guidance_rescale": 0.7},
    {
        "name": "adaptive pag without guidance",
        "pag": {"scale": 4.0, "adaptive": 0.005},
        "layers": {"down.0+mid+up": ["down_blocks.0", "mid", "up"]},
        "guidance": 1.0,
    },
    {"name": "sag", "sag": 0.75, "sampler": "ddim", "width": 96, "height": 128},
    {"name": "sag without guidance", "sag": 2.0, "sampler": "ddim", "guidance": 1.0, "width": 72, "height": 88},
]
SAMPLERS = {"euler": diffusers.EulerDiscreteScheduler, "ddim": diffusers.DDIMScheduler}


def pag_text(case: dict) -> str:
    """The settings as the product writes them."""
    (blocks,) = case["layers"]
    return f"scale={case['pag']['scale']},adaptive={case['pag'].get('adaptive', 0)},blocks={blocks}"


def run(parts: dict, case: dict) -> torch.Tensor:
    more = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    arguments = {}
    if "pag" in case:
        (layers,) = case["layers"].values()
        pipe = diffusers.StableDiffusionPAGPipeline(**parts, **more, pag_applied_layers=layers)
        arguments["pag_scale"] = case["pag"]["scale"]
        arguments["pag_adaptive_scale"] = case["pag"].get("adaptive", 0.0)
    elif "sag" in case:
        from diffusers.pipelines.deprecated.stable_diffusion_sag import StableDiffusionSAGPipeline

        pipe = StableDiffusionSAGPipeline(**parts, **more)
        arguments["sag_scale"] = case["sag"]
    else:
        pipe = diffusers.StableDiffusionPipeline(**parts, **more)
        # Zero stands for "off" in diffusers' check of these, which a value next to it is not.
        pipe.enable_freeu(**{key: value or 1e-12 for key, value in case["freeu"].items()})
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = SAMPLERS[case.get("sampler", "euler")].from_config(parts["scheduler"].config)
    result = pipe(
        families.PROMPT,
        num_inference_steps=3,
        guidance_scale=case.get("guidance", 7.5),
        **({"guidance_rescale": case["guidance_rescale"]} if "guidance_rescale" in case else {}),
        width=case.get("width", 64),
        height=case.get("height", 64),
        generator=torch.Generator("cpu").manual_seed(42),
        output_type="latent",
        **arguments,
    ).images
    if "freeu" in case:
        pipe.disable_freeu()
    return result


def main() -> None:
    found = []
    with tempfile.TemporaryDirectory() as work, torch.no_grad():
        parts = models.load("sd15", Path(work))
        for case in CASES:
            latents = runs.numpy(run(parts, case))
            # Perturbed processors stay in the UNet.
            parts["unet"].set_default_attn_processor()
            found.append({
                "name": case["name"],
                "freeu": ",".join(f"{k}={v}" for k, v in case["freeu"].items()) if "freeu" in case else None,
                "pag": pag_text(case) if "pag" in case else None,
                "sag": case.get("sag", 0.0),
                "sampler": case.get("sampler", "euler"),
                "guidance": case.get("guidance", 7.5),
                "guidance_rescale": case.get("guidance_rescale", 0.0),
                "width": case.get("width", 64),
                "height": case.get("height", 64),
                "latents": [float(f"{value:.8g}") for value in latents.flatten().tolist()],
            })
    OUT.write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
