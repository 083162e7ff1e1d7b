"""Weights as a pure function of (component, tensor name, element index).

The same formula is in crates/testkit/src/weights.rs, so a model of any size needs no file in the repository:

    seed = fnv1a64("<component>/<tensor name>")
    z = splitmix64 finaliser of (seed + (index + 1) * 0x9E3779B97F4A7C15)
    u = (z >> 40) / 2^24
    value = f32((2 * u - 1) * bound + offset), computed in f64

`bound_and_offset` chooses the range of each tensor so that activations stay of order one, the prompt visibly
changes the result and pictures have contrast.
"""

import math

import numpy as np

GAMMA = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def fnv1a64(text: str) -> int:
    """FNV-1a, 64 bits, of the text's UTF-8 bytes."""
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    return state


def values(component: str, name: str, shape, bound: float, offset: float, start: int = 0, count: int | None = None):
    """The tensor's f32 values; `start` and `count` cut a range out of the flattened tensor."""
    total = math.prod(shape)
    flat = count is not None
    count = total if count is None else count
    seed = np.uint64(fnv1a64(f"{component}/{name}"))
    out = np.empty(count, dtype=np.float32)
    chunk = 1 << 20
    with np.errstate(over="ignore"):
        for begin in range(0, count, chunk):
            end = min(begin + chunk, count)
            index = np.arange(start + begin + 1, start + end + 1, dtype=np.uint64)
            z = seed + index * np.uint64(GAMMA)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
            u = (z >> np.uint64(40)).astype(np.float64) / float(1 << 24)
            out[begin:end] = ((2.0 * u - 1.0) * bound + offset).astype(np.float32)
    return out if flat else out.reshape(shape)


def _gain(component: str, name: str) -> float:
    """Standard deviation of a weight's output for inputs of unit variance."""
    if component.startswith("text_encoder"):
        # Sharper than uniform attention, so that a token's place and neighbours matter.
        return 1.6 if ".q_proj." in name or ".k_proj." in name else 1.0
    if component == "vae":
        # Latents of an untrained UNet are large (about 15 / scaling factor): bring them back to order one,
        # or the decoder's residual branches would drown.
        if name == "post_quant_conv.weight":
            return 0.1
        if name == "decoder.conv_in.weight":
            return 0.3
        if name == "decoder.conv_out.weight":
            return 0.7
        return 1.0
    if name == "conv_out.weight":
        # Guidance multiplies differences by 7.5; a small epsilon keeps the sampler's amplification sane.
        return 0.5
    if ".attn2.to_q." in name or ".attn2.to_k." in name or ".attn1.to_q." in name or ".attn1.to_k." in name:
        return 1.5
    if ".attn2.to_out." in name:
        return 2.0
    return 1.0


def bound_and_offset(component: str, name: str, shape) -> tuple[float, float]:
    """The range of a tensor's values: offset +- bound."""
    if name.endswith("token_embedding.weight"):
        return 1.0, 0.0
    if name.endswith("position_embedding.weight"):
        return 0.5, 0.0
    if len(shape) == 1:
        parts = name.split(".")
        is_norm = any("norm" in part or part.startswith("ln_") for part in parts)
        if is_norm and name.endswith(".weight"):
            return 0.1, 1.0
        return 0.05, 0.0
    fan_in = math.prod(shape[1:])
    # Uniform on [-b, b] has variance b^2 / 3.
    return float(f"{_gain(component, name) * math.sqrt(3.0 / fan_in):.6g}"), 0.0
