"""What is recorded of a family: text, one UNet forward, the VAE both ways, whole pipeline runs."""

import inspect
import math

import diffusers
import numpy as np
import torch

import families
import models

SAMPLERS = {
    "ddim": ("DDIMScheduler", {}, 0.0),
    "ddim-eta05": ("DDIMScheduler", {}, 0.5),
    "euler": ("EulerDiscreteScheduler", {}, 0.0),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}, 0.0),
    "dpmpp-2m": ("DPMSolverMultistepScheduler", {}, 0.0),
    "dpmpp-2m-karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, 0.0),
    "lcm": ("LCMScheduler", {}, 0.0),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}, 0.0),
    "euler-karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, 0.0),
}
# Families whose every sampler and option is recorded.
THOROUGH = ("sd15", "sd21", "sdxl")
STAGES = ("sd15", "sdxl")
LONG = "a very " + "long winding description of a cat sitting in a garden full of flowers, " * 8 + "at dusk"


def numpy(tensor: torch.Tensor) -> np.ndarray:
    """A contiguous f32 copy."""
    return tensor.detach().to(torch.float32).contiguous().numpy().copy()


def ids(tokenizer, text: str) -> torch.Tensor:
    """The 77 ids the pipelines use."""
    options = {"padding": "max_length", "max_length": 77, "truncation": True, "return_tensors": "pt"}
    return tokenizer(text, **options).input_ids


def record_text(parts: dict) -> tuple[dict, dict, dict]:
    """Tensors, token ids, and the UNet's conditions as (uncond, cond) pairs."""
    out, tokens, contexts, pooled = {}, {}, {"cond": [], "uncond": []}, {}
    for suffix, tower, tok in (("", "text_encoder", "tokenizer"), ("_2", "text_encoder_2", "tokenizer_2")):
        if tower not in parts:
            continue
        for kind, text in (("cond", families.PROMPT), ("uncond", "")):
            input_ids = ids(parts[tok], text)
            tokens[kind + suffix] = input_ids[0].tolist()
            result = parts[tower](input_ids, output_hidden_states=True)
            penultimate = result.hidden_states[-2]
            if suffix:
                pooled[kind] = result.text_embeds
            if kind == "cond":
                out[f"text{suffix}.penultimate"] = numpy(penultimate)
                if suffix:
                    out["text_2.pooled"] = numpy(result.text_embeds)
                elif "text_encoder_2" in parts:
                    out["text.last"] = numpy(result.last_hidden_state)
            contexts[kind].append(penultimate if "text_encoder_2" in parts else result.last_hidden_state)
    cond = {kind: torch.cat(towers, dim=-1) for kind, towers in contexts.items()}
    for kind, context in cond.items():
        out[f"text.{kind}"] = numpy(context)
    for kind, vector in pooled.items():
        out[f"text.pooled_{kind}"] = numpy(vector)
    return out, tokens, {"context": cond, "pooled": pooled}


def record_unet(family: str, unet, text: dict) -> dict:
    """One forward over a batch of (unconditional, conditional)."""
    height, width = (16, 12) if family in THOROUGH else (8, 12)
    generator = torch.Generator("cpu").manual_seed(7)
    sample = torch.randn(2, unet.config.in_channels, height, width, generator=generator)
    timestep = torch.tensor([621.0, 21.0])
    context = torch.cat([text["context"]["uncond"], text["context"]["cond"]])
    out = {"unet.in.sample": numpy(sample), "unet.in.timestep": numpy(timestep), "unet.in.context": numpy(context)}
    more = {}
    if text["pooled"]:
        count = 5 if family == "refiner" else 6
        time_ids = torch.tensor([[128.0, 96.0, 0.0, 8.0, 128.0, 96.0], [512.0, 1024.0, 16.0, 0.0, 768.0, 640.0]])
        more["added_cond_kwargs"] = {
            "text_embeds": torch.cat([text["pooled"]["uncond"], text["pooled"]["cond"]]),
            "time_ids": time_ids[:, :count],
        }
        out |= {f"unet.in.{name}": numpy(value) for name, value in more["added_cond_kwargs"].items()}
    if unet.config.time_cond_proj_dim:
        more["timestep_cond"] = guidance_embedding(torch.tensor([7.5, 2.0]), unet.config.time_cond_proj_dim)
        out["unet.in.timestep_cond"] = numpy(more["timestep_cond"])
    hooks = hook_stages(unet, out) if family in STAGES else []
    out["unet.out"] = numpy(unet(sample, timestep, encoder_hidden_states=context, **more).sample)
    for hook in hooks:
        hook.remove()
    return out


