"""Renders with diffusers what Tintype rendered, and counts the pixels that differ by more than 1 of 255.

    tintype generate "a photo of a cat" --seed 42 --out cat.png
    python tools/train/check_diffusers.py models/tintype-box "a photo of a cat" 42 cat.png
"""

import argparse

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model"), parser.add_argument("prompt"), parser.add_argument("seed", type=int), parser.add_argument("picture")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--rescale", type=float, default=0.0)
    parser.add_argument("--out", help="where to keep diffusers' picture")
    args = parser.parse_args()
    pipe = StableDiffusionPipeline.from_pretrained(args.model, torch_dtype=torch.float32)
    theirs = pipe(
        args.prompt, num_inference_steps=args.steps, guidance_scale=args.guidance, guidance_rescale=args.rescale, generator=torch.Generator().manual_seed(args.seed)
    ).images[0]
    if args.out:
        theirs.save(args.out)
    ours = np.asarray(Image.open(args.picture).convert("RGB"), dtype=int)
    far = np.abs(ours - np.asarray(theirs, dtype=int)).max(2)
    print(f"within 1/255: {100 * (far <= 1).mean():.3f} % of pixels, worst {far.max()}")


if __name__ == "__main__":
    main()
