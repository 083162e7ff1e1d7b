"""Records final latents of diffusers' schedulers on a dummy network: tests/fixtures/samplers/*.json.

Run: python tools/reference/sampler_cases.py
trajectories.json: for each case a scheduler made by `from_config` from a checkpoint's configuration, run as a
pipeline runs it: torch's noise, init_noise_sigma, scale_model_input, step with the same generator.
schedules.json: alphas_cumprod at a few timesteps, as bits.
"""

import json
from pathlib import Path

import diffusers
import numpy as np
import torch

OUT = Path(__file__).resolve().parents[2] / "tests/fixtures/samplers"
SHAPE = (1, 2, 2, 4)

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
BASES = {
    # stable-diffusion-v1-5, -2-1, -xl-base-1.0, sdxl-turbo: their published files, as far as they differ.
    "sd15": {**SD, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False},
    "sd21": {**SD, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False,
             "prediction_type": "v_prediction"},
    "sdxl": {**SD, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False,
             "timestep_spacing": "leading", "interpolation_type": "linear", "use_karras_sigmas": False,
             "prediction_type": "epsilon", "sample_max_value": 1.0},
    "turbo": {**SD, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False,
              "timestep_spacing": "trailing", "interpolation_type": "linear"},
    "zero_snr": {**SD, "set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False,
                 "prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
    "bare": {},
}
CLASSES = {
    "ddim": diffusers.DDIMScheduler,
    "pndm": diffusers.PNDMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_a": diffusers.EulerAncestralDiscreteScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "lcm": diffusers.LCMScheduler,
}
SPACINGS = ["leading", "linspace", "trailing"]
CURVES = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "lu": "use_lu_lambdas"}


