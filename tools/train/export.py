"""Writes the trained model as a diffusers folder in f16.

    python tools/train/export.py models/tintype-box
"""

import argparse
import json
import os
import shutil

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from transformers import CLIPTokenizer

from train_diffusion import Pair, scheduler


def compact(path):
    """Rewrites a JSON file without spaces."""
    with open(path) as file:
        value = json.load(file)
    with open(path, "w") as file:
        json.dump(value, file, ensure_ascii=False, separators=(",", ":"))


def forget_origin(folder):
    """Takes the path a part was loaded from out of every config."""
    for part in os.listdir(folder):
        path = os.path.join(folder, part, "config.json")
        if os.path.exists(path):
            with open(path) as file:
                lines = [line for line in file if '"_name_or_path"' not in line]
            with open(path, "w") as file:
                file.writelines(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--run", default="target/box/run")
    parser.add_argument("--tokenizer", default="target/box/tokenizer")
    args = parser.parse_args()
    tokens = torch.load(os.path.join(args.run, "tokens.pt"))
    state = torch.load(os.path.join(args.run, "diffusion.pt"), map_location="cpu")
    pair = Pair(tokens["vectors"])
    pair.load_state_dict(state["mean"])
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(os.path.join(args.run, "vae-normal")), text_encoder=pair.text, unet=pair.unet,
        tokenizer=CLIPTokenizer.from_pretrained(args.tokenizer), scheduler=scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )
    pipe.to(dtype=torch.float16).save_pretrained(args.out, safe_serialization=True)
    # The slow tokenizer's two files are all that a reader needs; the fast one's copy would double them.
    extra = os.path.join(args.out, "tokenizer", "tokenizer.json")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(os.path.join(args.tokenizer, name), os.path.join(args.out, "tokenizer", name))
    if os.path.exists(extra):
        os.remove(extra)
    forget_origin(args.out)
    compact(os.path.join(args.out, "tokenizer", "vocab.json"))
    size = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(args.out) for f in fs)
    print(f"{args.out}: {size / 1e6:.2f} MB, {state['step']} steps, {state['spent'] / 60:.0f} minutes")


if __name__ == "__main__":
    main()
