"""Records what torch's CPU generator draws: tests/fixtures/samplers/rng.json.

Run: python tools/reference/rng_cases.py
Values are compared as the bits of their f32. Of each draw the last
value and an FNV-1a hash of all bits are kept.
"""

import json
from pathlib import Path

import numpy as np
import torch

OUT = Path(__file__).resolve().parents[2] / "tests/fixtures/samplers/rng.json"
SEEDS = [0, 42, 2**32 - 1, 2**32 + 5, 2**63]
LENGTHS = list(range(1, 41)) + [4096]


def fnv1a64(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def record(draw: torch.Tensor) -> dict:
    bits = draw.contiguous().numpy().view(np.uint32).ravel()
    entry = {"shape": list(draw.shape), "hash": f"{fnv1a64(bits.astype('<u4').tobytes()):016x}"}
    entry["last"] = int(bits[-1])
    return entry


def main() -> None:
    cases = []
    for seed in SEEDS:
        for length in LENGTHS:
            generator = torch.Generator("cpu").manual_seed(seed)
            # Three draws in a row: what one leaves behind must reach the next.
            draws = [record(torch.randn(length, generator=generator)) for _ in range(3)]
            cases.append({"seed": seed, "draws": draws})
        generator = torch.Generator("cpu").manual_seed(seed)
        shapes = [(3,), (1, 4, 64, 64), (5,), (4, 4096), (2, 9), (1,)]
        cases.append({"seed": seed, "draws": [record(torch.randn(shape, generator=generator)) for shape in shapes]})
    meta = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(f'{{"recorded_with":{json.dumps(meta)},\n"cases":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