def model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Not linear, mixes neighbours, and made of operations that f32 rounds alike everywhere."""
    t = t.to(torch.float32)
    neighbour = torch.roll(x, 1, dims=-1)
    return x * (t / (t + 1)) + 0.2 * (neighbour / (1 + neighbour.abs()))


def run(case: dict, network=None, shape: tuple = SHAPE) -> tuple:
    network = network or model
    config = {**BASES[case["base"]], **case.get("config", {})}
    if "schedule" in case:
        config[CURVES[case["schedule"]]] = True
    scheduler = CLASSES[case["sampler"]].from_config(config)
    scheduler.set_timesteps(case["steps"])
    if hasattr(scheduler, "set_begin_index"):
        # Else a first timestep that occurs twice (squaredcos with karras) makes upstream skip a step.
        scheduler.set_begin_index(0)
    generator = torch.Generator("cpu").manual_seed(case["seed"])
    latents = torch.randn(shape, generator=generator) * scheduler.init_noise_sigma
    extra = {}
    if "eta" in case:
        extra["eta"] = case["eta"]
    if case["sampler"] in ("ddim", "euler_a", "lcm", "ddpm", "tcd", "dpm_2_a", "sa_solver"):
        extra["generator"] = generator
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(latents, t), t)
        latents = scheduler.step(output, t, latents, **extra, return_dict=False)[0]
    assert latents.isfinite().all(), case
    # Where each step begins: Heun and KDPM2 ask twice a step, but for the last.
    heun = case["sampler"] == "heun"
    twice = case["sampler"] in ("dpm_2", "dpm_2_a")
    timesteps = scheduler.timesteps.tolist()
    if heun:
        timesteps = timesteps[:1] + timesteps[1::2]
    return timesteps[::2] if twice else timesteps, latents.flatten().tolist()


def cases() -> list:
    rows = []

    def add(sampler, base, steps, **more):
        more = {key: value for key, value in more.items() if value != {}}
        rows.append({"sampler": sampler, "base": base, "steps": steps, "seed": len(rows), **more})

    for sampler in CLASSES:
        predictions = ["epsilon", "v_prediction"] + (["sample"] if sampler in ("ddim", "euler", "dpmpp_2m") else [])
        for spacing in SPACINGS if sampler != "lcm" else ["leading"]:
            for prediction in predictions:
                for steps in (5, 10, 20):
                    add(sampler, "sd15", steps, config={"timestep_spacing": spacing, "prediction_type": prediction})
        for base in BASES:
            for steps in (1, 7) if sampler != "pndm" or "skip_prk_steps" in BASES[base] else (4, 7):
                add(sampler, base, steps)
        for schedule in ("linear", "squaredcos_cap_v2"):
            add(sampler, "sd15", 10, config={"beta_schedule": schedule, "beta_start": 1e-4, "beta_end": 0.02})
        add(sampler, "sd15", 6, config={"num_train_timesteps": 500, "timestep_spacing": "linspace"})
        add(sampler, "bare", 8, config={"num_train_timesteps": 16, "original_inference_steps": 8,
                                        "trained_betas": [0.01 * (i + 1) for i in range(16)]})
    for sampler in ("euler", "dpmpp_2m"):
        for curve in ("karras", "exponential"):
            for base in ("sd15", "sd21", "sdxl"):
                for steps in (5, 10, 20):
                    add(sampler, base, steps, schedule=curve)
        add(sampler, "sd15", 10, schedule="karras", config={"sigma_min": 0.05, "sigma_max": 10.0})
        add(sampler, "sd15", 10, schedule="karras", config={"beta_schedule": "squaredcos_cap_v2"})
        add(sampler, "zero_snr", 10, schedule="karras")
        for steps in (5, 20):
            add(sampler, "sd15", steps, config={"final_sigmas_type": "sigma_min"})
    add("dpmpp_2m", "sd15", 10, schedule="lu")
    add("dpmpp_2m", "sd21", 20, schedule="lu")
    add("euler", "sd15", 10, config={"interpolation_type": "log_linear"})
    add("euler", "sd15", 5, config={"interpolation_type": "log_linear", "use_karras_sigmas": True})
    for order in (1, 2, 3):
        for steps in (5, 10, 20):
            add("dpmpp_2m", "sd15", steps, config={"solver_order": order, "solver_type": "heun"})
    for more in ({"euler_at_final": True}, {"lower_order_final": False}, {"solver_order": 3, "lower_order_final": False},
                 {"solver_order": 3, "solver_type": "bh2"}):
        add("dpmpp_2m", "sd15", 10, config={"final_sigmas_type": "sigma_min", **more})
    add("dpmpp_2m", "sd15", 10, config={"lambda_min_clipped": -2.0})
    add("dpmpp_2m", "sd15", 10, config={"lambda_min_clipped": -2.0, "timestep_spacing": "leading"})
    for sampler in ("ddim", "dpmpp_2m", "lcm"):
        add(sampler, "sd15", 8, config={"thresholding": True})
        add(sampler, "sd15", 8, config={"thresholding": True, "sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.8})
    for sampler in ("ddim", "lcm"):
        add(sampler, "sd15", 8, config={"clip_sample": True})
        add(sampler, "sd15", 8, config={"clip_sample": True, "clip_sample_range": 0.5})
    for eta in (0.3, 1.0):
        for config in ({}, {"set_alpha_to_one": True}, {"clip_sample": True, "timestep_spacing": "trailing"}):
            add("ddim", "sd15", 10, eta=eta, config=config)
    for alpha in (True, False):
        for sampler in ("ddim", "pndm", "lcm"):
            add(sampler, "sd15", 10, config={"set_alpha_to_one": alpha, "steps_offset": 0})
    for steps in (4, 5, 10):
        for prediction in ("epsilon", "v_prediction"):
            for spacing in SPACINGS:
                add("pndm", "sd15", steps, config={"skip_prk_steps": False, "prediction_type": prediction,
                                                   "timestep_spacing": spacing})
    for more in ({"timestep_scaling": 1.0}, {"original_inference_steps": 100}):
        add("lcm", "sd15", 4, config=more)
    return rows


def schedules() -> list:
    rows = []
    for config in ({}, SD, {**SD, "beta_start": 1e-4, "beta_end": 0.02, "rescale_betas_zero_snr": True},
                   {**SD, "rescale_betas_zero_snr": True}, {"beta_schedule": "squaredcos_cap_v2"},
                   {"beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": True},
                   {"num_train_timesteps": 77}, {"num_train_timesteps": 4, "trained_betas": [0.1, 0.2, 0.3, 0.4]}):
        bits = diffusers.DDIMScheduler(**config).alphas_cumprod.numpy().view(np.uint32)
        rows.append({"config": config, "bits": {str(i): int(bits[i]) for i in
                                                sorted({0, 1, 2, len(bits) // 2, len(bits) - 2, len(bits) - 1})},
                     "xor": int(np.bitwise_xor.reduce(bits)), "sum": int(bits.astype(np.uint64).sum())})
    return rows


def short(value: float) -> float:
    """The shortest decimal that is the same f32."""
    if float(value).is_integer():
        return int(value)
    return float(np.format_float_positional(np.float32(value), unique=True, trim="0"))


def write(name: str, rows: list, **more) -> None:
    meta = {"torch": torch.__version__, "diffusers": diffusers.__version__, "numpy": np.__version__}
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    head = json.dumps({"recorded_with": meta, **more})[:-1]
    (OUT / name).write_text(f'{head},\n"cases":[\n{lines}\n]}}\n')


def main() -> None:
    diffusers.logging.set_verbosity_error()
    OUT.mkdir(parents=True, exist_ok=True)
    rows = []
    for case in cases():
        timesteps, latents = run(case)
        rows.append({**case, "timesteps": [short(t) for t in timesteps], "latents": [short(v) for v in latents]})
    write("trajectories.json", rows, shape=SHAPE, bases=BASES)
    write("schedules.json", schedules())


if __name__ == "__main__":
    main()
