"""Records samplers and levels as the webui, Forge and ComfyUI have them: tests/data/samplers/programs.json.

Run: python tools/reference/program_cases.py   (needs requirements.txt and requirements-samplers.txt)
k-diffusion's samplers, and those of webui_samplers.py that a program has under another method's name, with each program's
timesteps and scale of the first noise; and schedules with limits and a power of the caller's own.
"""

import json

import numpy as np
import torch

import k_sampler_cases
import k_schedules
from k_sampler_cases import OUT, PREDICTIONS, SHAPE, STEPS, short
from kdiffusion import VERSION, Model, sampling

PROGRAMS = ("webui", "forge", "comfyui")


def runs() -> list:
    rows = []

    def add(sampler, steps, prediction="epsilon", **more):
        rows.append({"sampler": sampler, "steps": steps, "prediction": prediction, "seed": 4000 + len(rows), **more})

    for program in PROGRAMS:
        for steps in STEPS:
            for prediction in PREDICTIONS:
                for sampler in ("euler", "dpmpp_2m"):
                    add(sampler, steps, prediction, levels_as=program)
            for sampler in ("euler", "euler_a", "dpmpp_2m", "dpm_2", "dpmpp_2s_a", "dpmpp_sde", "dpmpp_2m_sde"):
                add(sampler, steps, schedule="karras", levels_as=program)
        add("heun", 10, schedule="ddim_uniform", levels_as=program)
    for steps in STEPS:
        for prediction in PREDICTIONS:
            for sampler in ("sa_solver_comfy", "sa_solver_pece", "uni_pc_comfy", "uni_pc_bh2_comfy", "lcm_sigmas",
                            "lcm_webui"):
                add(sampler, steps, prediction)
                rules = {"levels_as": "comfyui"} if sampler != "lcm_webui" else {}
                add(sampler, steps, prediction, schedule="karras", **rules)
            for schedule in ("normal", "karras"):
                # ComfyUI's DDPM, which is Euler ancestral here.
                add("euler_a", steps, prediction, levels_as="comfyui", schedule=schedule, method="ddpm")
        for sampler in ("lcm_webui", "lcm_sigmas"):
            add(sampler, steps, schedule="sgm_uniform")
    for steps in (2, 3, 4):
        for sampler in ("uni_pc_comfy", "uni_pc_bh2_comfy", "sa_solver_comfy", "sa_solver_pece", "lcm_webui"):
            add(sampler, steps, schedule="karras")
    for sampler in ("sa_solver_comfy", "sa_solver_pece"):
        add(sampler, 10, eta=0.0)
        add(sampler, 10, eta=0.6, s_noise=1.1)
    for steps in STEPS:
        add("euler", steps, schedule="karras", levels_as="webui", full_start=True)
        add("euler", steps, schedule="karras", levels_as="webui", discard=True)
        add("dpm_2", steps, schedule="karras", levels_as="webui", discard=False)
    found = []
    for row in rows:
        latents = k_sampler_cases.run({**row, "sampler": row.get("method", row["sampler"])})
        assert latents.isfinite().all(), row
        found.append({**row, "latents": [short(v) for v in latents.flatten().tolist()]})
    return found


def limited(name: str, n: int, low: float, high: float, rho, inner) -> torch.Tensor:
    """A schedule between limits of the caller's own, as the webui calls its functions."""
    if name == "karras":
        return sampling.get_sigmas_karras(n, low, high, **({"rho": rho} if rho else {}))
    if name == "polyexponential":
        return sampling.get_sigmas_polyexponential(n, low, high, **({"rho": rho} if rho else {}))
    if name == "exponential":
        return sampling.get_sigmas_exponential(n, low, high)
    if name in ("normal", "sgm_uniform"):
        first, last = (inner.sigma_to_t(torch.tensor([s])).item() for s in (high, low))
        places = torch.linspace(first, last, n + (name == "sgm_uniform"))[:n]
        return k_schedules.with_zero(inner.t_to_sigma(places))
    if name == "kl_optimal:smallest":
        share = torch.arange(n + 1) / n
        return torch.tan(share * np.arctan(low) + (1 - share) * np.arctan(high))
    raise ValueError(name)


def schedules() -> list:
    inner = Model("epsilon").inner
    rows = []
    for n in (2, 5, 10, 20):
        for name in ("karras", "polyexponential", "exponential", "normal", "sgm_uniform", "kl_optimal:smallest"):
            for low, high in ((None, None), (0.1, 10.0), (None, 8.5), (0.05, None)):
                powers = {"karras": (None, 3.0, 9.5), "polyexponential": (None, 0.6, 2.0)}
                for rho in powers.get(name, (None,)):
                    if low is high is rho is None:
                        continue
                    ends = (low or inner.sigma_min.item(), high or inner.sigma_max.item())
                    found = limited(name, n, *ends, rho, inner)
                    row = {"schedule": name, "steps": n, "sigma_min": low, "sigma_max": high, "rho": rho}
                    rows.append({**{k: v for k, v in row.items() if v is not None},
                                 "sigmas": [short(v) for v in found.tolist()]})
    return rows


def main() -> None:
    torch.set_num_threads(1)
    meta = {"torch": torch.__version__, "k-diffusion": VERSION}
    parts = {"schedules": schedules(), "cases": runs()}
    texts = {name: ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) for name, rows in parts.items()}
    body = ",\n".join(f'"{name}":[\n{text}\n]' for name, text in texts.items())
    head = json.dumps({"recorded_with": meta, "shape": SHAPE})[:-1]
    (OUT / "programs.json").write_text(f"{head},\n{body}\n}}\n")


if __name__ == "__main__":
    main()
