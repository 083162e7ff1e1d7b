"""The sigmas of each schedule for some numbers of steps, on Stable Diffusion's training.

k-diffusion has karras, exponential, polyexponential and normal (its get_sigmas), diffusers has beta. The others are
in no package: they are written here from their definitions, in torch's f32 as the webuis compute them, and named so.
"""

import json
from pathlib import Path

import diffusers
import numpy as np
import scipy.stats
import torch

from kdiffusion import Model, sampling

# research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html
ALIGN_YOUR_STEPS = {
    "sd15": [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029],
    "sdxl": [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029],
}
# The webuis' "AYS GITS": 10 steps found by GITS, read as Align Your Steps' are.
ALIGN_YOUR_STEPS_GITS = {
    "sd15": [14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029],
    "sdxl": [14.615, 4.734, 2.567, 1.529, 0.987, 0.652, 0.418, 0.268, 0.179, 0.127, 0.029],
}
# github.com/zju-pi/diff-sampler, gits-main, as ComfyUI's node (comfy_extras/nodes_gits.py) has it: for each coefficient
# the levels of 2 to 20 steps.
GITS = json.loads((Path(__file__).parent / "gits_tables.json").read_text())


def with_zero(values) -> torch.Tensor:
    return torch.tensor([float(v) for v in values] + [0.0], dtype=torch.float32)


def log_linear(table: list, n: int) -> np.ndarray:
    """n numbers falling along the table's logarithms."""
    known = np.log(table[::-1])
    places = np.linspace(0, 1, n)[::-1] if n > 1 else np.ones(1)
    return np.exp(np.interp(places, np.linspace(0, 1, len(known)), known))


def gits(n: int, coefficient: str = "1.20") -> torch.Tensor:
    """n + 1 numbers of the table, of which ComfyUI makes the last 0."""
    rows = GITS[coefficient]
    if n < 2:
        return with_zero(rows[0][:1])
    return with_zero((rows[n - 2] if n - 2 < len(rows) else log_linear(rows[-1], n + 1))[:-1])


def gits_cases() -> list:
    """Sums of the levels, and of each times its place, for every coefficient and number of steps."""
    found = []
    for coefficient in GITS:
        for n in (*range(1, 23), 33, 50):
            levels = gits(n, coefficient).double()
            sums = [levels.sum().item(), (levels * torch.arange(1, n + 2)).sum().item()]
            found.append({"coefficient": coefficient, "steps": n, "sums": [round(value, 6) for value in sums]})
    return found


def beta(n: int) -> torch.Tensor:
    """diffusers' `_convert_to_beta`, which the webui's is too; it wants the limits as the ends of an array."""
    scheduler = diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                                 use_beta_sigmas=True)
    table = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
    return with_zero(scheduler._convert_to_beta(in_sigmas=table.flip(0), num_inference_steps=n))


def beta_of_timesteps(n: int, table: torch.Tensor) -> torch.Tensor:
    """ComfyUI's: quantiles of the timesteps, each taken once."""
    places = np.rint(scipy.stats.beta.ppf(1 - np.linspace(0, 1, n, endpoint=False), 0.6, 0.6) * (len(table) - 1))
    return with_zero(table[int(t)] for t in dict.fromkeys(places))


def linear_quadratic(n: int, largest: torch.Tensor) -> torch.Tensor:
    """A line to a share of 0.025 over half of the steps, then the parabola with its slope that ends at 1."""
    half = n // 2
    if half == 0:
        return torch.tensor([1.0, 0.0]) * largest
    slope = 0.025 / half
    rest = n - half
    bend = (1 - 0.025 - slope * rest) / rest ** 2
    clean = [slope * i for i in range(half)]
    clean += [0.025 + slope * (i - half) + bend * (i - half) ** 2 for i in range(half, n)] + [1.0]
    return torch.tensor([1 - c for c in clean]) * largest


def sigmas(name: str, n: int, model: Model) -> torch.Tensor:
    inner = model.inner
    table = inner.sigmas
    low, high = inner.sigma_min.item(), inner.sigma_max.item()
    count = len(table)
    if name == "normal":
        return inner.get_sigmas(n)
    if name == "karras":
        return sampling.get_sigmas_karras(n, low, high)
    if name in ("exponential", "lu"):
        return sampling.get_sigmas_exponential(n, low, high)
    if name == "polyexponential":
        return sampling.get_sigmas_polyexponential(n, low, high)
    if name == "sgm_uniform":
        return with_zero(inner.t_to_sigma(torch.linspace(count - 1, 0, n + 1)[:-1]))
    if name == "simple":
        return with_zero(table[count - 1 - int(i * (count / n))] for i in range(n))
    if name == "ddim_uniform":
        return with_zero(table[1::max(count // n, 1)].flip(0))
    if name == "beta":
        return beta(n)
    if name == "beta:timesteps":
        return beta_of_timesteps(n, table)
    if name == "kl_optimal:smallest":
        share = torch.arange(n + 1) / n
        return torch.tan(share * np.arctan(low) + (1 - share) * np.arctan(high))
    if name == "linear_quadratic":
        return linear_quadratic(n, inner.sigma_max)
    if name == "kl_optimal":
        share = torch.arange(n, dtype=torch.float32) / max(n - 1, 1)
        return with_zero(torch.tan(share * np.arctan(low) + (1 - share) * np.arctan(high)))
    if name.startswith("align_your_steps"):
        # The webui takes n of the table and puts a 0 behind.
        tables = ALIGN_YOUR_STEPS_GITS if "gits" in name else ALIGN_YOUR_STEPS
        return with_zero(log_linear(tables["sdxl" if name.endswith("sdxl") else "sd15"], n))
    if name == "gits":
        return gits(n)
    if name == "turbo":
        steps = (torch.arange(1, n + 1) * (count / n) - 1).flip(0).round().long().clip(0, count - 1)
        return with_zero(table[steps])
    raise ValueError(name)


NAMES = ["normal", "simple", "karras", "exponential", "polyexponential", "sgm_uniform", "ddim_uniform", "beta",
         "linear_quadratic", "kl_optimal", "align_your_steps", "align_your_steps_sdxl",
         "align_your_steps_gits", "align_your_steps_gits_sdxl", "gits", "turbo", "lu", "beta:timesteps",
         "kl_optimal:smallest"]


def cases() -> list:
    model = Model("epsilon")
    return [{"schedule": name, "steps": n, "sigmas": sigmas(name, n, model).tolist()}
            for name in NAMES for n in (1, 2, 4, 5, 7, 10, 11, 20, 33, 50)]
