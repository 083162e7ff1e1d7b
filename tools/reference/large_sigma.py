"""Prints how far diffusers' own f32 is from f64 where levels begin at sigma 20000 (squared-cosine betas).

Run: python tools/reference/large_sigma.py   (needs requirements.txt and requirements-samplers.txt)
The cases of diffusers.json and the fixtures' trajectories.json that f32 cannot hold to 1e-4: the same scheduler, levels (as f32
has them) and noise, once in f32 as recorded and once with every other number in f64. tests/data/samplers/large_sigma.json
has the latents in f64.
"""

import json
from pathlib import Path

import diffusers
import torch

import k_sampler_cases
import sampler_cases

ROOT = Path(__file__).resolve().parents[2] / "tests"
RECORDS = (ROOT / "data/samplers/diffusers.json", ROOT / "fixtures/samplers/trajectories.json")
SAMPLERS = ("dpmpp_2m", "lms", "dpmpp_2s", "deis_multistep", "sa_solver")


def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """sampler_cases.model without a cast to f32."""
    t = t.to(x.dtype)
    neighbour = torch.roll(x, 1, dims=-1)
    return x * (t / (t + 1)) + 0.2 * (neighbour / (1 + neighbour.abs()))


class Wide:
    """Makes every table of a scheduler f64 once its steps are set."""

    def __init__(self, kind):
        self.kind = kind

    def from_config(self, config):
        scheduler = self.kind.from_config(config)
        own = scheduler.set_timesteps

        def set_timesteps(steps):
            own(steps)
            for name, value in vars(scheduler).items():
                if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
                    setattr(scheduler, name, value.double())

        scheduler.set_timesteps = set_timesteps
        return scheduler


def run(case: dict, kind) -> torch.Tensor:
    sampler_cases.CLASSES[case["sampler"]] = kind
    draw = torch.randn
    wide = isinstance(kind, Wide)
    # The same noise, kept in f64.
    torch.randn = lambda *a, **k: draw(*a, **{**k, "dtype": torch.float32}).to(torch.float64 if wide else torch.float32)
    try:
        return torch.tensor(sampler_cases.run(case, network)[1], dtype=torch.float64)
    finally:
        torch.randn = draw


def main() -> None:
    torch.set_num_threads(1)
    diffusers.logging.set_verbosity_error()
    sampler_cases.CLASSES.update(**k_sampler_cases.OF_CHECKPOINTS)
    kinds = dict(sampler_cases.CLASSES)
    rows = []
    for record in RECORDS:
        data = json.loads(record.read_text())
        for case in data["cases"]:
            if "squaredcos_cap_v2" not in str(case.get("config")) or case["sampler"] not in SAMPLERS:
                continue
            kind = kinds[case["sampler"]]
            narrow, wide = run(case, kind), run(case, Wide(kind))
            own = (narrow - torch.tensor(case["latents"], dtype=torch.float64)).abs().max().item()
            print(f"{case['sampler']:15} {case['base']:5} {case.get('schedule', ''):7} f32 from f64: "
                  f"{(narrow - wide).abs().max():.1e}, from its record: {own:.1e}")
            named = {key: value for key, value in case.items() if key != "latents"}
            rows.append({**named, "f32": float((narrow - wide).abs().max()), "latents": wide.tolist()})
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    head = json.dumps({"recorded_with": {"torch": torch.__version__, "diffusers": diffusers.__version__},
                       "shape": sampler_cases.SHAPE, "bases": sampler_cases.BASES})[:-1]
    (ROOT / "data/samplers/large_sigma.json").write_text(f'{head},\n"cases":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
