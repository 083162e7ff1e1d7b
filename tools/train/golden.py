"""Records diffusers' picture of the model in the box, for the tests.

    python tools/train/golden.py models/tintype-box

The hashes of Tintype's own pixels, `sha256[precision][instruction set]`, stay as they are; a test names those it found, for
each TINTYPE_ISA=portable|avx2|avx512|avx512bf16|amx.
"""

import argparse
import json
import os

import torch
from diffusers import StableDiffusionPipeline

ASKED = {"prompt": "a photo of a cat", "seed": 1, "steps": 10}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--out", default="tests/data/box")
    args = parser.parse_args()
    with open(os.path.join(args.model, "tintype.json")) as file:
        asked = ASKED | {"guidance": json.load(file)["defaults"]["guidance_scale"]}
    pipe = StableDiffusionPipeline.from_pretrained(args.model, torch_dtype=torch.float32, safety_checker=None)
    generator = torch.Generator("cpu").manual_seed(asked["seed"])
    made = pipe(asked["prompt"], num_inference_steps=asked["steps"], guidance_scale=asked["guidance"], generator=generator)
    made.images[0].save(os.path.join(args.out, "golden.png"), optimize=True)
    path, hashes = os.path.join(args.out, "golden.json"), {}
    if os.path.exists(path):
        with open(path) as file:
            hashes = json.load(file).get("sha256", {})
    with open(path, "w") as file:
        json.dump(asked | {"sha256": hashes}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
