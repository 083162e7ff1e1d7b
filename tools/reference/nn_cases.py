"""Writes tests/fixtures/nn/cases.safetensors: each layer of src/nn on small inputs, computed by torch.

Inputs and weights are f32; results are computed in f64 and rounded once, so that they are the truth
and not one more rounding. Sizes are odd on purpose.

Run from the repository's root: python tools/reference/nn_cases.py
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

GENERATOR = torch.Generator().manual_seed(20)
CASES: dict[str, torch.Tensor] = {}


def draw(name: str, *shape: int, scale: float = 1.0, mean: float = 0.0) -> torch.Tensor:
    """An f32 input kept under `name`, returned as f64."""
    values = torch.randn(shape, generator=GENERATOR) * scale + mean
    CASES[name] = values
    return values.double()


def keep(name: str, values: torch.Tensor) -> None:
    CASES[name] = values.float().contiguous()


def linear() -> None:
    x, w, b = draw("linear/x", 2, 5, 7), draw("linear/weight", 3, 7), draw("linear/bias", 3)
    residual = draw("linear/residual", 2, 5, 3)
    keep("linear/y", F.linear(x, w, b))
    keep("linear/y_no_bias", F.linear(x, w))
    keep("linear/y_residual", F.linear(x, w, b) + residual)


def conv() -> None:
    x = draw("conv3/x", 2, 5, 7, 9)
    w, b = draw("conv3/weight", 6, 5, 3, 3, scale=0.3), draw("conv3/bias", 6)
    channel_bias, residual = draw("conv3/channel_bias", 2, 1, 6), draw("conv3/residual", 2, 6, 7, 9)
    y = F.conv2d(x, w, b, padding=1)
    keep("conv3/y", y)
    keep("conv3/y_fused", y + channel_bias[:, 0, :, None, None] + residual)
    keep("conv3/y_unpadded", F.conv2d(x, w, b))
    keep("conv3/y_stride", F.conv2d(x, w, b, padding=1, stride=2))
    keep("conv3/y_bottom_right", F.conv2d(F.pad(x, (0, 1, 0, 1)), w, b, stride=2))
    for height, width in [(14, 18), (15, 19), (13, 29), (7, 9), (5, 4)]:
        up = F.interpolate(x, size=(height, width), mode="nearest")
        keep(f"conv3/up_{height}_{width}", up[:1, :2])
        keep(f"conv3/y_up_{height}_{width}", F.conv2d(up, w, b, padding=1)[:1, :2])
    x, w, b = draw("conv1/x", 1, 5, 3, 4), draw("conv1/weight", 7, 5, 1, 1), draw("conv1/bias", 7)
    keep("conv1/y", F.conv2d(x, w, b))


def norms() -> None:
    # A mean far from zero: a variance formed as E[x^2] - E[x]^2 in f32 would be off.
    x = draw("group_norm/x", 2, 12, 5, 3, scale=0.5, mean=30.0)
    w, b = draw("group_norm/weight", 12), draw("group_norm/bias", 12)
    for groups in (1, 3, 4, 12):
        y = F.group_norm(x, groups, w, b, eps=1e-6)
        keep(f"group_norm/y_{groups}", y)
        keep(f"group_norm/y_{groups}_silu", F.silu(y))
    x = draw("layer_norm/x", 2, 3, 11, mean=5.0)
    w, b = draw("layer_norm/weight", 11), draw("layer_norm/bias", 11)
    keep("layer_norm/y", F.layer_norm(x, (11,), w, b, eps=1e-5))


def activations() -> None:
    x = torch.cat([torch.linspace(-12, 12, 97), torch.tensor([-90.0, -1e-6, 0.0, 1e-6, 90.0])])
    CASES["activations/x"] = x.reshape(1, 3, 34).contiguous()
    x = CASES["activations/x"].double()
    keep("activations/silu", F.silu(x))
    keep("activations/gelu", F.gelu(x))
    keep("activations/quick_gelu", x * torch.sigmoid(1.702 * x))


def geglu() -> None:
    x = draw("geglu/x", 2, 3, 7)
    w, b = draw("geglu/proj.weight", 10, 7), draw("geglu/proj.bias", 10)
    value, gate = F.linear(x, w, b).chunk(2, dim=-1)
    keep("geglu/y", value * F.gelu(gate))


def attention(case: str, heads: int, head_dim: int, context_dim: int | None, bias: bool, **kwargs) -> None:
    query_dim, inner, out_dim = 9, heads * head_dim, 8
    x = draw(f"{case}/x", 2, 7, query_dim)
    context = draw(f"{case}/context", 2, 6, context_dim) if context_dim else x

    def project(name: str, source: torch.Tensor, outputs: int, biased: bool) -> torch.Tensor:
        weight = draw(f"{case}/{name}.weight", outputs, source.shape[-1], scale=0.5)
        return F.linear(source, weight, draw(f"{case}/{name}.bias", outputs) if biased else None)

    def split(source: torch.Tensor) -> torch.Tensor:
        return source.unflatten(-1, (heads, head_dim)).transpose(1, 2)

    q = split(project("to_q", x, inner, bias))
    k = split(project("to_k", context, inner, bias))
    v = split(project("to_v", context, inner, bias))
    y = F.scaled_dot_product_attention(q, k, v, **kwargs).transpose(1, 2).flatten(2)
    residual = draw(f"{case}/residual", 2, 7, out_dim)
    keep(f"{case}/y", project("to_out.0", y, out_dim, True) + residual)


def main() -> None:
    linear()
    conv()
    norms()
    activations()
    geglu()
    attention("attention_self", 2, 5, None, bias=False)
    attention("attention_causal", 3, 4, None, bias=True, is_causal=True)
    attention("attention_cross", 2, 5, 11, bias=False)
    attention("attention_scale", 1, 6, None, bias=True, scale=0.9)
    path = Path("tests/fixtures/nn/cases.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(CASES, path, metadata={"torch": torch.__version__, "script": "tools/reference/nn_cases.py"})
    print(f"{path}: {len(CASES)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
