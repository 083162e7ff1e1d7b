"""Prepares what bench/peers measures: inputs, operation counts and OpenVINO models, from full-size checkpoints.

    python prepare.py [--work FOLDER] --sd15 CHECKPOINT [--sdxl CHECKPOINT] [--make] [--int8] [--only unet,vae,text]

A checkpoint is a diffusers folder; one that is not there is made with --make by the reference's weight formula (SD1.5 in
f32, 4.3 GB; SDXL in f16, 7 GB). What the folder holds already is kept; --again converts anew.
"""

import argparse
import json
import pathlib
import sys
import warnings

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tools" / "reference")]

import numpy as np  # noqa: E402
import torch  # noqa: E402

import stages  # noqa: E402
import work  # noqa: E402

# Sizes in pixels and batches of each family; the table's rows are in rows.py.
SIZES = {"sd15": [512], "sdxl": [512, 1024]}
BATCHES = {"unet": (1, 2), "vae": (1,), "text": (1, 2)}
STAGES = {"sd15": ("unet", "vae", "text"), "sdxl": ("unet",)}


def make(family: str, checkpoint: pathlib.Path, tiny: bool) -> None:
    """A checkpoint by the weight formula."""
    import make_full

    print(f"writing {checkpoint}", flush=True)
    make_full.write_folder(family, checkpoint, "f16" if family == "sdxl" and not tiny else "f32", full=not tiny)


def embeddings(family: str, checkpoint: pathlib.Path) -> dict[str, np.ndarray]:
    """What the texts become, (empty, prompt), and their ids."""
    import reference_full

    _run, inputs = reference_full.text(family, checkpoint)
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(checkpoint / "tokenizer")
    options = {"padding": "max_length", "max_length": work.TOKENS, "truncation": True, "return_tensors": "np"}
    ids = tokenizer(["", work.PROMPT], **options).input_ids.astype(np.int64)
    return {name: value.float().numpy() for name, value in inputs.items()} | {"ids": ids}


def write_inputs(family: str, checkpoint: pathlib.Path, folder: pathlib.Path, sizes: list[int]) -> None:
    """One file a size. Arrays of batch 2 are (empty, prompt)."""
    text = embeddings(family, checkpoint)
    channels = json.loads((checkpoint / "unet" / "config.json").read_text())["in_channels"]
    for size in sizes:
        generator = torch.Generator("cpu").manual_seed(work.SEED)
        side = size // work.REDUCTION
        noise = torch.randn(1, channels, side, side, generator=generator).numpy()
        arrays = {"sample": np.concatenate([noise, noise]), "timestep": np.full(2, work.TIMESTEP, np.float32)}
        arrays["context"] = text["context"]
        if "text_embeds" in text:
            arrays["text_embeds"] = text["text_embeds"]
            arrays["time_ids"] = np.array([[size, size, 0, 0, size, size]] * 2, np.float32)
        job = work.Job(family, "unet", size, size, 2)
        np.savez(folder / job.inputs, latents=noise, ids=text["ids"], **arrays)


def write_tokenizer(checkpoint: pathlib.Path, folder: pathlib.Path) -> None:
    """In the one-file form that `tokenizers` reads without transformers."""
    from transformers import CLIPTokenizer

    CLIPTokenizer.from_pretrained(checkpoint / "tokenizer").backend_tokenizer.save(str(folder / "tokenizer.json"))


def count(held: work.Work, job: work.Job, checkpoint: pathlib.Path) -> float:
    """Direct-convolution operations of a job, 10^9, from shapes alone."""
    from torch.utils.flop_counter import FlopCounterMode

    import diffusers
    import transformers

    config = json.loads((checkpoint / stages.FOLDERS[job.stage] / "config.json").read_text())
    with torch.device("meta"):
        if job.stage == "text":
            module = transformers.CLIPTextModel(transformers.CLIPTextConfig(**config, attn_implementation="eager"))
        else:
            module = getattr(diffusers, stages.CLASSES[job.stage]).from_config(config)
        module = stages.wrap(job.stage, module)
    inputs = [torch.from_numpy(array).to("meta") for array in held.arrays(job).values()]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() / 1e9


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, default=work.HOME / "work", help="[default: target/peers/work]")
    parser.add_argument("--sd15", type=pathlib.Path)
    parser.add_argument("--sdxl", type=pathlib.Path)
    parser.add_argument("--make", action="store_true", help="make a checkpoint that is not there")
    parser.add_argument("--tiny", action="store_true", help="make it at the test fixtures' widths")
    parser.add_argument("--sizes", help="pixels, comma separated [default: sd15 512; sdxl 512,1024]")
    parser.add_argument("--only", default="unet,vae,text", help="stages to convert; empty for none")
    parser.add_argument("--int8", action="store_true", help="also quantise SD1.5's UNet (NNCF, static, W8A8)")
    parser.add_argument("--calibration", type=int, default=256, help="size in pixels of the pictures to calibrate on")
    parser.add_argument("--again", action="store_true", help="convert what is there already too")
    chosen = parser.parse_args()
    torch.set_grad_enabled(False)
    # Tracing tells of every Python condition in the models: all depend on shapes' divisibility alone.
    warnings.simplefilter("ignore")
    for family in ("sd15", "sdxl"):
        checkpoint = getattr(chosen, family)
        if checkpoint:
            prepare(family, checkpoint.resolve(), chosen)


def prepare(family: str, checkpoint: pathlib.Path, chosen: argparse.Namespace) -> None:
    """One family."""
    import convert

    folder = chosen.work / family
    folder.mkdir(parents=True, exist_ok=True)
    if not (checkpoint / "model_index.json").exists():
        if not chosen.make:
            raise SystemExit(f"{checkpoint} is no diffusers folder; hint: --make writes one")
        make(family, checkpoint, chosen.tiny)
    sizes = [int(size) for size in chosen.sizes.split(",")] if chosen.sizes else SIZES[family]
    if chosen.again or not all((folder / work.Job(family, "unet", size, size, 2).inputs).exists() for size in sizes):
        print(f"{family}: inputs", flush=True)
        write_inputs(family, checkpoint, folder, sizes)
        write_tokenizer(checkpoint, folder)
    index = chosen.work / "work.json"
    content = json.loads(index.read_text()) if index.exists() else {"checkpoints": {}, "gflop": {}, "versions": {}}
    content["checkpoints"][family] = str(checkpoint)
    content["versions"] |= convert.versions()
    index.write_text(json.dumps(content, indent=2) + "\n")
    held = work.Work(chosen.work)
    for stage in STAGES[family]:
        for job in (work.Job(family, stage, size, size, batch) for size in sizes for batch in BATCHES[stage]):
            content["gflop"][job.key] = round(count(held, job, checkpoint), 3)
            print(f"{job.key}: {content['gflop'][job.key]} GFLOP", flush=True)
    index.write_text(json.dumps(content, indent=2) + "\n")
    for stage in STAGES[family]:
        if stage in chosen.only.split(","):
            convert.stage(held, work.Job(family, stage, sizes[0], sizes[0], BATCHES[stage][-1]), chosen.again)
    if chosen.int8 and family == "sd15":
        convert.int8(held, work.Job(family, "unet", sizes[0], sizes[0], 1), chosen.calibration, chosen.again)


if __name__ == "__main__":
    main()
