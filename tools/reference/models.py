"""Builds diffusers' own pipelines from a family's configurations and the weight formula."""

import json
import pathlib

import diffusers
import numpy as np
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import families
import tokenizer
import weights

torch.set_grad_enabled(False)


def disk_name(component: str, name: str) -> str:
    """A state_dict name as published files have it: recent transformers dropped CLIPTextModel's inner prefix."""
    if component.startswith("text_encoder") and not name.startswith(("text_model.", "text_projection.")):
        return f"text_model.{name}"
    return name


def build(component: str, config: dict) -> torch.nn.Module:
    """An uninitialised module of the component's class."""
    if component.startswith("text_encoder"):
        kind = CLIPTextModelWithProjection if config["architectures"] == ["CLIPTextModelWithProjection"] else CLIPTextModel
        return kind(CLIPTextConfig(**config)).eval()
    kind = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}[component]
    return kind.from_config(config).eval()


def tensors(component: str, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Everything the published file would hold, under its names there."""
    state = module.state_dict().items()
    return {disk_name(component, name): tensor for name, tensor in state if tensor.is_floating_point()}


def manifest(component: str, module: torch.nn.Module, tiny: str | None) -> list[list]:
    """The rows of `weights.rows`; `tiny`: what a tiny model predicts, None for a full-size one."""
    shapes = {name: list(tensor.shape) for name, tensor in tensors(component, module).items()}
    return weights.rows(component, shapes, module.config, tiny)


def fill(component: str, module: torch.nn.Module, tiny: str | None = None) -> torch.nn.Module:
    """Gives every tensor its formula's values."""
    own = tensors(component, module)
    for row in manifest(component, module, tiny):
        own[row[0]].copy_(torch.from_numpy(weights.values(component, *row)))
    return module


def load(family: str, work: pathlib.Path, full: bool = False) -> dict:
    """All parts of the family's pipeline."""
    spec = families.FAMILIES[family]
    tiny = families.tiny(family, full)
    parts = {c: fill(c, build(c, config), tiny) for c, config in families.configs(family, full).items()}
    for name, pad in families.tokenizers(family).items():
        parts[name] = CLIPTokenizer.from_pretrained(tokenizer.write(work / f"{family}-{name}", pad))
    parts["scheduler"] = getattr(diffusers, spec["scheduler"]["_class_name"]).from_config(spec["scheduler"])
    return parts


def pipeline(family: str, parts: dict):
    """diffusers' pipeline over the parts."""
    kind = getattr(diffusers, families.FAMILIES[family]["index"]["_class_name"])
    more = {}
    if kind is diffusers.StableDiffusionXLPipeline:
        more = {"force_zeros_for_empty_prompt": True, "add_watermarker": False}
    else:
        more = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = kind(**parts, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def write_json(path: pathlib.Path, content) -> None:
    """Writes JSON as the published files look."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_configs(family: str, folder: pathlib.Path, full: bool) -> None:
    """model_index.json and every config.json, without weights and vocabulary."""
    spec = families.FAMILIES[family]
    write_json(folder / "model_index.json", spec["index"])
    write_json(folder / "scheduler" / "scheduler_config.json", spec["scheduler"])
    for component, config in families.configs(family, full).items():
        write_json(folder / component / "config.json", config)
    for name, pad in families.tokenizers(family).items():
        for file, content in tokenizer.configs(pad).items():
            write_json(folder / name / file, content)


def to_u8(image: np.ndarray) -> np.ndarray:
    """0..1 to bytes, rounded as diffusers does."""
    return (image * 255).round().astype("uint8")
