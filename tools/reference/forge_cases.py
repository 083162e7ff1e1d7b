"""Records what Forge's scripts for FreeU and self-attention guidance make: tests/data/guidance/forge*.json.

Run: python tools/reference/forge_cases.py
No package holds them; they are written out here by the rules of stable-diffusion-webui-forge
(extensions-builtin/sd_forge_freeu and sd_forge_sag), which are those of ComfyUI's FreeU_V2 and
SelfAttentionGuidance. forge.json has their parts alone, forge_runs.json whole runs of the fixtures' tiny SD1.5: its
UNet in diffusers, with the second version of FreeU in the place of diffusers' own, and Euler steps whose guided
estimate of the clean latents is moved.
"""

import json
import tempfile
from pathlib import Path

import diffusers
import torch
import torch.nn.functional as F
from diffusers.models.unets import unet_2d_blocks
from diffusers.pipelines.deprecated.stable_diffusion_sag.pipeline_stable_diffusion_sag import CrossAttnStoreProcessor

import families
import models
import runs

OUT = Path(__file__).resolve().parents[2] / "tests/data/guidance"
STEPS = 3
GUIDANCE = 7.5
CASES = [
    {"name": "the second freeu", "freeu": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}, "width": 96, "height": 128},
    {"name": "the second freeu at odd sizes", "freeu": {"b1": 1.1, "b2": 0.6, "s1": 0.5, "s2": 1.7}, "width": 72,
     "height": 88},
    {"name": "forge's sag", "sag": {"scale": 0.5, "sigma": 2.0, "threshold": 1.0}, "width": 96, "height": 128},
    {"name": "forge's sag at odd sizes", "sag": {"scale": -1.5, "sigma": 0.7, "threshold": 0.98}, "width": 72,
     "height": 88},
    {"name": "both", "sag": {"scale": 2.0, "sigma": 5.0, "threshold": 1.02},
     "freeu": {"b1": 1.2, "b2": 1.3, "s1": 0.8, "s2": 0.4}, "width": 96, "height": 64},
    {"name": "the second freeu for the first steps", "freeu": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2, "end": 0.3},
     "width": 96, "height": 128},
    {"name": "the second freeu for the last step", "freeu": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2, "start": 0.4},
     "width": 96, "height": 128},
    {"name": "comfyui's first freeu", "freeu": {"version": "1-comfy", "b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2}, "width": 72,
     "height": 88},
]


def strengthened(h: torch.Tensor, factor: float) -> torch.Tensor:
    """Half of the channels, the more the higher a position's mean lies in its range; NaN on maps of one position."""
    mean = h.mean(1, keepdim=True)
    flat = mean.flatten(1)
    low, high = flat.min(1).values.view(-1, 1, 1, 1), flat.max(1).values.view(-1, 1, 1, 1)
    h = h.clone()
    half = h.shape[1] // 2
    h[:, :half] *= (factor - 1) * ((mean - low) / (high - low)) + 1
    return h


def low_scaled(x: torch.Tensor, scale: float) -> torch.Tensor:
    """The four lowest frequencies of the shifted transform, scaled."""
    spectrum = torch.fft.fftshift(torch.fft.fftn(x.float(), dim=(-2, -1)), dim=(-2, -1))
    row, column = x.shape[-2] // 2, x.shape[-1] // 2
    spectrum[..., row - 1:row + 1, column - 1:column + 1] *= scale
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=(-2, -1)), dim=(-2, -1)).real


def blur(x: torch.Tensor, sigma: float) -> torch.Tensor:
    places = torch.linspace(-4, 4, 9)
    weights = torch.exp(-0.5 * (places / sigma) ** 2)
    weights = weights / weights.sum()
    kernel = torch.outer(weights, weights).expand(x.shape[1], 1, 9, 9)
    return F.conv2d(F.pad(x, [4] * 4, mode="reflect"), kernel, groups=x.shape[1])


def degraded(clean: torch.Tensor, received: torch.Tensor, sigma: float, threshold: float) -> torch.Tensor:
    """Clean latents, blurred where the positions (rows, columns) receive more attention than the threshold."""
    mask = (received > threshold).float()[None, None]
    mask = F.interpolate(mask, clean.shape[-2:])
    return blur(clean, sigma) * mask + clean * (1 - mask)


def freeu_in(unet, factors: dict, state: dict):
    """In the place of diffusers' own, while `state` says so."""
    outermost = unet.config.block_out_channels[0]
    by_channels = {4 * outermost: (factors["b1"], factors["s1"]), 2 * outermost: (factors["b2"], factors["s2"])}

    def apply(resolution_idx, hidden_states, res_hidden_states, **_):
        found = by_channels.get(hidden_states.shape[1])
        if found is None:
            return hidden_states, res_hidden_states
        if not state["on"]:
            return hidden_states, res_hidden_states
        if factors.get("version") == "1-comfy":
            half = hidden_states.shape[1] // 2
            first = hidden_states[:, :half] * found[0]
            return torch.cat([first, hidden_states[:, half:]], 1), low_scaled(res_hidden_states, found[1])
        return strengthened(hidden_states, found[0]), low_scaled(res_hidden_states, found[1])

    unet.enable_freeu(s1=1.0, s2=1.0, b1=1.0, b2=1.0)
    return apply


