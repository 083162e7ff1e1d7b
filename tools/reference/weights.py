"""Weights as a pure function of (component, tensor name, element index).

The same formula is in crates/testkit/src/values.rs, so a model of any size needs no file in the repository:

    seed = fnv1a64("<component>/<tensor name>")
    z = splitmix64 finaliser of (seed + (index + 1) * 0x9E3779B97F4A7C15)
    u = (z >> 40) / 2^24
    value = f32((2 * u - 1) * bound + offset), computed in f64

`bound_and_offset` chooses the range of each tensor so that activations stay of order one, the prompt visibly
changes the result and pictures have contrast.

A full-size model has nothing but these values. Its UNet does not denoise, and the samplers blow its latents up to 15
times the size of a trained model's, where f32 itself rounds to 1e-5. The tiny models of the fixtures keep the size of
trained ones, so that latents can be held to an absolute bar. For that some values of their UNets are set, in ranges
[first index, count, value], later ones last, which `small` lists:

- the last normalisation's factors, so that the random network says less. That is all a UNet that predicts v needs: for
  latents of variance 1 the best v is 0;
- what takes a UNet's input to its output, where it predicts the noise: for latents of variance 1 that is nearly the best.
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


def values(component, name, shape, bound: float, offset: float, given=(), *, start: int = 0, count: int | None = None):
    """The tensor's f32 values, the ranges of `given` set; `start` and `count` cut a range out of the flattened tensor."""
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
    for first, length, value in given:
        out[max(first - start, 0) : max(first + length - start, 0)] = value
    return out if flat else out.reshape(shape)


def _gain(component: str, name: str) -> float:
    """Standard deviation of a weight's output for inputs of unit variance."""
    if component.startswith("text_encoder"):
        # Sharper than uniform attention, so that a token's place and neighbours matter.
        return 1.6 if ".q_proj." in name or ".k_proj." in name else 1.0
    if component == "vae":
        # Latents of an untrained full-size UNet are large (about 15 / scaling factor): bring them back to order one,
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


def passing(shapes: dict, config: dict) -> dict[str, list]:
    """What makes a tiny UNet predict its own input: {tensor name: ranges}.

    The first groups of the last normalisation carry one latent channel each, as x, -x and a constant, from the first
    convolution over the last skip connection to the end. The constant keeps the group's deviation from following x, a
    bias takes the mean back that it makes, and silu(a) - silu(-a) = a takes x through the activation.
    """
    layers, last = config["layers_per_block"], f"up_blocks.{len(config['block_out_channels']) - 1}"
    channels, latents = config["block_out_channels"][0], config["out_channels"]
    assert channels == 3 * config["norm_num_groups"] and config["norm_num_groups"] > latents
    shortcut = f"{last}.resnets.{layers}.conv_shortcut"
    given = {}
    for module in ("conv_in", shortcut, f"{last}.resnets.{layers}.conv2", f"{last}.attentions.{layers}.proj_out"):
        # Nothing else reaches these channels. Not every family has the attention.
        for name in {f"{module}.weight", f"{module}.bias"} & shapes.keys():
            given[name] = [[0, 3 * latents * math.prod(shapes[name][1:]), 0.0]]

    def put(name, place, value):
        given.setdefault(name, []).append([int(np.ravel_multi_index(place, shapes[name])), 1, value])

    skip = shapes[f"{shortcut}.weight"][1] - channels
    for latent in range(latents):
        for channel, sign in ((3 * latent, 1.0), (3 * latent + 1, -1.0)):
            put("conv_in.weight", (channel, latent, 1, 1), sign)
            put(f"{shortcut}.weight", (channel, skip + channel, 0, 0), 1.0)
            put("conv_norm_out.bias", (channel,), 0.7)
            put("conv_out.weight", (latent, channel, 1, 1), sign)
        put(f"{shortcut}.bias", (3 * latent + 2,), 2.0)
    return given


def small(shapes: dict, config: dict, predicts: str) -> dict[str, list]:
    """Values that are set in a tiny UNet: {tensor name: ranges}."""
    given = passing(shapes, config) if predicts == "epsilon" else {}
    first, channels = 3 * config["out_channels"] if given else 0, config["block_out_channels"][0]
    return given | {"conv_norm_out.weight": [[first, channels - first, 0.2]]}


def rows(component: str, shapes: dict, config: dict, tiny: str | None) -> list[list]:
    """A manifest: [name, shape, bound, offset] of every tensor, and the ranges of values that are set where there are any.

    `tiny`: what the UNet of a tiny model predicts; None for a full-size one, where nothing is set.
    """
    given = small(shapes, config, tiny) if component == "unet" and tiny else {}
    plain = sorted([name, shape, *bound_and_offset(component, name, shape)] for name, shape in shapes.items())
    return [[*row, given[row[0]]] if row[0] in given else row for row in plain]
