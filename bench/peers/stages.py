"""The stages of a model as torch modules whose arguments are the arrays of work.Work.arrays, in their order: what the
torch contestant runs, what OpenVINO converts and what operations are counted over."""

import pathlib

import torch

FOLDERS = {"unet": "unet", "vae": "vae", "text": "text_encoder"}
CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}


class Unet(torch.nn.Module):
    """Noise prediction."""

    def __init__(self, unet: torch.nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample, timestep, context, text_embeds=None, time_ids=None):
        """sample (B, C, H, W), timestep (B,), context (B, 77, D); SDXL's conditions (B, P) and (B, 6)."""
        more = {}
        if text_embeds is not None:
            more["added_cond_kwargs"] = {"text_embeds": text_embeds, "time_ids": time_ids}
        return self.unet(sample, timestep, encoder_hidden_states=context, return_dict=False, **more)[0]


class Decoder(torch.nn.Module):
    """Latents as a sampler leaves them to pixels in -1 to 1."""

    def __init__(self, vae: torch.nn.Module) -> None:
        super().__init__()
        self.post_quant_conv = vae.post_quant_conv
        self.decoder = vae.decoder
        self.scaling_factor = vae.config.scaling_factor

    def forward(self, latents):
        """latents (1, 4, H, W)."""
        return self.decoder(self.post_quant_conv(latents / self.scaling_factor))


class Text(torch.nn.Module):
    """The text tower."""

    def __init__(self, tower: torch.nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, ids):
        """ids (B, 77), i64; the hidden states that SD1.x's UNet takes."""
        return self.tower(ids, return_dict=True).last_hidden_state


def load(checkpoint: pathlib.Path, stage: str, dtype: torch.dtype) -> torch.nn.Module:
    """A stage with its weights in a number type."""
    import diffusers
    import transformers

    kind = transformers.CLIPTextModel if stage == "text" else getattr(diffusers, CLASSES[stage])
    return wrap(stage, kind.from_pretrained(checkpoint / FOLDERS[stage], dtype=dtype).eval())


def dtype(checkpoint: pathlib.Path, stage: str) -> torch.dtype:
    """The number type of a stage's file."""
    from safetensors import safe_open

    (file,) = (checkpoint / FOLDERS[stage]).glob("*.safetensors")
    with safe_open(file, "pt") as tensors:
        return tensors.get_tensor(next(iter(tensors.keys()))).dtype


def wrap(stage: str, module: torch.nn.Module) -> torch.nn.Module:
    """The module behind a stage's own arguments."""
    return {"unet": Unet, "vae": Decoder, "text": Text}[stage](module).eval()


def tensor(array, dtype: torch.dtype) -> torch.Tensor:
    """An input in the number type of the computation; ids and timesteps stay as they are."""
    made = torch.from_numpy(array)
    return made.to(dtype) if made.is_floating_point() and made.dim() > 1 else made
