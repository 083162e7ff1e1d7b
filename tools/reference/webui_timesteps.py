"""Records what the webui's samplers on training timesteps give: tests/data/samplers/webui.json and webui_unet.json.

Run: python tools/reference/webui_timesteps.py   (needs requirements.txt and requirements-samplers.txt)
stable-diffusion-webui (from 1.6.0, DDIM CFG++ from 1.10.0) visits timesteps a fixed number apart from 1 up, goes from
each to the one below and ends at the lowest, without a step from there to the clean latents. The samplers are written
here from their papers on those timesteps: DDIM (Song et al. 2020, equation 12), the same with the unconditional noise
(Chung et al. 2024), and pseudo linear multistep (Liu et al. 2022, section 3.3) that begins with the mean of two slopes.

UniPC (Zhao et al. 2023, algorithms 5 to 8, with B(h) = h) has order 3 there and goes in even steps of continuous time from
the last timestep of training to the first, between which the logarithm of the signal is interpolated. webui_unet.json
has it on the fixtures' tiny SD1.5 and SD2.1, whose weights' latents it holds; it is the sampler of unet_runs.py that no
package can be the reference of, as diffusers' bh1 cannot end at sigma 0.
"""

import json
import tempfile
from pathlib import Path

import torch

import k_sampler_cases
from k_sampler_cases import OUT, PREDICTIONS, SHAPE, write
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


def time_uniform(steps: int) -> list:
    """Timesteps, and the logarithms of the signal there."""
    logs = 0.5 * alphas_cumprod().double().log()
    places = [999 - 999 * i / steps for i in range(steps + 1)]
    found = []
    for place in places:
        below = min(int(place), 998)
        found.append((1 - (place - below)) * logs[below] + (place - below) * logs[below + 1])
    return list(zip(places, found))


def uni_pc(x: torch.Tensor, steps: int, prediction: str, predict=network, order: int = 3) -> torch.Tensor:
    levels = [(t, log.exp(), (1 - (2 * log).exp()).sqrt()) for t, log in time_uniform(steps)]
    half_logs = [torch.log(signal / spread) for _, signal, spread in levels]

    def clean(x, index):
        t, signal, spread = levels[index]
        output = predict(x, torch.tensor([t], dtype=torch.float32))
        return ((x - spread * output) / signal if prediction == "epsilon" else signal * x - spread * output).float()

    known = [clean(x, 0)]
    for index in range(1, steps + 1):
        own = min(order, index, steps + 1 - index)
        _, signal, spread = levels[index]
        h = half_logs[index] - half_logs[index - 1]
        ratios = [(half_logs[index - 1 - back] - half_logs[index - 1]) / h for back in range(1, own)]
        differences = [(known[back] - known[0]) / ratio for back, ratio in enumerate(ratios, 1)]
        # The k-th phi function of -h times k!, over B(h) = -h.
        rights, phi, factorial = [], torch.expm1(-h) / -h - 1, 1
        for k in range(1, own + 1):
            rights.append(phi * factorial / -h)
            factorial *= k + 1
            phi = phi / -h - 1 / factorial
        powers = torch.stack([torch.stack([*ratios, torch.ones_like(h)]) ** k for k in range(own)])
        rights = torch.stack(rights)
        start = spread / levels[index - 1][2] * x - signal * torch.expm1(-h) * known[0]
        if own == 1:
            weights = []
        elif own == 2:
            weights = [0.5]
        else:
            weights = torch.linalg.solve(powers[:-1, :-1], rights[:-1])
        ahead = start + signal * h * sum(w * d for w, d in zip(weights, differences))
        if index == steps:
            return ahead.float()
        newest = clean(ahead.float(), index)
        weights = [0.5] if own == 1 else torch.linalg.solve(powers, rights)
        moved = sum(w * d for w, d in zip(weights, [*differences, newest - known[0]]))
        x = (start + signal * h * moved).float()
        known = [newest, *known[:2]]
    raise AssertionError


def run_uni_pc(case: dict) -> torch.Tensor:
    torch.manual_seed(case["seed"])
    return uni_pc(torch.randn(SHAPE), case["steps"], case["prediction"])


def cases() -> list:
    rows = []
    for sampler in ("ddim", "pndm", "ddim_cfg_pp"):
        for steps in STEPS:
            for prediction in PREDICTIONS:
                for eta in ({}, {"eta": 0.5}) if sampler != "pndm" and steps in (5, 20) else ({},):
                    rows.append({"sampler": sampler, "steps": steps, "prediction": prediction, "schedule": "ddim_uniform",
                                 "seed": 2000 + len(rows), **eta})
    for steps in (*STEPS, 50):
        for prediction in PREDICTIONS:
            rows.append({"sampler": "uni_pc", "steps": steps, "prediction": prediction, "seed": 2000 + len(rows)})
    return rows


def ended_early() -> list:
    """k-diffusion's samplers on the webui's KL Optimal, which ends at the smallest sigma of training."""
    names = ("euler", "euler_a", "heun", "dpm_2", "lms", "dpmpp_2s_a", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde")
    cases = [{"sampler": name, "steps": 10, "prediction": "epsilon", "schedule": "kl_optimal:smallest",
              "seed": 3000 + place} for place, name in enumerate(names)]
    return [{**case, "latents": k_sampler_cases.run(case).flatten().tolist()} for case in cases]


def unet_rows() -> list:
    import models
    import unet_runs

    rows = []
    with tempfile.TemporaryDirectory() as work, torch.no_grad():
        for family, steps, guidance in [("sd15", 5, 3.0), ("sd15", 10, 1.0), ("sd15", 20, 1.0), ("sd21", 10, 1.0)]:
            parts = models.load(family, Path(work))
            unet = unet_runs.Unet(parts, guidance)
            torch.manual_seed(unet_runs.SEED)
            latents = uni_pc(torch.randn(unet_runs.SHAPE), steps,
                             parts["scheduler"].config.get("prediction_type", "epsilon"), unet)
            rows.append({"family": family, "sampler": "uni_pc", "steps": steps, "guidance": guidance,
                         "latents": [float(f"{value:.7g}") for value in latents.flatten().tolist()]})
    return rows


def main() -> None:
    torch.set_num_threads(1)
    record = {"uni_pc": run_uni_pc}
    write("webui.json", [{**case, "latents": record.get(case["sampler"], run)(case).flatten().tolist()}
                         for case in cases()] + ended_early())
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in unet_rows())
    (OUT / "webui_unet.json").write_text(f'{{"seed":42,"cases":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
