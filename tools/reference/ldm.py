"""The original (LDM) names of a pipeline's tensors, as single-file checkpoints carry them.

`prefixes` is a list of (diffusers prefix, original prefix); a tensor's original name replaces the longest prefix that
fits. Text towers of the OpenCLIP kind fuse q, k and v and keep a transposed projection; see `single_file`.
"""

import numpy as np

import checkpoint
import families
import weights

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = "model.diffusion_model"
VAE = "first_stage_model"
# Where each family keeps its text towers, and how they are written.
TOWERS = {
    "sd1": {"text_encoder": ("cond_stage_model.transformer", "clip")},
    "sd2": {"text_encoder": ("cond_stage_model.model", "open_clip")},
    "sdxl": {
        "text_encoder": ("conditioner.embedders.0.transformer", "clip"),
        "text_encoder_2": ("conditioner.embedders.1.model", "open_clip"),
    },
    "refiner": {"text_encoder_2": ("conditioner.embedders.0.model", "open_clip")},
}


def kind(family: str) -> str:
    """The row of TOWERS a family belongs to."""
    if family == "refiner":
        return "refiner"
    if "text_encoder_2" in families.FAMILIES[family]:
        return "sdxl"
    return "sd1" if families.FAMILIES[family]["text_encoder"][0]["hidden_act"] == "quick_gelu" else "sd2"


