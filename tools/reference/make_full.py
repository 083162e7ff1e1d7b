"""Writes a full-size random checkpoint by the weight formula, as a diffusers folder or as a single file.

    python make_full.py FAMILY TARGET [--form folder|single] [--dtype f32|f16]

SD1.5 is 4.3 GB in f32. Values are computed and written in pieces, so that memory stays under 1 GB.
"""

import argparse
import pathlib

import torch

import checkpoint
import families
import ldm
import models
import tokenizer

FILES = {"text_encoder": "model", "text_encoder_2": "model"}


def manifests(family: str, full: bool) -> dict[str, list]:
    """Each component's rows, as `weights.rows` makes them."""
    tiny = families.tiny(family, full)
    with torch.device("meta"):
        return {c: models.manifest(c, models.build(c, config), tiny) for c, config in families.configs(family, full).items()}


def write_folder(family: str, target: pathlib.Path, dtype: str, full: bool = True) -> None:
    """The form of hub repositories."""
    models.write_configs(family, target, full)
    for name, pad in families.tokenizers(family).items():
        tokenizer.write(target / name, pad)
    for component, rows in manifests(family, full).items():
        file = target / component / f"{FILES.get(component, 'diffusion_pytorch_model')}.safetensors"
        checkpoint.write(file, [(row[0], row[1], checkpoint.formula(component, *row)) for row in rows], dtype)


def write_single(family: str, target: pathlib.Path, dtype: str, full: bool = True) -> None:
    """The form of original checkpoints."""
    checkpoint.write(target, ldm.single_file(family, manifests(family, full)), dtype)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=list(families.FAMILIES))
    parser.add_argument("target", type=pathlib.Path)
    parser.add_argument("--form", choices=["folder", "single"], default="folder")
    parser.add_argument("--dtype", choices=["f32", "f16"], default="f32")
    parser.add_argument("--tiny", action="store_true", help="the fixtures' widths")
    arguments = parser.parse_args()
    write = write_folder if arguments.form == "folder" else write_single
    write(arguments.family, arguments.target, arguments.dtype, full=not arguments.tiny)


if __name__ == "__main__":
    main()
