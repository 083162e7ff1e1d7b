"""Records what k-diffusion's samplers and the webuis' schedules give: tests/data/samplers/*.json.

Run: python tools/reference/k_sampler_cases.py   (needs requirements.txt and requirements-samplers.txt)
schedules.json: sigmas of every schedule. gits.json: sums of those of every coefficient of GITS. brownian.json: torchsde's noise between sigmas. trajectories.json: final latents of every sampler on sigmas, run as a webui
runs it: noise of torch's CPU generator times the first sigma, further noise from the same generator or, for the SDE
samplers, from torchsde's Brownian tree with the picture's seed. diffusers.json: samplers that are diffusers' own, as
sampler_cases.py has them for others.
"""

import json
import math
from pathlib import Path

import diffusers
import numpy as np
import torch

import k_schedules
import sampler_cases
import webui_samplers
from kdiffusion import VERSION, Model, Thinned, alphas_cumprod, network, sampling

OUT = Path(__file__).resolve().parents[2] / "tests/data/samplers"
SHAPE = (1, 2, 2, 4)
STEPS = (5, 10, 20)
PREDICTIONS = ("epsilon", "v_prediction")

# Ours: the function, and the schedule that is the sampler's own in the webui.
K_DIFFUSION = {
    "euler": (sampling.sample_euler, "normal"),
    "euler_a": (sampling.sample_euler_ancestral, "normal"),
    "heun": (sampling.sample_heun, "normal"),
    "dpm_2": (sampling.sample_dpm_2, "karras"),
    "dpm_2_a": (sampling.sample_dpm_2_ancestral, "karras"),
    "lms": (sampling.sample_lms, "normal"),
    "dpmpp_2s_a": (sampling.sample_dpmpp_2s_ancestral, "karras"),
    "dpmpp_sde": (sampling.sample_dpmpp_sde, "karras"),
    "dpmpp_2m_sde": (sampling.sample_dpmpp_2m_sde, "exponential"),
    "dpmpp_2m_sde_heun": (lambda *a, **k: sampling.sample_dpmpp_2m_sde(*a, solver_type="heun", **k), "exponential"),
    "dpmpp_3m_sde": (sampling.sample_dpmpp_3m_sde, "exponential"),
}
WRITTEN_HERE = {
    "restart": (webui_samplers.restart, "karras"),
    "heunpp2": (webui_samplers.heunpp2, "normal"),
    "ipndm": (webui_samplers.ipndm, "normal"),
    "ipndm_v": (webui_samplers.ipndm_v, "normal"),
    "deis": (webui_samplers.deis, "normal"),
    "res_multistep": (webui_samplers.res_multistep, "normal"),
    "gradient_estimation": (webui_samplers.gradient_estimation, "normal"),
    "er_sde": (webui_samplers.er_sde, "normal"),
    "euler_cfg_pp": (webui_samplers.euler_cfg_pp, "normal"),
    "euler_a_cfg_pp": (lambda *a, **k: webui_samplers.euler_cfg_pp(*a, **{"eta": 1.0, **k}), "normal"),
}
# Programs' own of names that are another method's elsewhere; program_cases.py records them.
OF_PROGRAMS = {
    "sa_solver_comfy": (webui_samplers.sa_solver, "normal"),
    "sa_solver_pece": (lambda *a, **k: webui_samplers.sa_solver(*a, again=True, **k), "normal"),
    "uni_pc_comfy": (webui_samplers.uni_pc, "normal"),
    "uni_pc_bh2_comfy": (lambda *a: webui_samplers.uni_pc(*a, variant="bh2"), "normal"),
    "lcm_sigmas": (webui_samplers.lcm, "normal"),
    "lcm_webui": (lambda *a: webui_samplers.lcm(*a, boundary=True), "normal"),
    "ddpm": (webui_samplers.ddpm, "normal"),
    "dpmpp_2m": (sampling.sample_dpmpp_2m, "normal"),
}
# diffusers' schedulers that a checkpoint may name, which run as there on such a checkpoint.
OF_CHECKPOINTS = {
    "heun": diffusers.HeunDiscreteScheduler,
    "lms": diffusers.LMSDiscreteScheduler,
    "dpm_2": diffusers.KDPM2DiscreteScheduler,
    "dpm_2_a": diffusers.KDPM2AncestralDiscreteScheduler,
    "dpmpp_2s": diffusers.DPMSolverSinglestepScheduler,
    "deis_multistep": diffusers.DEISMultistepScheduler,
    "sa_solver": diffusers.SASolverScheduler,
}
SDE = {"dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde"}
CHURNED = {"euler", "heun", "dpm_2", "heunpp2"}
ETA = {"euler_a", "dpm_2_a", "dpmpp_2s_a", "res_multistep", "euler_cfg_pp", "euler_a_cfg_pp", *SDE}
# The webui makes one step more and leaves out the last sigma above 0.
DISCARDS = {"dpm_2", "dpm_2_a", "dpmpp_3m_sde", "uni_pc_comfy", "uni_pc_bh2_comfy"}