def _unet(config: dict) -> list[tuple[str, str]]:
    """input_blocks, middle_block and output_blocks are counted through all levels."""
    rows = [
        ("time_embedding.linear_1", f"{UNET}.time_embed.0"),
        ("time_embedding.linear_2", f"{UNET}.time_embed.2"),
        ("add_embedding.linear_1", f"{UNET}.label_emb.0.0"),
        ("add_embedding.linear_2", f"{UNET}.label_emb.0.2"),
        ("conv_in", f"{UNET}.input_blocks.0.0"),
        ("conv_norm_out", f"{UNET}.out.0"),
        ("conv_out", f"{UNET}.out.2"),
    ]

    def resnet(ours: str, theirs: str) -> None:
        rows.extend((f"{ours}.{part}", f"{UNET}.{theirs}.{name}") for part, name in RESNET.items())

    def attention(ours: str, theirs: str) -> None:
        rows.append((ours, f"{UNET}.{theirs}"))

    layers, levels = config["layers_per_block"], len(config["block_out_channels"])
    number = 1
    for level, block in enumerate(config["down_block_types"]):
        for layer in range(layers):
            resnet(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{number}.0")
            if block.startswith("CrossAttn"):
                attention(f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{number}.1")
            number += 1
        if level + 1 < levels:
            rows.append((f"down_blocks.{level}.downsamplers.0.conv", f"{UNET}.input_blocks.{number}.0.op"))
            number += 1
    resnet("mid_block.resnets.0", "middle_block.0")
    attention("mid_block.attentions.0", "middle_block.1")
    resnet("mid_block.resnets.1", "middle_block.2")
    number = 0
    for level, block in enumerate(config["up_block_types"]):
        crossed = block.startswith("CrossAttn")
        for layer in range(layers + 1):
            resnet(f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{number}.0")
            if crossed:
                attention(f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{number}.1")
            if layer == layers and level + 1 < levels:
                place = 2 if crossed else 1
                rows.append((f"up_blocks.{level}.upsamplers.0.conv", f"{UNET}.output_blocks.{number}.{place}.conv"))
            number += 1
    return rows


def _vae(config: dict) -> list[tuple[str, str]]:
    """The decoder's levels are counted from the picture inwards."""
    rows = [("quant_conv", f"{VAE}.quant_conv"), ("post_quant_conv", f"{VAE}.post_quant_conv")]
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    for side in ("encoder", "decoder"):
        rows += [(f"{side}.{name}", f"{VAE}.{side}.{name}") for name in ("conv_in", "conv_out")]
        rows.append((f"{side}.conv_norm_out", f"{VAE}.{side}.norm_out"))
        for index in (0, 1):
            rows.append((f"{side}.mid_block.resnets.{index}", f"{VAE}.{side}.mid.block_{index + 1}"))
        attention, theirs = f"{side}.mid_block.attentions.0", f"{VAE}.{side}.mid.attn_1"
        names = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
        rows += [(f"{attention}.{ours}", f"{theirs}.{name}") for ours, name in names.items()]
        for level in range(levels):
            down = side == "encoder"
            ours = f"{side}.{'down' if down else 'up'}_blocks.{level}"
            theirs = f"{VAE}.{side}.{'down' if down else 'up'}.{level if down else levels - 1 - level}"
            for layer in range(layers if down else layers + 1):
                rows.append((f"{ours}.resnets.{layer}.conv_shortcut", f"{theirs}.block.{layer}.nin_shortcut"))
                rows.append((f"{ours}.resnets.{layer}", f"{theirs}.block.{layer}"))
            if level + 1 < levels:
                sampler = "downsample" if down else "upsample"
                rows.append((f"{ours}.{sampler}rs.0.conv", f"{theirs}.{sampler}.conv"))
    return rows


def _open_clip(prefix: str, layers: int) -> list[tuple[str, str]]:
    """OpenCLIP's names; q, k and v keep ours behind a mark, `single_file` fuses them."""
    rows = [
        ("text_model.embeddings.token_embedding", f"{prefix}.token_embedding"),
        ("text_model.embeddings.position_embedding.weight", f"{prefix}.positional_embedding"),
        ("text_model.final_layer_norm", f"{prefix}.ln_final"),
        ("text_projection.weight", f"{prefix}.text_projection"),
    ]
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    names["self_attn.out_proj"] = "attn.out_proj"
    for layer in range(layers):
        ours, theirs = f"text_model.encoder.layers.{layer}", f"{prefix}.transformer.resblocks.{layer}"
        rows += [(f"{ours}.{name}", f"{theirs}.{other}") for name, other in names.items()]
        for part in "qkv":
            for end in ("weight", "bias"):
                rows.append((f"{ours}.self_attn.{part}_proj.{end}", f"{theirs}.attn.in_proj_{end}#{'qkv'.index(part)}"))
    return rows


def prefixes(family: str, full: bool) -> dict[str, list[tuple[str, str]]]:
    """Each component's table. A `#n` at a name's end: rows n of three equal parts of that tensor."""
    tables = {}
    for component, config in families.configs(family, full).items():
        if component == "unet":
            tables[component] = _unet(config)
        elif component == "vae":
            tables[component] = _vae(config)
        else:
            prefix, style = TOWERS[kind(family)][component]
            plain = [("text_model", f"{prefix}.text_model")]
            tables[component] = plain if style == "clip" else _open_clip(prefix, config["num_hidden_layers"])
    return tables


def rename(name: str, table: list[tuple[str, str]]) -> str:
    """The original name of one tensor."""
    best = max((row for row in table if name == row[0] or name.startswith(row[0] + ".")), key=lambda row: len(row[0]))
    return best[1] + name[len(best[0]) :]


def extras(family: str, rows: dict[str, list]) -> list[list]:
    """Tensors single files carry and folders do not: [name, shape, bound, offset], or [name, "arange", count].

    OpenCLIP-H's last layer and its projection, which Stable Diffusion 2 does not use; position ids; logit scale.
    """
    out = []
    for component, (prefix, style) in TOWERS[kind(family)].items():
        shapes = {row[0]: row[1] for row in rows[component]}
        if style == "clip":
            out.append([f"{prefix}.text_model.embeddings.position_ids", "arange", 77])
            continue
        out.append([f"{prefix}.logit_scale", [], 0.0, 4.6052])
        if component == "text_encoder":
            width = shapes["text_model.final_layer_norm.weight"][0]
            layer = 1 + max(int(name.split(".")[3]) for name in shapes if ".layers." in name)
            block = f"{prefix}.transformer.resblocks.{layer}"
            sizes = {
                "ln_1.weight": [width],
                "ln_1.bias": [width],
                "attn.in_proj_weight": [3 * width, width],
                "attn.in_proj_bias": [3 * width],
                "attn.out_proj.weight": [width, width],
                "attn.out_proj.bias": [width],
                "ln_2.weight": [width],
                "ln_2.bias": [width],
                "mlp.c_fc.weight": [4 * width, width],
                "mlp.c_fc.bias": [4 * width],
                "mlp.c_proj.weight": [width, 4 * width],
                "mlp.c_proj.bias": [width],
            }
            for name, shape in sizes.items():
                out.append([f"{block}.{name}", shape, *weights.bound_and_offset("text_encoder", name, shape)])
            shape = [width, width]
            out.append([f"{prefix}.text_projection", shape, *weights.bound_and_offset("text_encoder", "p", shape)])
    return out


def single_file(family: str, rows: dict[str, list], full: bool = True) -> list:
    """Rows for `checkpoint.write`: the pipeline's tensors under their original names and shapes."""
    tables, out, fused = prefixes(family, full), [], {}
    for component, tensors in rows.items():
        for name, shape, *rest in tensors:
            original = rename(name, tables[component])
            source = checkpoint.formula(component, name, shape, *rest)
            if "#" in original:
                original, part = original.split("#")
                fused.setdefault(original, {})[int(part)] = (shape, source)
                continue
            if original.endswith(".text_projection"):
                # Stored [width, projection]: the transpose of the linear layer's weight.
                values = source(0, int(np.prod(shape))).reshape(shape).T
                shape, source = list(values.shape), _flat(values)
            elif component == "vae" and ".mid.attn_1." in original and len(shape) == 2:
                shape = [*shape, 1, 1]
            out.append((original, shape, source))
    for original, parts in fused.items():
        shape = parts[0][0]
        values = np.concatenate([parts[part][1](0, int(np.prod(shape))) for part in range(3)])
        out.append((original, [3 * shape[0], *shape[1:]], _flat(values)))
    for name, shape, *rest in extras(family, rows):
        if shape == "arange":
            out.append((name, [1, rest[0]], np.arange(rest[0], dtype=np.int64)[None]))
        else:
            out.append((name, shape, checkpoint.formula("extra", name, shape, *rest)))
    return sorted(out, key=lambda row: row[0])


def _flat(values: np.ndarray):
    """A source over values in memory."""
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    return lambda start, count: flat[start : start + count]