def guidance_embedding(scale: torch.Tensor, width: int) -> torch.Tensor:
    """LCM's embedding of the guidance scale, from the pipeline itself."""
    pipe = diffusers.LatentConsistencyModelPipeline
    return pipe.get_guidance_scale_embedding(None, scale - 1, embedding_dim=width)


def hook_stages(unet, out: dict) -> list:
    """Records the output of each stage."""
    stages = {"time_embedding": unet.time_embedding, "conv_in": unet.conv_in, "mid": unet.mid_block}
    stages |= {f"down.{i}": block for i, block in enumerate(unet.down_blocks)}
    stages |= {f"up.{i}": block for i, block in enumerate(unet.up_blocks)}

    def recorder(name):
        def hook(_module, _inputs, output):
            out[f"unet.{name}"] = numpy(output[0] if isinstance(output, tuple) else output)

        return hook

    return [module.register_forward_hook(recorder(name)) for name, module in stages.items()]


def record_vae(vae) -> dict:
    """Decoder on latents, encoder on a smooth picture with some noise."""
    generator = torch.Generator("cpu").manual_seed(8)
    channels, factor = vae.config.latent_channels, 2 ** (len(vae.config.block_out_channels) - 1)
    rows, columns = (6, 4) if factor == 8 else (2, 1)
    latents = 12 * torch.randn(1, channels, rows, columns, generator=generator) / vae.config.scaling_factor
    height, width = (48, 32) if factor == 8 else (rows * factor, columns * factor)
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    picture = torch.stack([rows[:, None] * columns, torch.sin(5 * rows)[:, None] + 0 * columns, columns**2 + 0 * rows[:, None]])
    picture = (picture[None] * 0.8 + 0.2 * torch.randn(1, 3, height, width, generator=generator)).clamp(-1, 1)
    moments = vae.encode(picture).latent_dist
    return {
        "vae.decode.in": numpy(latents),
        "vae.decode.out": numpy(vae.decode(latents).sample),
        "vae.encode.in": numpy(picture),
        "vae.encode.mean": numpy(moments.mean),
        "vae.encode.logvar": numpy(moments.logvar),
    }


def cases(family: str) -> dict[str, dict]:
    """The pipeline runs of a family; keys left out keep the family's usual values."""
    out = {"default": {"steps_kept": True}}
    if family not in THOROUGH:
        return out
    for name in SAMPLERS:
        out[name] = {"sampler": name, "steps_kept": True}
    out["batch2"] = {"seeds": [42, 43], "sampler": "euler-a"}
    out["rescale"] = {"guidance_rescale": 0.7}
    out["clip-skip"] = {"clip_skip": 1}
    out["negative"] = {"negative": "blurry, dog"}
    out["empty"] = {"prompt": ""}
    out["long"] = {"prompt": LONG}
    out["no-guidance"] = {"guidance": 1.0}
    out["wide"] = {"width": 128, "height": 64, "image": True}
    out["odd"] = {"width": 88, "height": 72, "image": True}
    if family == "sdxl":
        out["negative-empty"] = {"negative": ""}
    return out


