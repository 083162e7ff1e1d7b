"""Records final latents of every sampler on the fixtures' tiny SD1.5 and SD2.1: tests/data/samplers/unet.json.

Run: python tools/reference/unet_runs.py   (needs requirements.txt and requirements-samplers.txt)
k-diffusion's samplers, those written out in webui_samplers.py, and diffusers' schedulers, each on the same UNet with
the same text and noise; guidance at 5 steps, none at 10 and 20 but for the methods that need it. SD2.1, which predicts v,
for 10 steps.
"""

import json
import tempfile
from pathlib import Path

import diffusers
import torch

import families
import k_sampler_cases as k
import models
import runs
import sampler_cases
from kdiffusion import VERSION, Model

OUT = Path(__file__).resolve().parents[2] / "tests/data/samplers/unet.json"
SHAPE = (1, 4, 8, 8)
SEED = 42
OF_DIFFUSERS = ("ddim", "pndm", "euler", "euler_a", "dpmpp_2m", "lcm", "uni_pc_bh2", "ddpm", "tcd", "dpmpp_2s",
                "deis_multistep", "sa_solver")
CFG_PP = ("euler_cfg_pp", "euler_a_cfg_pp", "ddim_cfg_pp")


class Unet:
    """The UNet's prediction of the noise, guided."""

    def __init__(self, parts: dict, guidance: float, prompt: str = families.PROMPT):
        states = [parts["text_encoder"](runs.ids(parts["tokenizer"], text)).last_hidden_state for text in (prompt, "")]
        self.unet, (self.prompt, self.nothing), self.guidance = parts["unet"], states, guidance

    def ask(self, x, t, text):
        return self.unet(x, torch.as_tensor(t, dtype=torch.float32).reshape(-1), encoder_hidden_states=text).sample

    def without(self, x, t):
        return self.ask(x, t, self.nothing)

    def __call__(self, x, t):
        guided = self.ask(x, t, self.prompt)
        if self.guidance == 1.0:
            return guided
        unguided = self.without(x, t)
        return unguided + self.guidance * (guided - unguided)


def cases() -> list:
    rows = []

    def add(sampler, **more):
        runs = [*(("sd15", steps) for steps in k.STEPS), ("sd21", 10)]
        if sampler == "dpm_adaptive":
            # It takes no number of steps. Its controller makes more of rounding than any other method: with guidance, or on
            # the other model, k-diffusion's own runs with predictions 1e-7 apart end 4e-5 to 2e-1 apart, here below 7e-6.
            for eta in (0.3, 0.7, 1.0):
                rows.append({"family": "sd21", "sampler": sampler, "steps": 10, "guidance": 1.0, "eta": eta, **more})
            return
        for family, steps in runs:
            guidance = 3.0 if steps == 5 or sampler in CFG_PP else 1.0
            if sampler == "dpm_fast":
                # Two steps for the whole way make some 200 of a difference of 1, which guidance would multiply.
                guidance = 1.0
            if sampler == "ddim_cfg_pp" and steps == 5:
                # What the webui makes of 7.5.
                guidance = 0.6
            rows.append({"family": family, "sampler": sampler, "steps": steps, "guidance": guidance, **more})

    for sampler in ("ddim_cfg_pp", "dpm_fast", "dpm_adaptive", *k.K_DIFFUSION, *k.WRITTEN_HERE):
        # Without a schedule these two follow diffusers.
        add(sampler, **({"schedule": "karras"} if sampler in ("euler", "euler_a") else {}))
    for sampler in OF_DIFFUSERS:
        add(sampler)
    for sampler in k.OF_PROGRAMS:
        # The two that others have under this name are above.
        if sampler not in OF_DIFFUSERS:
            add(sampler)
    return rows


def record(parts: dict, case: dict) -> torch.Tensor:
    unet = Unet(parts, case["guidance"])
    prediction = parts["scheduler"].config.get("prediction_type", "epsilon")
    case = {**case, "seed": SEED, "prediction": prediction}
    if case["sampler"] == "ddim_cfg_pp":
        # The fixtures' configurations have set_alpha_to_one false.
        return k.ddim_cfg_pp(case, unet, unet.without, SHAPE, k.alphas_cumprod()[0].item())
    if case["sampler"] in OF_DIFFUSERS and "schedule" not in case:
        sampler_cases.BASES["fixture"] = dict(parts["scheduler"].config)
        return torch.tensor(sampler_cases.run({**case, "base": "fixture"}, unet, SHAPE)[1])
    return k.run(case, Model(prediction, unet, unet.without), SHAPE)


def main() -> None:
    torch.set_num_threads(1)
    diffusers.logging.set_verbosity_error()
    sampler_cases.CLASSES.update(uni_pc_bh2=diffusers.UniPCMultistepScheduler, ddpm=diffusers.DDPMScheduler,
                                 tcd=diffusers.TCDScheduler, **k.OF_CHECKPOINTS)
    rows = []
    with tempfile.TemporaryDirectory() as work, torch.no_grad():
        parts = {family: models.load(family, Path(work)) for family in ("sd15", "sd21")}
        for case in cases():
            latents = record(parts[case["family"]], case).flatten()
            assert latents.isfinite().all(), case
            rows.append({**case, "latents": [float(f"{value:.7g}") for value in latents.tolist()]})
    meta = {"torch": torch.__version__, "k-diffusion": VERSION, "diffusers": diffusers.__version__}
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    OUT.write_text(f'{{"recorded_with":{json.dumps(meta)},"seed":{SEED},"cases":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
