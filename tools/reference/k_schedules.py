"""The sigmas of each schedule for some numbers of steps, on Stable Diffusion's training.

k-diffusion has karras, exponential, polyexponential and normal (its get_sigmas), diffusers has beta. The others are
in no package: they are written here from their definitions, in torch's f32 as the webuis compute them, and named so.
"""

import diffusers
import numpy as np
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
# github.com/zju-pi/diff-sampler, gits-main, coefficient 1.2: 2 to 20 steps.
GITS = [
    [14.61464119, 0.803307, 0.02916753],
    [14.61464119, 1.56271636, 0.52423614, 0.02916753],
    [14.61464119, 2.36326075, 0.92192322, 0.36617002, 0.02916753],
    [14.61464119, 2.84484982, 1.24153244, 0.59516323, 0.25053367, 0.02916753],
    [14.61464119, 5.85520077, 2.05039096, 0.95350921, 0.45573691, 0.17026083, 0.02916753],
    [14.61464119, 5.85520077, 2.45070267, 1.24153244, 0.64427125, 0.29807833, 0.09824532, 0.02916753],
    [14.61464119, 5.85520077, 2.45070267, 1.36964464, 0.803307, 0.45573691, 0.25053367, 0.09824532, 0.02916753],
    [14.61464119, 5.85520077, 2.84484982, 1.61558151, 0.95350921, 0.59516323, 0.36617002, 0.19894916, 0.09824532,
     0.02916753],
    [14.61464119, 5.85520077, 2.84484982, 1.67050016, 1.08895338, 0.74807048, 0.50118381, 0.32104823, 0.19894916,
     0.09824532, 0.02916753],
    [14.61464119, 5.85520077, 2.95596409, 1.84880662, 1.24153244, 0.83188516, 0.59516323, 0.41087446, 0.27464288,
     0.17026083, 0.09824532, 0.02916753],
    [14.61464119, 5.85520077, 3.07277966, 1.98035145, 1.36964464, 0.95350921, 0.69515091, 0.50118381, 0.36617002,
     0.25053367, 0.17026083, 0.09824532, 0.02916753],
    [14.61464119, 6.77309084, 3.46139455, 2.36326075, 1.56271636, 1.08895338, 0.803307, 0.59516323, 0.45573691,
     0.34370604, 0.25053367, 0.17026083, 0.09824532, 0.02916753],
    [14.61464119, 6.77309084, 3.46139455, 2.45070267, 1.61558151, 1.162866, 0.86115354, 0.64427125, 0.50118381,
     0.38853383, 0.29807833, 0.22545385, 0.17026083, 0.09824532, 0.02916753],
    [14.61464119, 7.49001646, 4.65472794, 3.07277966, 2.12350607, 1.51179266, 1.08895338, 0.83188516, 0.64427125,
     0.50118381, 0.38853383, 0.29807833, 0.22545385, 0.17026083, 0.09824532, 0.02916753],
    [14.61464119, 7.49001646, 4.65472794, 3.07277966, 2.12350607, 1.51179266, 1.08895338, 0.83188516, 0.64427125,
     0.50118381, 0.41087446, 0.32104823, 0.25053367, 0.19894916, 0.13792117, 0.09824532, 0.02916753],
    [14.61464119, 7.49001646, 4.65472794, 3.07277966, 2.12350607, 1.51179266, 1.08895338, 0.83188516, 0.64427125,
     0.50118381, 0.41087446, 0.34370604, 0.27464288, 0.22545385, 0.17026083, 0.13792117, 0.09824532, 0.02916753],
    [14.61464119, 7.49001646, 4.65472794, 3.07277966, 2.19988537, 1.61558151, 1.20157266, 0.92192322, 0.72133851,
     0.57119018, 0.45573691, 0.36617002, 0.29807833, 0.25053367, 0.19894916, 0.17026083, 0.13792117, 0.09824532,
     0.02916753],
    [14.61464119, 7.49001646, 4.65472794, 3.07277966, 2.19988537, 1.61558151, 1.24153244, 0.95350921, 0.74807048,
     0.59516323, 0.4783645, 0.38853383, 0.32104823, 0.27464288, 0.22545385, 0.19894916, 0.17026083, 0.13792117,
     0.09824532, 0.02916753],
    [14.61464119, 7.49001646, 4.65472794, 3.07277966, 2.19988537, 1.61558151, 1.24153244, 0.95350921, 0.74807048,
     0.59516323, 0.50118381, 0.41087446, 0.34370604, 0.29807833, 0.25053367, 0.22545385, 0.19894916, 0.17026083,
     0.13792117, 0.09824532, 0.02916753],
]


def with_zero(values) -> torch.Tensor:
    return torch.tensor([float(v) for v in values] + [0.0], dtype=torch.float32)


def log_linear(table: list, n: int) -> np.ndarray:
    """n numbers falling along the table's logarithms."""
    known = np.log(table[::-1])
    places = np.linspace(0, 1, n)[::-1] if n > 1 else np.ones(1)
    return np.exp(np.interp(places, np.linspace(0, 1, len(known)), known))


def gits(n: int) -> torch.Tensor:
    """n + 1 numbers of the table, of which ComfyUI makes the last 0."""
    if n < 2:
        return with_zero(GITS[0][:1])
    return with_zero((GITS[n - 2] if n - 2 < len(GITS) else log_linear(GITS[-1], n + 1))[:-1])


def beta(n: int) -> torch.Tensor:
    """diffusers' `_convert_to_beta`, which the webui's is too; it wants the limits as the ends of an array."""
    scheduler = diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                                 use_beta_sigmas=True)
    table = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
    return with_zero(scheduler._convert_to_beta(in_sigmas=table.flip(0), num_inference_steps=n))


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
         "align_your_steps_gits", "align_your_steps_gits_sdxl", "gits", "turbo", "lu"]


def cases() -> list:
    model = Model("epsilon")
    return [{"schedule": name, "steps": n, "sigmas": sigmas(name, n, model).tolist()}
            for name in NAMES for n in (1, 2, 4, 5, 7, 10, 11, 20, 33, 50)]
