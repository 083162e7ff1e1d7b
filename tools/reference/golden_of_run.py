"""Puts what reference_full.py kept into the form of the fixtures, for `cargo run --release --example parity`.

    python golden_of_run.py OUT

OUT is reference_full.py's; golden.json and golden.safetensors are written beside its files.
"""

import json
import pathlib
import sys

import numpy as np
from safetensors.numpy import save_file

# Names of unet.npz and of the fixtures.
UNET = {
    "sample": "unet.in.sample",
    "timestep": "unet.in.timestep",
    "context": "unet.in.context",
    "text_embeds": "unet.in.text_embeds",
    "time_ids": "unet.in.time_ids",
    "out": "unet.out",
}


def main() -> None:
    """Reads OUT, writes the two files."""
    out = pathlib.Path(sys.argv[1])
    unet = np.load(out / "unet.npz")
    tensors = {UNET[name]: np.ascontiguousarray(unet[name]) for name in unet.files if name in UNET}
    settings = json.loads((out / "run.json").read_text()) if (out / "run.json").exists() else {"runs": []}
    cases = {}
    for run in settings["runs"]:
        name = run["sampler"]
        arrays = np.load(out / f"{name}.npz")
        tensors[f"run.{name}.latents"] = np.ascontiguousarray(arrays["latents"])
        tensors[f"run.{name}.image"] = np.ascontiguousarray(arrays["image"][None])
        cases[name] = {
            "sampler": name,
            "prompt": settings["prompt"],
            "negative": None,
            "seeds": [settings["seed"]],
            "steps": settings["steps"],
            "guidance": settings["guidance"],
            "width": settings["size"],
            "height": settings["size"],
        }
    save_file(tensors, out / "golden.safetensors")
    (out / "golden.json").write_text(json.dumps({"family": settings.get("family"), "tokens": {}, "cases": cases}, indent=1))


if __name__ == "__main__":
    main()