def run(parts: dict, case: dict) -> torch.Tensor:
    unet = parts["unet"]
    pipe = diffusers.StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None,
                                             requires_safety_checker=False)
    width, height = case.get("width", 64), case.get("height", 64)
    scheduler = diffusers.EulerDiscreteScheduler.from_config(parts["scheduler"].config)
    scheduler.set_timesteps(STEPS)
    prompt, negative = pipe.encode_prompt(families.PROMPT, "cpu", 1, True)
    x = torch.randn((1, 4, height // pipe.vae_scale_factor, width // pipe.vae_scale_factor),
                    generator=torch.Generator("cpu").manual_seed(42)) * scheduler.init_noise_sigma
    store = CrossAttnStoreProcessor()
    watched = unet.mid_block.attentions[0].transformer_blocks[0].attn1
    original, own = watched.processor, unet_2d_blocks.apply_freeu
    if "sag" in case:
        watched.processor = store
    state = {"on": True}
    if "freeu" in case:
        unet_2d_blocks.apply_freeu = freeu_in(unet, case["freeu"], state)
    size = []
    hook = unet.mid_block.register_forward_hook(lambda module, inputs, output: size.append(output.shape[-2:]))

    def clean_of(x, text, sigma, t):
        noise = unet(x / (sigma ** 2 + 1) ** 0.5, t, encoder_hidden_states=text).sample
        return x - sigma * noise

    for index, (sigma, lower, t) in enumerate(zip(scheduler.sigmas[:-1], scheduler.sigmas[1:], scheduler.timesteps)):
        # Forge's script learns of a step when the model has been asked for it.
        place = max(index - 1, 0) / (STEPS - 1)
        freeu = case.get("freeu", {})
        state["on"] = freeu.get("start", 0) <= place <= freeu.get("end", 1)
        without = clean_of(x, negative, sigma, t)
        received = store.attention_probs.mean(0).sum(0).view(size[-1]) if "sag" in case else None
        clean = without + GUIDANCE * (clean_of(x, prompt, sigma, t) - without)
        if "sag" in case:
            sag = case["sag"]
            soft = degraded(without, received, sag["sigma"], sag["threshold"])
            clean = clean + sag["scale"] * (soft - clean_of(soft + x - without, negative, sigma, t))
        x = x + (x - clean) / sigma * (lower - sigma)
    hook.remove()
    watched.processor, unet_2d_blocks.apply_freeu = original, own
    unet.disable_freeu()
    return x


def text(settings: dict, **more) -> str:
    return ",".join(f"{key}={value}" for key, value in {**settings, **more}.items())


def shaped(tensor: torch.Tensor) -> dict:
    return {"shape": list(tensor.shape), "values": values(tensor)}


def values(tensor: torch.Tensor) -> list:
    return [float(f"{value:.8g}") for value in tensor.flatten().tolist()]


def of_parts() -> dict:
    generator = torch.Generator("cpu").manual_seed(11)
    freeu = []
    for shape, factor in [((2, 6, 3, 4), 1.3), ((1, 5, 4, 3), 0.4), ((1, 2, 1, 2), 2.0)]:
        h = torch.randn(shape, generator=generator)
        freeu.append({"factor": factor, "map": shaped(h), "changed": shaped(strengthened(h, factor))})
    sag = []
    for (height, width), inner, sigma, threshold in [
        ((8, 8), (4, 4), 2.0, 1.0), ((9, 11), (5, 6), 0.6, 0.9), ((5, 12), (3, 6), 9.5, 1.1), ((8, 6), (2, 2), 1.0, 4.0),
    ]:
        clean = torch.randn((1, 2, height, width), generator=generator)
        received = torch.rand(inner, generator=generator) * 2
        settings = {"scale": 0.5, "sigma": sigma, "threshold": threshold}
        sag.append({"settings": text(settings, rule="forge"), "clean": shaped(clean), "received": shaped(received),
                    "blurred": shaped(degraded(clean, received, sigma, threshold))})
    return {"freeu": freeu, "sag": sag}


def of_runs() -> list:
    found = []
    with tempfile.TemporaryDirectory() as work, torch.no_grad():
        parts = models.load("sd15", Path(work))
        for case in CASES:
            found.append({
                "name": case["name"],
                "freeu": text({"version": 2, **case["freeu"]}) if "freeu" in case else None,
                "pag": None,
                "sag": text(case["sag"], rule="forge") if "sag" in case else 0.0,
                "sampler": "euler",
                "guidance": GUIDANCE,
                "guidance_rescale": 0.0,
                "width": case.get("width", 64),
                "height": case.get("height", 64),
                "latents": values(torch.from_numpy(runs.numpy(run(parts, case)))),
            })
    return found


def main() -> None:
    for name, content in [("forge.json", of_parts()), ("forge_runs.json", of_runs())]:
        (OUT / name).write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
