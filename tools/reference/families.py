"""Every family as data: the published configurations, and the narrow ones of the fixtures.

`PUBLISHED` rows carry the keys of the real config.json files. `tiny(family)` keeps their structure and narrows the
widths. Some widths are not multiples of 16 on purpose, so that the kernels' edges are exercised.
"""

import copy

PROMPT = "a photo of a cat"

# --- text towers -----------------------------------------------------------------------------------------------


def _text(architecture, act, hidden, layers, heads, projection):
    return {
        "architectures": [architecture],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,
        "hidden_act": act,
        "hidden_size": hidden,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 4 * hidden,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": 1,
        "projection_dim": projection,
        "torch_dtype": "float32",
        "transformers_version": "4.25.0.dev0",
        "vocab_size": 49408,
    }


CLIP_L = _text("CLIPTextModel", "quick_gelu", 768, 12, 12, 768)
# OpenCLIP ViT-H has 24 layers; Stable Diffusion 2 stops after 23, and so does its config.json.
OPEN_CLIP_H = _text("CLIPTextModel", "gelu", 1024, 23, 16, 512)
OPEN_CLIP_G = _text("CLIPTextModelWithProjection", "gelu", 1280, 32, 20, 1280)

TINY_CLIP_L = _text("CLIPTextModel", "quick_gelu", 32, 3, 4, 32)
TINY_OPEN_CLIP_H = _text("CLIPTextModel", "gelu", 24, 3, 3, 20)
TINY_OPEN_CLIP_G = _text("CLIPTextModelWithProjection", "gelu", 40, 3, 5, 40)

# --- VAE --------------------------------------------------------------------------------------------------------


def _vae(sample_size, **more):
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.6.0",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": sample_size,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    } | more


VAE = _vae(512)
VAE_SD21 = _vae(768, _diffusers_version="0.8.0")
VAE_SDXL = _vae(1024, _diffusers_version="0.20.0.dev0", force_upcast=True, scaling_factor=0.13025)

TINY_VAE = {"block_out_channels": [8, 16, 24, 24], "norm_num_groups": 8}

# --- UNet -------------------------------------------------------------------------------------------------------

CROSS_DOWN, CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"

UNET_SD1 = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": [CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", CROSS_UP, CROSS_UP, CROSS_UP],
}

UNET_SD2 = UNET_SD1 | {
    "_diffusers_version": "0.10.0.dev0",
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "dual_cross_attention": False,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "sample_size": 96,
    "use_linear_projection": True,
    "upcast_attention": True,
}

# What later versions of the library write beside the keys above.
_LATER = {
    "addition_embed_type_num_heads": 64,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "mid_block_only_cross_attention": None,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "num_attention_heads": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "upcast_attention": None,
}

UNET_SDXL = (
    UNET_SD1
    | _LATER
    | {
        "_diffusers_version": "0.19.0.dev0",
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "attention_head_dim": [5, 10, 20],
        "block_out_channels": [320, 640, 1280],
        "cross_attention_dim": 2048,
        "down_block_types": ["DownBlock2D", CROSS_DOWN, CROSS_DOWN],
        "projection_class_embeddings_input_dim": 2816,
        "sample_size": 128,
        "transformer_layers_per_block": [1, 2, 10],
        "up_block_types": [CROSS_UP, CROSS_UP, "UpBlock2D"],
        "use_linear_projection": True,
    }
)

UNET_REFINER = UNET_SDXL | {
    "attention_head_dim": [6, 12, 24, 24],
    "block_out_channels": [384, 768, 1536, 1536],
    "cross_attention_dim": 1280,
    "down_block_types": ["DownBlock2D", CROSS_DOWN, CROSS_DOWN, "DownBlock2D"],
    "projection_class_embeddings_input_dim": 2560,
    "transformer_layers_per_block": 4,
    "up_block_types": ["UpBlock2D", CROSS_UP, CROSS_UP, "UpBlock2D"],
}

TINY_SD1 = {
    "attention_head_dim": 4,
    "block_out_channels": [24, 40, 48, 48],
    "cross_attention_dim": 32,
    "norm_num_groups": 8,
    "sample_size": 64,
}
TINY_SD2 = TINY_SD1 | {"attention_head_dim": [2, 4, 6, 6], "cross_attention_dim": 24}
TINY_SDXL = {
    "addition_time_embed_dim": 16,
    "attention_head_dim": [2, 4, 6],
    "block_out_channels": [24, 40, 72],
    "cross_attention_dim": 72,
    "norm_num_groups": 8,
    "projection_class_embeddings_input_dim": 40 + 6 * 16,
    "sample_size": 64,
    "transformer_layers_per_block": [1, 2, 3],
}

