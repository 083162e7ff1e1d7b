"""How OpenVINO reads, reshapes and compiles a converted stage, for the worker and for the whole picture."""

import collections
import pathlib

import openvino

# What the plugin is asked to compute in; the int8 model holds its own quantisers, the rest of it runs in bf16.
HINTS = {"f32": "f32", "bf16": "bf16", "int8": "bf16"}


def file(folder: pathlib.Path, stage: str, precision: str) -> pathlib.Path:
    """Where prepare.py writes a stage."""
    path = folder / (f"{stage}-int8.xml" if precision == "int8" else f"{stage}.xml")
    if not path.exists():
        raise SystemExit(f"{path} is not there; hint: bench/peers/prepare.py writes it (--int8 for int8)")
    return path


def settings(precision: str, threads: int, cache: pathlib.Path | None = None) -> dict:
    """One stream with all threads: the least time for one request."""
    chosen = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": HINTS[precision],
    }
    return chosen | ({"CACHE_DIR": str(cache)} if cache else {})


def compiled(path: pathlib.Path, inputs: dict, precision: str, threads: int, cache: pathlib.Path | None = None):
    """The stage for exactly the shapes of `inputs`, compiled."""
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({port.any_name: list(inputs[port.any_name].shape) for port in model.inputs})
    return core.compile_model(model, "CPU", settings(precision, threads, cache))


def kinds(model) -> dict[str, int]:
    """How many layers run in which kernel and number type, from the plugin's own account."""
    counts = collections.Counter()
    for node in model.get_runtime_model().get_ordered_ops():
        about = node.get_rt_info()
        if "primitiveType" in about:
            kind = about["layerType"].astype(str) if "layerType" in about else node.get_type_name()
            counts[f"{kind} {about['primitiveType'].astype(str)}"] += 1
    heavy = ("Convolution", "FullyConnected", "MatMul", "ScaledDotProductAttention", "Subgraph")
    return {name: count for name, count in counts.most_common() if name.startswith(heavy)}
