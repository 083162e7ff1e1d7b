"""Prompt to PNG with PyTorch and diffusers' pipeline: a program of its own."""

import time

START = time.perf_counter()

import diffusers  # noqa: E402
import torch  # noqa: E402

import picture  # noqa: E402
import work  # noqa: E402

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    """The whole run; prints where the time went."""
    taken = picture.arguments(__doc__, list(DTYPES))
    torch.set_num_threads(taken.threads)
    held, dtype = work.Work(taken.work), DTYPES[taken.precision]
    noise = held.arrays(work.Job(taken.family, "vae", taken.width, taken.height, 1))["latents"]
    marks = [time.perf_counter()]
    more = {"safety_checker": None, "feature_extractor": None}
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(held.checkpoint(taken.family), dtype=dtype, **more)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    marks.append(time.perf_counter())
    with torch.inference_mode():
        prompt, empty = pipe.encode_prompt(work.PROMPT, "cpu", 1, True, negative_prompt="")
        marks.append(time.perf_counter())
        latents = pipe(
            prompt_embeds=prompt,
            negative_prompt_embeds=empty,
            num_inference_steps=taken.steps,
            guidance_scale=work.GUIDANCE,
            width=taken.width,
            height=taken.height,
            latents=torch.from_numpy(noise).to(dtype),
            output_type="latent",
        ).images
        marks.append(time.perf_counter())
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
        pipe.image_processor.postprocess(decoded, output_type="pil")[0].save(taken.out)
    marks.append(time.perf_counter())
    picture.report(START, marks)


if __name__ == "__main__":
    main()
