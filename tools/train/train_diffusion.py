"""Trains the text tower and the UNet on the bank of latents.

    python tools/train/train_diffusion.py --minutes 120 --cool 0.25

v-prediction with zero terminal SNR. Stop it at any time: the next call goes on from the last checkpoint. The state
before the learning rate falls is kept as `diffusion-warm.pt`, so that a longer run can start from it.
"""

import glob
import os
import random
import time

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import pictures
from common import Average, Log, arguments, device, save, seeded
from embed_tokens import WIDTH
from optim import Both

UNET = [128, 128]
FROZEN = "token_embedding"
SHEET = [
    "a photo of a cat", "a red apple on a blue background", "a dog", "a pizza", "a rocket", "an octopus",
    "a green circle left of a red square", "a flat icon of a tulip, yellow background", "a penguin on a pink background",
    "a photo of a car", "two blue stars", "a hamburger", "a kitten", "a big red square on a black background", "a butterfly", "a flat drawing of a cat",
]


def scheduler():
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=True, steps_offset=0,
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
    )


def text_tower(vectors):
    config = CLIPTextConfig(
        vocab_size=len(vectors), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=2, num_attention_heads=4, projection_dim=WIDTH,
        hidden_act="gelu", max_position_embeddings=77, bos_token_id=49406, eos_token_id=49407, pad_token_id=1,
    )
    config._attn_implementation = "eager"
    tower = CLIPTextModel(config)
    for name, p in tower.named_parameters():
        if FROZEN in name:
            p.data.copy_(vectors)
        elif "position_embedding" in name:
            p.data.normal_(0, 0.1)
        elif name.endswith(("out_proj.weight", "fc2.weight")):
            p.data.mul_(0.1)
    return tower


def unet():
    model = UNet2DConditionModel(
        sample_size=16, in_channels=16, out_channels=16, block_out_channels=UNET, layers_per_block=1,
        down_block_types=["CrossAttnDownBlock2D"] * 2, up_block_types=["CrossAttnUpBlock2D"] * 2,
        cross_attention_dim=WIDTH, attention_head_dim=4, norm_num_groups=8,
    )
    # Plain products: on a CPU their gradient in bf16 is twice as fast as that of the fused attention.
    model.set_attn_processor(AttnProcessor())
    torch.nn.init.zeros_(model.conv_out.weight)
    for name, p in model.named_parameters():
        if name.endswith(("conv2.weight", "proj_out.weight", "to_out.0.weight", "ff.net.2.weight")):
            p.data.mul_(0.1)
    return model


class Pair(torch.nn.Module):
    """The two halves that train together."""

    def __init__(self, vectors):
        super().__init__()
        self.text, self.unet = text_tower(vectors), unet()

    def forward(self, x, t, ids):
        return self.unet(x, t, self.text(ids)[0]).sample


class Bank:
    """Latents, what they show, and fresh captions for them."""

    def __init__(self, folder, tokenizer, known):
        self.folder, self.tokenizer, self.cache, self.files = folder, tokenizer, {}, []
        self.known = known
        self.refresh()

    def refresh(self):
        files = sorted(glob.glob(os.path.join(self.folder, "*.pt")))
        if files != self.files:
            shards = [torch.load(f) for f in files]
            self.latents = torch.cat([s["latents"] for s in shards])
            self.facts = [f for s in shards for f in s["facts"]]
            self.files = files

    def ids(self, text):
        if text not in self.cache:
            self.cache[text] = torch.tensor(self.tokenizer(text, padding="max_length", max_length=77, truncation=True)["input_ids"])
        return self.cache[text]

    def draw(self, rng, count):
        rows = [rng.randrange(len(self.facts)) for _ in range(count)]
        texts = []
        for row in rows:
            facts = self.facts[row]
            if rng.random() < 0.1:
                texts.append("")
            elif "motif" in facts:
                texts.append(pictures.emoji_caption(rng, facts["motif"], facts["style"], facts["ground"]))
            else:
                texts.append(facts["caption"])
        return self.latents[rows].float(), torch.stack([self.ids(t) for t in texts])


def times(count, lean, generator=None):
    """Time steps; `lean` above 0 draws them towards high noise."""
    u = torch.rand(count, generator=generator)
    return (1000 * u ** (1 / (1 + lean))).long().clamp(0, 999)


def loss_of(model, latents, ids, t, alphas):
    noise = torch.randn_like(latents)
    a = alphas[t].view(-1, 1, 1, 1)
    x, v = a.sqrt() * latents + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * latents
    with torch.autocast(latents.device.type, dtype=torch.bfloat16):
        return F.mse_loss(model(x.contiguous(memory_format=torch.channels_last), t, ids).float(), v)


