"""Writes safetensors files of any size tensor by tensor, in little memory."""

import json
import pathlib
import struct

import numpy as np

import weights

DTYPES = {"f32": ("F32", np.float32, 4), "f16": ("F16", np.float16, 2)}


def write(path: pathlib.Path, rows: list, dtype: str, metadata: dict[str, str] | None = None) -> None:
    """Writes `rows` of (name in the file, shape, source): source(start, count) gives flat f32 values, or an array."""
    label, kind, width = DTYPES[dtype]
    header, offset = {"__metadata__": metadata or {"format": "pt"}}, 0
    for name, shape, source in rows:
        if isinstance(source, np.ndarray):
            size = source.nbytes
            header[name] = {"dtype": {"int64": "I64", "float32": "F32"}[source.dtype.name], "shape": list(shape)}
        else:
            size = int(np.prod(shape)) * width
            header[name] = {"dtype": label, "shape": list(shape)}
        header[name]["data_offsets"] = [offset, offset + size]
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for _name, shape, source in rows:
            if isinstance(source, np.ndarray):
                file.write(source.tobytes())
                continue
            total, step = int(np.prod(shape)), 1 << 24
            for start in range(0, total, step):
                file.write(source(start, min(step, total - start)).astype(kind).tobytes())


def formula(component: str, *row):
    """A source that computes the values of a manifest's row range by range."""
    return lambda start, count: weights.values(component, *row, start=start, count=count)
