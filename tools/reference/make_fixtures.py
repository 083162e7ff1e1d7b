"""Writes tests/fixtures/<family>/ (tests/data/<family>/ where that is there): configurations, manifests and what diffusers makes of them.

    python make_fixtures.py [FAMILY ..]
"""

import argparse
import json
import pathlib
import platform
import tempfile

import diffusers
import numpy as np
import safetensors.numpy
import torch
import transformers

import families
import ldm
import make_full
import models
import runs

TESTS = pathlib.Path(__file__).resolve().parents[2] / "tests"
# Fixtures keep to 3 MB, so families that came later lie beside them.
LATER = ("latent16",)

# Families that are shipped as single files under the original names.
SINGLE_FILES = ("sd15", "sd21", "sdxl", "inpaint", "refiner")


def versions() -> dict[str, str]:
    """What made the numbers."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }


def write_manifest(family: str, folder: pathlib.Path) -> None:
    """One line a tensor; a component that is another family's own is only named, beside the rows that differ if any do."""
    like = families.FAMILIES[family]["like"]
    blocks, manifests = [], make_full.manifests(family, full=False)
    for component, rows in manifests.items():
        other = like.get(component)
        if other:
            theirs = make_full.manifests(other, full=False)[component]
            assert [row[:2] for row in rows] == [row[:2] for row in theirs]
            rows = [row for row in rows if row not in theirs]
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
        if other and not rows:
            blocks.append(f'"{component}": "{other}"')
        elif other:
            blocks.append(f'"{component}": {{"like": "{other}", "rows": [\n{lines}\n]}}')
        else:
            blocks.append(f'"{component}": [\n{lines}\n]')
    (folder / "manifest.json").write_text("{\n" + ",\n".join(blocks) + "\n}\n")
    if family in SINGLE_FILES:
        rows = {c: ",\n".join(map(json.dumps, table)) for c, table in ldm.prefixes(family, full=False).items()}
        tables = ",\n".join(f'"{c}": [\n{lines}\n]' for c, lines in rows.items())
        extras = ",\n".join(map(json.dumps, ldm.extras(family, manifests)))
        (folder / "ldm_names.json").write_text(f'{{"prefixes": {{\n{tables}\n}},\n"extras": [\n{extras}\n]}}\n')


def make(family: str, work: pathlib.Path) -> None:
    """Writes one family's folder."""
    folder = TESTS / ("data" if family in LATER else "fixtures") / family
    models.write_configs(family, folder, full=False)
    write_manifest(family, folder)
    parts = models.load(family, work)
    tensors, notes = runs.record(family, parts)
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / "golden.safetensors"
    )
    (folder / "golden.safetensors").chmod(0o644)
    head = {
        "family": family,
        "versions": versions(),
        "command": f"python tools/reference/make_fixtures.py {family}",
        "prompt": families.PROMPT,
        "unet_out_of": "the formula alone",
    }
    models.write_json(folder / "golden.json", head | notes)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{family}: {len(tensors)} tensors, {size / 1024:.0f} KiB")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", nargs="*", default=list(families.FAMILIES))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        for family in parser.parse_args().family:
            make(family, pathlib.Path(work))


if __name__ == "__main__":
    main()