LATENT16_UNET = {
    "block_out_channels": [128, 256, 384],
    "down_block_types": [CROSS_DOWN] * 3,
    "in_channels": 16,
    "out_channels": 16,
    "sample_size": 16,
    "up_block_types": [CROSS_UP] * 3,
}
LATENT16_VAE = {
    "block_out_channels": [8, 8, 16, 16, 24, 24],
    "down_block_types": ["DownEncoderBlock2D"] * 6,
    "latent_channels": 16,
    "layers_per_block": 1,
    "mid_block_add_attention": False,
    "norm_num_groups": 8,
    "up_block_types": ["UpDecoderBlock2D"] * 6,
}

# --- schedulers ---------------------------------------------------------------------------------------------------


def _scheduler(name, version="0.6.0", **more):
    return {
        "_class_name": name,
        "_diffusers_version": version,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    } | more


PNDM = _scheduler("PNDMScheduler")
DDIM_V = _scheduler("DDIMScheduler", "0.8.0", prediction_type="v_prediction")
_EULER_KEYS = {
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}
EULER_SDXL = _scheduler("EulerDiscreteScheduler", "0.19.0.dev0", **_EULER_KEYS)
EULER_TURBO = EULER_SDXL | {"_diffusers_version": "0.24.0.dev0", "timestep_spacing": "trailing", "timestep_type": "discrete"}
EULER_A_TURBO = EULER_SDXL | {
    "_class_name": "EulerAncestralDiscreteScheduler",
    "_diffusers_version": "0.24.0.dev0",
    "timestep_spacing": "trailing",
}
LCM = {
    "_class_name": "LCMScheduler",
    "_diffusers_version": "0.22.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "clip_sample_range": 1.0,
    "dynamic_thresholding_ratio": 0.995,
    "num_train_timesteps": 1000,
    "original_inference_steps": 50,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
    "sample_max_value": 1.0,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "thresholding": False,
    "timestep_spacing": "leading",
    "trained_betas": None,
}

# --- pipelines ----------------------------------------------------------------------------------------------------


def _index(pipeline, scheduler, second_tower=False, first_tower=True, **more):
    index = {"_class_name": pipeline, "_diffusers_version": scheduler["_diffusers_version"]} | more
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    if first_tower:
        index["text_encoder"] = ["transformers", "CLIPTextModel"]
        index["tokenizer"] = ["transformers", "CLIPTokenizer"]
    else:
        index["text_encoder"] = [None, None]
        index["tokenizer"] = [None, None]
    if second_tower:
        index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
    else:
        index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
        index["safety_checker"] = [None, None]
        index["requires_safety_checker"] = False
    index["unet"] = ["diffusers", "UNet2DConditionModel"]
    index["vae"] = ["diffusers", "AutoencoderKL"]
    return index


def _sd1(
    unet=None, scheduler=PNDM, pipeline="StableDiffusionPipeline", like=("text_encoder", "vae"), full=None, vae=None, **run
):
    return {
        "index": _index(pipeline, scheduler),
        "scheduler": scheduler,
        "text_encoder": (CLIP_L, TINY_CLIP_L),
        "unet": (UNET_SD1 | (full or {}), UNET_SD1 | (full or {}) | TINY_SD1 | (unet or {})),
        "vae": (VAE | (vae or {}), VAE | TINY_VAE | (vae or {})),
        "like": {component: "sd15" for component in like},
        "run": {"steps": 5, "guidance": 7.5, "size": 64} | run,
    }


def _sd2(scheduler, like=("text_encoder", "unet"), **run):
    return {
        "index": _index("StableDiffusionPipeline", scheduler),
        "scheduler": scheduler,
        "text_encoder": (OPEN_CLIP_H, TINY_OPEN_CLIP_H),
        "unet": (UNET_SD2, UNET_SD2 | TINY_SD2),
        "vae": (VAE_SD21, VAE_SD21 | TINY_VAE),
        "like": {component: "sd21" for component in like} | {"vae": "sd15"},
        "run": {"steps": 5, "guidance": 7.5, "size": 64} | run,
    }


def _sdxl(scheduler=EULER_SDXL, full=None, tiny_unet=None, like=("text_encoder_2",), **run):
    return {
        "index": _index("StableDiffusionXLPipeline", scheduler, second_tower=True, force_zeros_for_empty_prompt=True),
        "scheduler": scheduler,
        "text_encoder": (CLIP_L, TINY_CLIP_L),
        "text_encoder_2": (OPEN_CLIP_G, TINY_OPEN_CLIP_G),
        "unet": (UNET_SDXL | (full or {}), UNET_SDXL | (full or {}) | TINY_SDXL | (tiny_unet or {})),
        "vae": (VAE_SDXL, VAE_SDXL | TINY_VAE),
        "like": {component: "sdxl" for component in like} | {"text_encoder": "sd15", "vae": "sd15"},
        "run": {"steps": 4, "guidance": 5.0, "size": 64} | run,
    }