@torch.no_grad()
def sheet(model, vae, bank, path, guidance=3.0, steps=20):
    """The prompts of SHEET as one picture."""
    here = next(model.parameters()).device
    plan = scheduler()
    plan.set_timesteps(steps)
    x = torch.randn(len(SHEET), 16, 16, 16, generator=torch.Generator().manual_seed(1)).to(here)
    text = model.text(torch.stack([bank.ids(p) for p in SHEET + [""] * len(SHEET)]).to(here))[0]
    for t in plan.timesteps:
        with torch.autocast(here.type, dtype=torch.bfloat16):
            yes, no = model.unet(torch.cat([x, x]).contiguous(memory_format=torch.channels_last), t, text).sample.float().chunk(2)
        x = plan.step(no + guidance * (yes - no), t, x).prev_sample
    tiles = Image.new("RGB", (8 * 192, 2 * 192))
    for i in range(len(SHEET)):
        with torch.autocast(here.type, dtype=torch.bfloat16):
            y = vae.decode(x[i : i + 1]).sample.float()
        y = ((y[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
        tiles.paste(Image.fromarray(y).resize((192, 192), Image.BOX), (i % 8 * 192, i // 8 * 192))
    tiles.save(path)


def main():
    args = arguments(
        "Train the diffusion model", minutes=(120.0, "time to train in all"), cool=(0.25, "share of it in which the rate falls"), seed=(2, "seed"),
        rate=(2e-3, "top learning rate"), batch=(64, "batch"), lean=(0.6, "how far time steps lean to high noise"), every=(8.0, "minutes between sheets"),
        tokenizer=("target/box/tokenizer", "folder of CLIP's vocab.json and merges.txt"),
    )
    here = device()
    tokens = torch.load(os.path.join(args.run, "tokens.pt"))
    bank = Bank(os.path.join(args.run, "bank"), CLIPTokenizer.from_pretrained(args.tokenizer), tokens["known"])
    vae = AutoencoderKL.from_pretrained(os.path.join(args.run, "vae-normal")).to(here).eval()
    seeded(args.seed)
    model = Pair(tokens["vectors"]).to(here, memory_format=torch.channels_last)
    slow = [n for n, _ in model.named_parameters() if FROZEN in n]
    optimiser, mean = Both(model.named_parameters(), args.rate, slow=slow), Average(model, 0.998)
    alphas = scheduler().alphas_cumprod.to(here)
    path, warm = (os.path.join(args.run, f"diffusion{kind}.pt") for kind in ("", "-warm"))
    step, spent = 0, 0.0
    if os.path.exists(path):
        state = torch.load(path, map_location=here)
        model.load_state_dict(state["model"]), optimiser.load_state_dict(state["optimiser"])
        mean.values, mean.updates, step, spent = state["mean"], state["step"], state["step"], state["spent"]
    rng = random.Random(args.seed + step)
    torch.manual_seed(args.seed + step)
    def keep(where):
        save(where, model=model.state_dict(), mean=mean.values, optimiser=optimiser.state_dict(), step=step, spent=spent)
    log, last, losses, drawn = Log(os.path.join(args.run, "diffusion.jsonl")), time.time(), [], spent
    falls = args.minutes * 60 * (1 - args.cool)
    while spent < args.minutes * 60:
        fall = 1.0 if spent <= falls else 1 - (spent - falls) / (args.minutes * 60 - falls)
        optimiser.scale(min(1.0, (step + 1) / 50) * fall)
        latents, ids = bank.draw(rng, args.batch)
        loss = loss_of(model, latents.to(here), ids.to(here), times(args.batch, args.lean).to(here), alphas)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        mean.update(model)
        losses.append(loss.item())
        step += 1
        before, now = spent, time.time()
        spent, last = spent + now - last, now
        if step % 50 == 0:
            log.line(step=step, loss=round(sum(losses[-50:]) / len(losses[-50:]), 5), minutes=round(spent / 60, 1), pictures=len(bank.facts))
        if step % 250 == 0:
            bank.refresh()
            keep(path)
        if before <= falls < spent:
            keep(warm)
        if spent - drawn > args.every * 60 or (spent >= args.minutes * 60):
            drawn = spent
            shown = Pair(tokens["vectors"]).to(here, memory_format=torch.channels_last)
            mean.copy_to(shown)
            sheet(shown.eval(), vae, bank, os.path.join(args.run, f"sheet-{step:06}.png"))
            last = time.time()
    keep(path)


if __name__ == "__main__":
    main()