def run(case: dict, model: Model | None = None, shape: tuple = SHAPE) -> torch.Tensor:
    name, seed = case["sampler"], case["seed"]
    model = model or Model(case["prediction"])
    options = {key: case[key] for key in ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise") if key in case}
    torch.manual_seed(seed)
    noise = torch.randn(shape)
    if name in ("dpm_fast", "dpm_adaptive"):
        low, high = model.inner.sigma_min.item(), model.inner.sigma_max.item()
        # The webui calls both with its ancestral eta, 1.
        options = {"eta": 1.0, **options}
        if name == "dpm_fast":
            return sampling.sample_dpm_fast(model, noise * high, low, high, case["steps"], disable=True, **options)
        return sampling.sample_dpm_adaptive(model, noise * high, low, high, disable=True, **options)
    function, own = {**K_DIFFUSION, **WRITTEN_HERE, **OF_PROGRAMS}[name]
    extra = case.get("discard", name in DISCARDS)
    if name == "lcm_webui":
        model = Thinned(model)
    # Forge and ComfyUI tell the model the nearest timestep of training.
    model.inner.quantize = case.get("levels_as") in ("forge", "comfyui")
    sigmas = k_schedules.sigmas(case.get("schedule", own), case["steps"] + extra, model)
    if extra:
        sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    x = noise * sigmas[0]
    is_largest = math.isclose(sigmas[0], model.inner.sigma_max, rel_tol=1e-5)
    if case.get("full_start") or case.get("levels_as") == "comfyui" and is_largest:
        x = noise * (1 + sigmas[0] ** 2).sqrt()
    if name in SDE:
        options["noise_sampler"] = sampling.BrownianTreeNoiseSampler(x, sigmas[sigmas > 0].min(), sigmas.max(), [seed])
    if name in K_DIFFUSION or name == "dpmpp_2m":
        options["disable"] = True
    return function(model, x, sigmas, **options)


def trajectory_cases() -> list:
    rows = []

    def add(sampler, steps, prediction="epsilon", **more):
        rows.append({"sampler": sampler, "steps": steps, "prediction": prediction, "seed": len(rows), **more})

    for sampler in {**K_DIFFUSION, **WRITTEN_HERE}:
        for steps in STEPS:
            for prediction in PREDICTIONS:
                # Without a schedule these two follow diffusers (trajectories of sampler_cases.py).
                if sampler not in ("euler", "euler_a"):
                    add(sampler, steps, prediction)
                add(sampler, steps, prediction, schedule="karras")
            for schedule in ("simple", "beta", "sgm_uniform"):
                add(sampler, steps, schedule=schedule)
        if "m_sde" not in sampler and sampler not in ("euler", "euler_a"):
            # k-diffusion fails for one step of the former; the latter follow diffusers, which starts at timestep 0.
            add(sampler, 1, schedule="karras")
    for sampler in sorted(CHURNED):
        for steps in STEPS:
            add(sampler, steps, schedule="karras", s_churn=4.0)
        add(sampler, 10, schedule="karras", s_churn=20.0, s_tmin=0.1, s_tmax=8.0, s_noise=1.01)
    for sampler in sorted(ETA):
        for eta in (0.0, 0.4, 1.0):
            add(sampler, 10, schedule="karras", eta=eta)
        add(sampler, 10, schedule="karras", eta=0.7, s_noise=1.05)
    for sampler in ("restart", "er_sde"):
        add(sampler, 24, s_noise=1.02)
        add(sampler, 40)
    for steps in (3, 4, 6, *STEPS):
        for prediction in PREDICTIONS:
            for eta in ({}, {"eta": 0.0}):
                add("dpm_fast", steps, prediction, **eta)
    for prediction in PREDICTIONS:
        for eta in ({}, {"eta": 0.0}, {"eta": 0.5, "s_noise": 1.01}):
            for steps in STEPS:
                add("dpm_adaptive", steps, prediction, **eta)
    return rows


def ddim_cfg_pp(case: dict, predict=network,
                without=lambda x, t: 0.9 * network(x, t), shape: tuple = SHAPE,
                last: float = 1.0) -> torch.Tensor:
    """DDIM (Song et al. 2020, equation 12) with the unconditional noise (Chung et al. 2024), leading timesteps from
    1, ending at `last`, an alpha-bar; the unconditional network is 0.9 of the other."""
    torch.manual_seed(case["seed"])
    x = torch.randn(shape)
    alphas, distance = alphas_cumprod(), 1000 // case["steps"]
    for t in reversed(range(1, distance * case["steps"] + 1, distance)):
        a, b = alphas[t], alphas[t - distance] if t >= distance else torch.tensor(last)
        output, unguided = predict(x, torch.tensor([t])), without(x, torch.tensor([t]))
        root, rest = a.sqrt(), (1 - a).sqrt()
        if case["prediction"] == "epsilon":
            estimate, noise = (x - rest * output) / root, unguided
        else:
            estimate, noise = root * x - rest * output, root * unguided + rest * x
        deviation = case.get("eta", 0.0) * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
        x = b.sqrt() * estimate + (1 - b - deviation ** 2).clamp(min=0).sqrt() * noise
        if deviation > 0:
            x = x + deviation * torch.randn_like(x)
    return x


def ddim_cfg_pp_cases() -> list:
    return [{"sampler": "ddim_cfg_pp", "steps": steps, "prediction": prediction, "seed": 1000 + steps, **eta}
            for steps in STEPS for prediction in PREDICTIONS for eta in ({}, {"eta": 0.5})]


def diffusers_cases() -> list:
    sampler_cases.CLASSES.update(uni_pc=diffusers.UniPCMultistepScheduler, uni_pc_bh2=diffusers.UniPCMultistepScheduler,
                                 ddpm=diffusers.DDPMScheduler, tcd=diffusers.TCDScheduler, **OF_CHECKPOINTS)
    rows = []

    def add(sampler, base, steps, config=None, **more):
        # diffusers' bh1 gives NaN for a step to sigma 0 and for one of no width, as its curves then end with.
        bh1 = {"solver_type": "bh1", "final_sigmas_type": "sigma_min"} if sampler == "uni_pc" else {}
        config = {**bh1, **(config or {})}
        rows.append({"sampler": sampler, "base": base, "steps": steps, "seed": len(rows),
                     **({"config": config} if config else {}), **more})

    for sampler in ("uni_pc", "uni_pc_bh2", "ddpm", "tcd"):
        for steps in STEPS:
            for prediction in ("epsilon", "v_prediction", "sample"):
                add(sampler, "sd15", steps, {"prediction_type": prediction})
        for base in ("sd21", "sdxl", "turbo", "bare"):
            add(sampler, base, 7)
        add(sampler, "sd15", 1)
    for sampler in ("uni_pc", "uni_pc_bh2"):
        for spacing in sampler_cases.SPACINGS:
            add(sampler, "sd15", 10, {"timestep_spacing": spacing})
        for order in (1, 2, 3):
            for steps in STEPS:
                add(sampler, "sd15", steps, {"solver_order": order})
        for curve in ("karras", "exponential") if sampler == "uni_pc_bh2" else ():
            for steps in STEPS:
                add(sampler, "sd15", steps, schedule=curve)
        add(sampler, "sd15", 10, {"final_sigmas_type": "sigma_min", "lower_order_final": False})
        add(sampler, "sd15", 10, {"final_sigmas_type": "sigma_min", "solver_order": 3})
        add(sampler, "sd15", 8, {"thresholding": True})
    for spacing in sampler_cases.SPACINGS:
        add("ddpm", "sd15", 10, {"timestep_spacing": spacing})
    add("ddpm", "sd15", 8, {"clip_sample": True})
    add("ddpm", "sd15", 8, {"thresholding": True})
    for eta in (0.0, 0.7, 1.0):
        add("tcd", "sd15", 4, eta=eta)
        add("tcd", "sd15", 8, eta=eta)
    for sampler, scheduler in OF_CHECKPOINTS.items():
        own = {"class": scheduler.__name__}
        predictions = ("epsilon", "v_prediction") if "dpm_2" in sampler else ("epsilon", "v_prediction", "sample")
        for steps in STEPS:
            for prediction in predictions:
                add(sampler, "sd15", steps, {"prediction_type": prediction}, **own)
            for curve in ("karras", "exponential"):
                add(sampler, "sd21", steps, schedule=curve, **own)
        for spacing in sampler_cases.SPACINGS:
            add(sampler, "sd15", 10, {"timestep_spacing": spacing}, **own)
        for base in ("sdxl", "turbo", "bare"):
            add(sampler, base, 7, **own)
        if sampler not in ("heun", "dpm_2", "dpm_2_a"):
            # From a sigma of 20000, where f32 has no digit to spare for these.
            add(sampler, "bare", 10, {"beta_schedule": "squaredcos_cap_v2"}, **own)
        # Keys these schedulers do not know, or know all but some of.
        curve = "use_exponential_sigmas" if sampler == "lms" else "use_karras_sigmas"
        add(sampler, "sd15", 9, {"sigma_min": 0.1, "sigma_max": 9.0, "final_sigmas_type": "sigma_min", curve: True,
                                 "interpolation_type": "log_linear", "solver_order": 3}, **own)
        add(sampler, "sd15", 9, {"lambda_min_clipped": -2.0, "rescale_betas_zero_snr": True}, **own)
    for sampler in ("dpmpp_2s", "deis_multistep"):
        own = {"class": OF_CHECKPOINTS[sampler].__name__}
        for order in (1, 2, 3):
            for steps in (3, 7, *STEPS, 18):
                add(sampler, "sd15", steps, {"solver_order": order, "lower_order_final": steps != 18}, **own)
        add(sampler, "sd15", 8, {"thresholding": True}, **own)
    for order in (2, 3):
        for steps in (6, 7, 18):
            for final in ("zero", "sigma_min"):
                add("dpmpp_2s", "sd15", steps, {"solver_order": order, "solver_type": "heun", "final_sigmas_type": final,
                                                "lower_order_final": False}, **{"class": "DPMSolverSinglestepScheduler"})
    for predictor in (1, 2, 3, 4):
        for corrector in (1, 2, 3, 4):
            add("sa_solver", "sd15", 10, {"predictor_order": predictor, "corrector_order": corrector,
                                          "lower_order_final": predictor != 3}, **{"class": "SASolverScheduler"})
    add("sa_solver", "sd15", 8, {"thresholding": True}, **{"class": "SASolverScheduler"})
    return rows


def brownian_cases() -> list:
    rows = []
    for seed in (0, 1, 42, 2 ** 31, 2 ** 40 + 3):
        for n in (3, 8, 21):
            sigmas = sampling.get_sigmas_karras(n, 0.029167533, 14.614641)[:-1]
            x = torch.zeros(SHAPE)
            path = sampling.BrownianTreeNoiseSampler(x, sigmas.min(), sigmas.max(), [seed])
            rows.append({"seed": seed, "min": sigmas.min().item(), "max": sigmas.max().item(),
                         "sigmas": sigmas.tolist(),
                         "noise": [[short(v) for v in path(s, t).flatten()] for s, t in zip(sigmas[:-1], sigmas[1:])]})
    return rows


def short(value: float) -> float:
    """The shortest decimal that is the same f32."""
    return float(np.format_float_positional(np.float32(value), unique=True, trim="0"))


def write(name: str, rows: list, **more) -> None:
    meta = {"torch": torch.__version__, "k-diffusion": VERSION, "diffusers": diffusers.__version__}
    lists = ("sigmas", "latents", "timesteps")
    rows = [{key: [short(v) for v in value] if key in lists else value for key, value in row.items()} for row in rows]
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    head = json.dumps({"recorded_with": meta, **more})[:-1]
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(f'{head},\n"cases":[\n{lines}\n]}}\n')


def main() -> None:
    torch.set_num_threads(1)
    diffusers.logging.set_verbosity_error()
    write("schedules.json", k_schedules.cases())
    write("gits.json", k_schedules.gits_cases())
    write("brownian.json", brownian_cases())
    rows = [{**case, "latents": run(case).flatten().tolist()} for case in trajectory_cases()]
    rows += [{**case, "latents": ddim_cfg_pp(case).flatten().tolist()} for case in ddim_cfg_pp_cases()]
    assert all(np.isfinite(row["latents"]).all() for row in rows)
    write("trajectories.json", rows, shape=SHAPE)
    rows = []
    for case in diffusers_cases():
        timesteps, latents = sampler_cases.run(case)
        rows.append({**case, "timesteps": timesteps, "latents": latents})
    write("diffusers.json", rows, shape=SHAPE, bases=sampler_cases.BASES)


if __name__ == "__main__":
    main()
