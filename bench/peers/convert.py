"""OpenVINO models from torch modules, and the int8 form of one by NNCF."""

import gc
import importlib.metadata
import json
import pathlib

import numpy as np
import openvino
import torch

import stages
import vino
import work

PACKAGES = ("torch", "diffusers", "transformers", "openvino", "nncf")


def versions() -> dict[str, str]:
    """Of what the conversion was done with."""
    return {package: importlib.metadata.version(package) for package in PACKAGES}


def stage(held: work.Work, job: work.Job, again: bool) -> None:
    """Writes <stage>.xml and .bin. Shapes stay open in the file and are fixed by whoever compiles it, so that two sizes
    share one file of weights; the number type is the checkpoint's, so that nothing is rounded here."""
    target = held.folder / job.family / f"{job.stage}.xml"
    if target.exists() and not again:
        return
    print(f"{job.family}/{job.stage}: converting", flush=True)
    checkpoint = held.checkpoint(job.family)
    dtype = stages.dtype(checkpoint, job.stage)
    module, halves = stages.load(checkpoint, job.stage, dtype), dtype == torch.float16
    if halves:
        from openvino.frontend.pytorch.patch_model import __make_16bit_traceable as traceable

        traceable(module)
    arrays = held.arrays(job)
    inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
    shapes = [(name, [-1, *open_sides(array)]) for name, array in arrays.items()]
    model = openvino.convert_model(module, example_input=inputs, input=shapes)
    name_inputs(model, list(arrays))
    del module
    gc.collect()
    openvino.save_model(model, target, compress_to_fp16=halves)


def open_sides(array: np.ndarray) -> list[int]:
    """A shape without its batch, height and width left open where it is a picture."""
    return [array.shape[1], -1, -1] if array.ndim == 4 else list(array.shape[1:])


def name_inputs(model, names: list[str]) -> None:
    """Gives every input exactly its argument's name."""
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})


def int8(held: work.Work, job: work.Job, size: int, again: bool) -> None:
    """Writes <stage>-int8.xml: weights and activations of convolutions and products in 8 bits, static, by NNCF.

    The ranges are calibrated on one prediction of `size` pixels cut out of the job's: the speed does not depend on
    them, and with random weights there is no quality to keep. What a real model would lose is not measured here.
    """
    target = held.folder / job.family / f"{job.stage}-int8.xml"
    if target.exists() and not again:
        return
    import nncf

    print(f"{job.family}/{job.stage}: quantising", flush=True)
    arrays, side = held.arrays(job), size // work.REDUCTION
    arrays["sample"] = np.ascontiguousarray(arrays["sample"][:, :, :side, :side])
    model = openvino.Core().read_model(vino.file(held.folder / job.family, job.stage, "f32"))
    quantised = nncf.quantize(
        model,
        nncf.Dataset([arrays]),
        subset_size=1,
        model_type=nncf.ModelType.TRANSFORMER,
        target_device=nncf.TargetDevice.CPU,
        advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
    )
    openvino.save_model(quantised, target, compress_to_fp16=False)
