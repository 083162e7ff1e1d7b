"""Turns pictures into latents once: a bank of `(latent, what it shows)` that the diffusion model trains on.

    python tools/train/encode.py --count 6000

First the VAE's latents are brought to mean 0 and deviation 1 per channel by folding both into its two 1x1
convolutions, so `scaling_factor` is 1. Shards are written as they fill; a stopped run goes on where it was.
"""

import json
import os
import random

import torch
from diffusers import AutoencoderKL

import pictures
from common import arguments, data_paths, device
from motifs import MOTIFS

SHARD = 500


def plan(rng):
    """What each picture shows, endlessly: three rounds of every motif and style for one of drawn shapes."""
    while True:
        rows = [(motif, style) for motif in range(len(MOTIFS)) for style in pictures.STYLES]
        rng.shuffle(rows)
        for motif, style in rows:
            yield motif, style
            if rng.random() < 0.4:
                yield None, None


def picture(found, rng, motif, style):
    if motif is None:
        return pictures.shape_picture(rng)
    return pictures.emoji_picture(found, rng, motif, style)


@torch.no_grad()
def encode(vae, rows):
    x = torch.stack([torch.from_numpy(pictures.as_array(p)) for p in rows]).to(device()).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        return vae.encode(x).latent_dist.mean.float().cpu()


@torch.no_grad()
def normalise(vae, latents):
    """Folds `(z - mean) / std` per channel into quant_conv and its inverse into post_quant_conv."""
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    quant, post = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    quant.weight[:channels] /= std[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.bias[channels:] -= 2 * std.log()  # the posterior's log variance shrinks alike
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)
    return vae


def main():
    args = arguments("Encode the pictures", count=(6000, "pictures in the bank"), seed=(11, "seed"))
    found = pictures.glyphs(*data_paths(args.data))
    folder = os.path.join(args.run, "bank")
    os.makedirs(folder, exist_ok=True)
    ready = os.path.join(args.run, "vae-normal")
    if not os.path.exists(ready):
        vae = AutoencoderKL.from_pretrained(os.path.join(args.run, "vae")).to(device()).eval()
        rng = random.Random(5)
        trial = [pictures.sample(found, rng)[0] for _ in range(192)]
        normalise(vae, torch.cat([encode(vae, trial[i : i + 8]) for i in range(0, len(trial), 8)])).save_pretrained(ready)
    vae = AutoencoderKL.from_pretrained(ready).to(device(), memory_format=torch.channels_last).eval()
    rng = random.Random(args.seed)
    source = plan(rng)
    for shard in range(-(-args.count // SHARD)):
        rows = [picture(found, rng, *next(source)) for _ in range(SHARD)]
        path = os.path.join(folder, f"{shard:03}.pt")
        if os.path.exists(path):
            continue
        latents = torch.cat([encode(vae, [row[0] for row in rows[i : i + 8]]) for i in range(0, SHARD, 8)])
        facts = [dict(facts, caption=caption) for _, caption, facts in rows]
        torch.save({"latents": latents.half(), "facts": facts}, path + ".part")
        os.replace(path + ".part", path)
        print(json.dumps({"shard": shard, "std": round(latents.std().item(), 3), "largest": round(latents.abs().max().item(), 2)}), flush=True)


if __name__ == "__main__":
    main()
