"""Records what guidance makes of two predictions: tests/data/guidance/guidance.json.

Run: python tools/reference/guidance_cases.py
APG, CFG-Zero* and the rescaling are diffusers' own functions. Dynamic
thresholding, which no package holds, is written out here by the rules of
mcmonkeyprojects/sd-dynamic-thresholding (dynthres_core.py).
"""

import json
import math
from pathlib import Path

import torch
from diffusers.guiders.adaptive_projected_guidance import AdaptiveProjectedGuidance, MomentumBuffer
from diffusers.guiders.classifier_free_zero_star_guidance import ClassifierFreeZeroStarGuidance
from diffusers.guiders.guider_utils import rescale_noise_cfg

OUT = Path(__file__).resolve().parents[2] / "tests/data/guidance/guidance.json"
SHAPE = (1, 4, 3, 5)
SCALE = 7.5
COUNT = 4
MODES = {
    "constant": lambda s, v: 1.0,
    "linear-down": lambda s, v: 1.0 - s,
    "cosine-down": lambda s, v: math.cos(s * 1.5707),
    "half-cosine-down": lambda s, v: math.cos(s),
    "linear-up": lambda s, v: s,
    "cosine-up": lambda s, v: 1.0 - math.cos(s * 1.5707),
    "half-cosine-up": lambda s, v: 1.0 - math.cos(s),
    "power-up": lambda s, v: s**v,
    "power-down": lambda s, v: 1.0 - s**v,
    "linear-repeating": lambda s, v: abs((s * v) % 1.0 - 0.5) * 2,
    "cosine-repeating": lambda s, v: math.cos(s * 6.28318 * v) * 0.5 + 0.5,
    "sawtooth": lambda s, v: (s * v) % 1.0,
}


def values(tensor: torch.Tensor) -> list[float]:
    return [float(f"{value:.8g}") for value in tensor.flatten().tolist()]


def evaluations() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Predictions without and with the prompt, alike as a model's are."""
    generator = torch.Generator("cpu").manual_seed(7)
    pairs = []
    for index in range(COUNT):
        base = torch.randn(SHAPE, generator=generator)
        step = torch.randn(SHAPE, generator=generator)
        uncond = base + 0.1 * index
        pairs.append((uncond, base + 0.3 * step + torch.arange(4.0).view(1, 4, 1, 1) * 0.2))
    return pairs


def of_apg(pairs: list, momentum: float, threshold: float, eta: float) -> list:
    guider = AdaptiveProjectedGuidance(SCALE, momentum or None, threshold, eta=eta)
    guider.momentum_buffer = MomentumBuffer(momentum) if momentum else None
    return [values(guider.forward(cond, uncond).pred) for uncond, cond in pairs]


def of_zero_star(pairs: list, zero_steps: int) -> list:
    guider = ClassifierFreeZeroStarGuidance(SCALE, zero_init_steps=zero_steps)
    found = []
    for step, (uncond, cond) in enumerate(pairs):
        guider.set_state(step, COUNT, torch.tensor(0))
        found.append(values(guider.forward(cond, uncond).pred))
    return found


def thresholded(uncond, cond, index, *, mimic=7.0, percentile=100.0, mimic_mode="constant",
                mimic_min=0.0, cfg_mode="constant", cfg_min=0.0, value=4.0,
                channels="separate", start="mean", measure="ad", phi=1.0):
    share = index / (COUNT - 1)

    def course(scale, mode, low):
        return (scale - low) * MODES[mode](share, value) + low

    relative = cond - uncond
    target = uncond + relative * course(SCALE, cfg_mode, cfg_min)
    like = uncond + relative * course(mimic, mimic_mode, mimic_min)
    mean = target.mean(dim=(2, 3), keepdim=True)
    own = target - mean
    like = like - like.mean(dim=(2, 3), keepdim=True)
    rows = (lambda t: t.flatten(2)) if channels == "separate" else (lambda t: t.flatten(1)[:, None])
    if measure == "std":
        wanted, found = (rows(t).std(dim=2) for t in (like, own))
    else:
        wanted = rows(like).abs().amax(dim=2)
        found = torch.quantile(rows(own).abs(), percentile / 100.0, dim=2)
    wanted, found = wanted[..., None, None], found[..., None, None]
    if start == "zero":
        result = target * (wanted / found)
    elif measure == "std":
        result = own / found * wanted + mean
    else:
        limit = torch.maximum(wanted, found)
        result = torch.minimum(torch.maximum(own, -limit), limit) / limit * wanted + mean
    return result if phi == 1.0 else result * phi + target * (1.0 - phi)


def of_thresholding(pairs: list, **settings) -> list:
    return [values(thresholded(u, c, i, **settings)) for i, (u, c) in enumerate(pairs)]


def cases(pairs: list) -> list:
    found = []
    for momentum, threshold, eta in [(0.0, 0.0, 1.0), (0.0, 15.0, 0.0), (-0.5, 2.5, 0.0), (-0.75, 1.0, 0.5)]:
        text = f"apg:momentum={momentum},threshold={threshold},eta={eta}"
        found.append((text, of_apg(pairs, momentum, threshold, eta)))
    for zero_steps in (0, 2):
        found.append((f"cfg-zero:zero-steps={zero_steps}", of_zero_star(pairs, zero_steps)))
    thresholds = [
        {"mimic": 3.0},
        {"mimic": 3.0, "percentile": 90.0, "channels": "together"},
        {"mimic": 2.0, "measure": "std", "phi": 0.7},
        {"mimic": 2.0, "start": "zero", "percentile": 95.0},
        {"mimic": 2.0, "start": "zero", "measure": "std", "channels": "together"},
    ]
    thresholds += [
        {"mimic": 5.0, "mimic_mode": mode, "mimic_min": 1.0, "cfg_mode": other, "cfg_min": 2.5, "value": 3.5}
        for mode, other in zip(list(MODES)[1::2], list(MODES)[2::2] + ["sawtooth"])
    ]
    for settings in thresholds:
        text = ",".join(f"{key.replace('_', '-')}={value}" for key, value in settings.items())
        found.append((f"dynthres:{text}", of_thresholding(pairs, **settings)))
    return [{"method": text, "guided": guided} for text, guided in found]


def rescales(pairs: list) -> list:
    found = []
    for share in (0.3, 1.0):
        guided = [
            values(rescale_noise_cfg(uncond + SCALE * (cond - uncond), cond, share))
            for uncond, cond in pairs
        ]
        found.append({"share": share, "guided": guided})
    return found


def main() -> None:
    pairs = evaluations()
    document = {
        "shape": SHAPE,
        "scale": SCALE,
        "uncond": [values(uncond) for uncond, _ in pairs],
        "cond": [values(cond) for _, cond in pairs],
        "cases": cases(pairs),
        "rescale": rescales(pairs),
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(document, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