def run_case(family: str, pipe, case: dict) -> tuple[dict, dict]:
    """Runs the pipeline; gives tensors (without prefix) and the case's notes."""
    usual = families.FAMILIES[family]["run"]
    name = case.get("sampler")
    kind, options, eta = SAMPLERS[name] if name else (None, {}, 0.0)
    native = pipe.scheduler
    pipe.scheduler = getattr(diffusers, kind).from_config(native.config, **options) if kind else type(native).from_config(native.config)
    seeds = case.get("seeds", [42])
    notes = {
        "sampler": name,
        "prompt": case.get("prompt", families.PROMPT),
        "negative": case.get("negative"),
        "seeds": seeds,
        "steps": case.get("steps", usual["steps"]),
        "guidance": case.get("guidance", usual["guidance"]),
        "width": case.get("width", usual["size"]),
        "height": case.get("height", usual["size"]),
        "eta": eta,
        "clip_skip": case.get("clip_skip"),
        "guidance_rescale": case.get("guidance_rescale", 0.0),
    }
    steps, before = [], {}

    def keep(_pipe, _step, _timestep, values):
        steps.append(numpy(values["latents"]))
        return values

    accepted = inspect.signature(pipe.__call__).parameters
    arguments = {
        "prompt": notes["prompt"],
        "negative_prompt": notes["negative"],
        "num_inference_steps": notes["steps"],
        "guidance_scale": notes["guidance"],
        "width": notes["width"],
        "height": notes["height"],
        "eta": eta,
        "guidance_rescale": notes["guidance_rescale"],
        "clip_skip": notes["clip_skip"],
        "num_images_per_prompt": len(seeds),
        "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds] if len(seeds) > 1 else torch.Generator("cpu").manual_seed(seeds[0]),
        "callback_on_step_end": keep,
        "output_type": "np",
    }
    if notes["clip_skip"] is not None and family != "sdxl":
        arguments |= skipped_text(pipe, arguments)
    image = pipe(**{k: v for k, v in arguments.items() if k in accepted}).images
    notes["scheduler"] = {k: v for k, v in pipe.scheduler.config.items() if k != "_use_default_values" and v != -math.inf}
    notes["scheduler"]["_class_name"] = type(pipe.scheduler).__name__
    notes["timesteps"] = [float(t) for t in pipe.scheduler.timesteps]
    if getattr(pipe.scheduler, "sigmas", None) is not None:
        notes["sigmas"] = [float(s) for s in pipe.scheduler.sigmas]
    pipe.scheduler = native
    tensors = {"latents": steps[-1]}
    if case.get("image") or name in (None, "ddim", "euler", "euler-a") and not case.keys() - {"sampler", "steps_kept"}:
        tensors["image"] = models.to_u8(image)
    if case.get("steps_kept"):
        tensors["steps"] = np.stack(steps)
    return tensors, notes


def skipped_text(pipe, arguments: dict) -> dict:
    """clip_skip=1 by hand, as the pipeline's encode_prompt does it: it looks for `text_model`, which recent
    transformers dropped from CLIPTextModel."""
    encoder = pipe.text_encoder
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    hidden = encoder(ids(pipe.tokenizer, arguments["prompt"]), output_hidden_states=True).hidden_states
    negative = encoder(ids(pipe.tokenizer, ""))[0]
    return {
        "prompt": None,
        "clip_skip": None,
        "prompt_embeds": norm(hidden[-2]),
        "negative_prompt_embeds": negative,
    }


def record(family: str, parts: dict) -> tuple[dict, dict]:
    """Everything of golden.safetensors and the notes of golden.json."""
    tensors, tokens, text = record_text(parts)
    if family not in THOROUGH:
        # The towers are another family's, and so is what they make of the prompt.
        tensors = {}
    # Without the values that keep a tiny model's latents small, and what its layers do with them.
    plain = models.fill("unet", models.build("unet", families.configs(family, full=False)["unet"]))
    tensors |= record_unet(family, plain, text)
    if family not in ("sd15", "refiner"):
        # `text.uncond` and `text.cond` of the family that owns the towers.
        del tensors["unet.in.context"]
    if "vae" not in families.FAMILIES[family]["like"]:
        tensors |= record_vae(parts["vae"])
    owner = families.FAMILIES[family]["like"].get("text_encoder_2" if "text_encoder_2" in parts else "text_encoder", family)
    notes = {"text_like": owner, "tokens": tokens, "cases": {}}
    usual = families.FAMILIES[family]["run"]
    channels = parts["vae"].config.latent_channels
    if usual is None or parts["unet"].config.in_channels != channels:
        return tensors, notes
    size = usual["size"] // 2 ** (len(parts["vae"].config.block_out_channels) - 1)
    tensors["noise"] = numpy(torch.randn(1, channels, size, size, generator=torch.Generator("cpu").manual_seed(42)))
    pipe = models.pipeline(family, parts)
    for name, case in cases(family).items():
        made, notes["cases"][name] = run_case(family, pipe, case)
        tensors |= {f"run.{name}.{key}": value for key, value in made.items()}
    return tensors, notes
