"""Records the noise that seeds stand for: tests/data/seeds/seeds.json.

Run: python tools/reference/seed_cases.py
`numpy` holds RandomState's own draws, `philox` those of the algorithm as
torch's CUDA generator runs it, written out here and confirmed by the
values that the webui's documentation of its NV source gives. `starts`
are noises mixed and resized by the webui's rules, written in torch.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch

OUT = Path(__file__).resolve().parents[2] / "tests/data/seeds/seeds.json"
SEEDS = [0, 42, 2**32 - 1]
WIDE_SEEDS = [2**32 + 5, 2**63 + 1]
LENGTHS = [1, 7, 16, 33]
WORD = 0xFFFFFFFF
# stable-diffusion-webui, modules/rng_philox.py: seed 0, shape (3, 4).
WEBUI = [
    -0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564,
    -0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497,
]


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4x32-10 in whole numbers of Python."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & WORD, (p0 >> 32) ^ c[3] ^ k[1], p0 & WORD]
        k = [(k[0] + 0x9E3779B9) & WORD, (k[1] + 0xBB67AE85) & WORD]
    return c


class Philox:
    def __init__(self, seed: int) -> None:
        self.key, self.draws = [seed & WORD, seed >> 32], 0

    def randn(self, *shape: int) -> np.ndarray:
        unit = float(np.float32(2.3283064e-10))
        turn = float(np.float32(2.3283064e-10 * 6.2831855))
        values = []
        for thread in range(math.prod(shape)):
            x, y, _, _ = philox([self.draws, 0, thread, 0], self.key)
            radius = math.sqrt(-2.0 * math.log(x * unit + unit / 2))
            values.append(radius * math.sin(y * turn + turn / 2))
        self.draws += 1
        return np.array(values).astype(np.float32).reshape(shape)


class TorchCpu:
    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator("cpu").manual_seed(seed)

    def randn(self, *shape: int) -> np.ndarray:
        return torch.randn(shape, generator=self.generator).numpy()


GENERATORS = {"cpu": TorchCpu, "gpu": Philox, "numpy": np.random.RandomState}


def draw(generator, shape: list[int]) -> torch.Tensor:
    return torch.from_numpy(generator.randn(*shape).astype(np.float32))


def arc(share: float, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """The webui's slerp of (C, H, W): along dimension 1, linear and exchanged for one direction."""
    cosine = (low / low.norm(dim=1, keepdim=True) * (high / high.norm(dim=1, keepdim=True))).sum(1)
    if cosine.mean() > 0.9995:
        return low * share + high * (1 - share)
    omega = cosine.acos()
    weights = [((1 - share) * omega).sin() / omega.sin(), (share * omega).sin() / omega.sin()]
    return weights[0].unsqueeze(1) * low + weights[1].unsqueeze(1) * high


def start(case: dict) -> list[torch.Tensor]:
    """What a picture starts from, and the next two draws."""
    make, shape = GENERATORS[case["rng"]], case["shape"]
    seed, size = case["seed"], case.get("resize_from")
    generator, resized = make(seed), size is not None and size != shape[1:]
    drawn = [shape[0], *size] if resized else shape
    noise = draw(make(seed) if resized else generator, drawn)
    if case.get("strength", 0) != 0:
        noise = arc(case["strength"], noise, draw(make(case["variation"]), drawn))
    if resized:
        whole = draw(generator, shape)
        dx, dy = (shape[2] - drawn[2]) // 2, (shape[1] - drawn[1]) // 2
        w = drawn[2] if dx >= 0 else drawn[2] + 2 * dx
        h = drawn[1] if dy >= 0 else drawn[1] + 2 * dy
        tx, ty, fx, fy = max(dx, 0), max(dy, 0), max(-dx, 0), max(-dy, 0)
        whole[:, ty : ty + h, tx : tx + w] = noise[:, fy : fy + h, fx : fx + w]
        noise = whole
    if case.get("ensd", 0) != 0:
        generator = make(seed + case["ensd"])
    return [noise, draw(generator, shape), draw(generator, shape)]


def starts() -> list[dict]:
    shape = [4, 6, 5]
    variants = [
        {},
        {"variation": 7, "strength": 0.0},
        {"variation": 7, "strength": 0.3},
        {"variation": 7, "strength": 1.0},
        {"variation": 42, "strength": 0.3},
        {"resize_from": [4, 4]},
        {"resize_from": [9, 8]},
        {"resize_from": [4, 9], "variation": 7, "strength": 0.6},
        {"resize_from": [6, 5]},
        {"ensd": 31337},
        {"ensd": -5, "variation": 9, "strength": 0.5},
    ]
    cases = []
    for rng in GENERATORS:
        for variant in variants:
            case = {"rng": rng, "seed": 42, "shape": shape, **variant}
            case["draws"] = [[round(float(v), 7) for v in t.flatten()] for t in start(case)]
            cases.append(case)
    return cases


def bits(values: np.ndarray) -> list[int]:
    return [int(word) for word in values.astype(np.float32).ravel().view(np.uint32)]


def streams(make, seeds: list[int]) -> list[dict]:
    """Draws of several lengths, one after the other from one generator."""
    cases = []
    for seed in seeds:
        generator = make(seed)
        cases.append({"seed": seed, "draws": [bits(generator.randn(length)) for length in LENGTHS]})
    return cases


def main() -> None:
    assert np.allclose(Philox(0).randn(12), WEBUI, atol=1e-6, rtol=0)
    parts = {
        "recorded_with": {"torch": torch.__version__, "numpy": np.__version__},
        "numpy": streams(np.random.RandomState, SEEDS),
        "philox": streams(Philox, SEEDS + WIDE_SEEDS),
        "starts": starts(),
    }
    rows = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in parts.items())
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(f"{{{rows}}}\n")


if __name__ == "__main__":
    main()
