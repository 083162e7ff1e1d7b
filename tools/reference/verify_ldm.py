"""Confirms ldm.py: diffusers' own single-file loader must get the very weights of the folder form back.

    python verify_ldm.py
"""

import pathlib
import tempfile

import diffusers
import numpy as np
from diffusers.loaders import single_file_utils as utils
from safetensors.numpy import load_file
import torch

import checkpoint
import families
import ldm
import make_fixtures
import make_full
import models


def converted(family: str, file: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
    """Each component's tensors as diffusers' converters give them."""
    originals = {name: torch.from_numpy(value) for name, value in load_file(file).items()}
    configs = families.configs(family, full=False)
    out = {
        "unet": utils.convert_ldm_unet_checkpoint(dict(originals), configs["unet"]),
        "vae": utils.convert_ldm_vae_checkpoint(dict(originals), configs["vae"]),
    }
    for component, (prefix, style) in ldm.TOWERS[ldm.kind(family)].items():
        if style == "clip":
            out[component] = utils.convert_ldm_clip_checkpoint(dict(originals), remove_prefix=f"{prefix}.")
            continue
        tower = models.build(component, configs[component])
        # The converter asks the model for its layers' names in the published form.
        names = {models.disk_name(component, name): value for name, value in tower.state_dict().items()}
        out[component] = utils.convert_open_clip_checkpoint(_Named(tower, names), dict(originals), prefix=f"{prefix}.")
    return out


class _Named:
    """What convert_open_clip_checkpoint asks of a model."""

    def __init__(self, tower, names: dict):
        self.config, self.text_model, self._names = tower.config, tower, names

    def state_dict(self) -> dict:
        return self._names


def main() -> None:
    """Every family that is shipped as a single file."""
    with tempfile.TemporaryDirectory() as work:
        for family in make_fixtures.SINGLE_FILES:
            file = pathlib.Path(work) / f"{family}.safetensors"
            rows = make_full.manifests(family, full=False)
            checkpoint.write(file, ldm.single_file(family, rows), "f32")
            found = converted(family, file)
            for component, tensors in rows.items():
                for name, shape, *rest in tensors:
                    got = found[component].get(name)
                    want = models.weights.values(component, name, shape, *rest)
                    if got is None or got.numel() != want.size or not np.array_equal(got.numpy().reshape(shape), want):
                        raise SystemExit(f"{family}: {component} {name} differs: {None if got is None else got.shape}")
            print(f"{family}: {sum(map(len, rows.values()))} tensors confirmed by diffusers {diffusers.__version__}")


if __name__ == "__main__":
    main()
