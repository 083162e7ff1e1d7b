"""Records what the webui's samplers on training timesteps give: tests/data/samplers/webui.json.

Run: python tools/reference/webui_timesteps.py   (needs requirements.txt and requirements-samplers.txt)
stable-diffusion-webui (from 1.6.0, DDIM CFG++ from 1.10.0) visits timesteps a fixed number apart from 1 up, goes from
each to the one below and ends at the lowest, without a step from there to the clean latents. The samplers are written
here from their papers on those timesteps: DDIM (Song et al. 2020, equation 12), the same with the unconditional noise
(Chung et al. 2024), and pseudo linear multistep (Liu et al. 2022, section 3.3) that begins with the mean of two slopes.
"""

import torch

from k_sampler_cases import PREDICTIONS, SHAPE, write
from kdiffusion import alphas_cumprod, network

STEPS = (2, 3, 5, 10, 20, 30)


def timesteps(steps: int) -> list:
    return [min(t + 1, 999) for t in range(0, 1000, 1000 // steps)][::-1]


def noise_of(x: torch.Tensor, t: int, alpha: torch.Tensor, prediction: str, share: float = 1.0) -> torch.Tensor:
    """The noise in x that the dummy network, or a share of it, predicts."""
    output = share * network(x, torch.tensor([t]))
    return output if prediction == "epsilon" else alpha.sqrt() * output + (1 - alpha).sqrt() * x


def run(case: dict) -> torch.Tensor:
    torch.manual_seed(case["seed"])
    x = torch.randn(SHAPE)
    alphas, prediction, eta = alphas_cumprod(), case["prediction"], case.get("eta", 0.0)
    visited = timesteps(case["steps"])
    known = []

    def move(x, noise, direction, a, b, deviation=0.0):
        clean = (x - (1 - a).sqrt() * noise) / a.sqrt()
        return b.sqrt() * clean + (1 - b - deviation ** 2).clamp(min=0).sqrt() * direction

    for t, lower in zip(visited[:-1], visited[1:]):
        a, b = alphas[t], alphas[lower]
        noise = noise_of(x, t, a, prediction)
        if case["sampler"] == "pndm":
            known = [noise, *known[:3]]
            if len(known) == 1:
                ahead = move(x, noise, noise, a, b)
                noise = (noise + noise_of(ahead, lower, b, prediction)) / 2
            else:
                weights = {2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}
                noise = sum(w * n for w, n in zip(weights[len(known)], known))
            x = move(x, noise, noise, a, b)
            continue
        guided = case["sampler"] == "ddim_cfg_pp"
        direction = noise_of(x, t, a, prediction, 0.9) if guided else noise
        deviation = eta * ((1 - b) / (1 - a) * (1 - a / b)).clamp(min=0).sqrt()
        x = move(x, noise, direction, a, b, deviation)
        if eta > 0:
            x = x + deviation * torch.randn_like(x)
    return x


def cases() -> list:
    rows = []
    for sampler in ("ddim", "pndm", "ddim_cfg_pp"):
        for steps in STEPS:
            for prediction in PREDICTIONS:
                for eta in ({}, {"eta": 0.5}) if sampler != "pndm" and steps in (5, 20) else ({},):
                    rows.append({"sampler": sampler, "steps": steps, "prediction": prediction, "schedule": "ddim_uniform",
                                 "seed": 2000 + len(rows), **eta})
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    write("webui.json", [{**case, "latents": run(case).flatten().tolist()} for case in cases()])