FAMILIES = {
    "sd15": _sd1(like=()),
    "sd21": _sd2(DDIM_V, like=()),
    "sd21-base": _sd2(PNDM | {"_diffusers_version": "0.8.0"}),
    "sd21-zsnr": _sd2(DDIM_V | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    "sdxl": _sdxl(like=()),
    "sd-turbo": _sd2(EULER_TURBO, steps=1, guidance=0.0),
    "sdxl-turbo": _sdxl(EULER_A_TURBO, like=("text_encoder_2", "unet"), steps=2, guidance=0.0),
    "lcm": _sd1(
        scheduler=LCM,
        pipeline="LatentConsistencyModelPipeline",
        full=_LATER | {"_diffusers_version": "0.22.0.dev0", "time_cond_proj_dim": 256},
    ),
    "bk-sdm-small": _sd1(full={"_diffusers_version": "0.15.0", "layers_per_block": 1, "mid_block_type": None}),
    "bk-sdm-tiny": _sd1(
        full={
            "_diffusers_version": "0.15.0",
            "block_out_channels": [320, 640, 1280],
            "down_block_types": [CROSS_DOWN] * 3,
            "layers_per_block": 1,
            "mid_block_type": None,
            "up_block_types": [CROSS_UP] * 3,
        },
        unet={"block_out_channels": [24, 40, 48]},
    ),
    "ssd-1b": _sdxl(
        full={
            "mid_block_type": "UNetMidBlock2D",
            "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
            "transformer_layers_per_block": [1, [2, 2], [4, 4]],
        },
        tiny_unet={
            "reverse_transformer_layers_per_block": [[2, 2, 3], [2, 1, 1], 1],
            "transformer_layers_per_block": [1, [2, 1], [2, 3]],
        },
    ),
    "vega": _sdxl(
        full={
            "mid_block_type": "UNetMidBlock2D",
            "reverse_transformer_layers_per_block": None,
            "transformer_layers_per_block": [1, 1, 2],
        },
        tiny_unet={"transformer_layers_per_block": [1, 1, 2]},
    ),
    # Latents of 16 channels at a 32nd of the picture's size, as an autoencoder of six levels without attention makes.
    "latent16": _sd1(
        scheduler=DDIM_V
        | {"rescale_betas_zero_snr": True, "set_alpha_to_one": True, "timestep_spacing": "trailing"},
        like=("text_encoder",),
        full=LATENT16_UNET,
        unet=LATENT16_UNET | {"attention_head_dim": 4, "block_out_channels": [16, 24, 40]},
        vae=LATENT16_VAE,
        size=96,
    ),
    "inpaint": _sd1(pipeline="StableDiffusionInpaintPipeline", full={"in_channels": 9}),
    "refiner": {
        "index": _index(
            "StableDiffusionXLImg2ImgPipeline",
            EULER_SDXL,
            second_tower=True,
            first_tower=False,
            force_zeros_for_empty_prompt=False,
            requires_aesthetics_score=True,
        ),
        "scheduler": EULER_SDXL,
        "text_encoder_2": (OPEN_CLIP_G, TINY_OPEN_CLIP_G),
        "unet": (
            UNET_REFINER,
            UNET_REFINER
            | TINY_SDXL
            | {
                "attention_head_dim": [2, 4, 6, 6],
                "block_out_channels": [24, 40, 48, 48],
                "cross_attention_dim": 40,
                "projection_class_embeddings_input_dim": 40 + 5 * 16,
                "transformer_layers_per_block": 2,
            },
        ),
        "vae": (VAE_SDXL, VAE_SDXL | TINY_VAE),
        "like": {"text_encoder_2": "sdxl", "vae": "sd15"},
        "run": None,
    },
}

COMPONENTS = ["text_encoder", "text_encoder_2", "unet", "vae"]


def configs(family: str, full: bool) -> dict[str, dict]:
    """Each component's config.json; `full` for the published widths."""
    spec = FAMILIES[family]
    return {c: copy.deepcopy(spec[c][0 if full else 1]) for c in COMPONENTS if c in spec}


def tiny(family: str, full: bool) -> str | None:
    """What the family's tiny model predicts, which decides on its weights; None for the full-size one."""
    return None if full else FAMILIES[family]["scheduler"].get("prediction_type", "epsilon")


def tokenizers(family: str) -> dict[str, str]:
    """Tokenizer folders and their padding token: CLIP-L pads with the end token, OpenCLIP with id 0."""
    spec = FAMILIES[family]
    folders = {}
    if "text_encoder" in spec:
        folders["tokenizer"] = "<|endoftext|>" if spec["text_encoder"][0]["hidden_act"] == "quick_gelu" else "!"
    if "text_encoder_2" in spec:
        folders["tokenizer_2"] = "!"
    return folders
