"""Writes the checkpoints of the tests beside this file, with torch 2.x: python make.py"""

import collections
import os
import pathlib
import sys
import types

import numpy
import torch

here = pathlib.Path(__file__).parent

# The callback that CompVis' checkpoints mention, without Lightning itself.
module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
    sys.modules[name] = types.ModuleType(name)
sys.modules[module.__name__] = module

base = torch.arange(12, dtype=torch.float32)
tensors = collections.OrderedDict(
    plain=base[:6].reshape(2, 3),
    shared=base[6:10],
    turned=base.reshape(3, 4).t(),
    half=torch.tensor([1.5, -2.0], dtype=torch.float16),
    brain=torch.tensor([[3.0]], dtype=torch.bfloat16),
    parameter=torch.nn.Parameter(torch.tensor([7.0, 8.0])),
    ids=torch.tensor([[0, 1, 2]]),
    empty=torch.zeros(0),
    scalar=torch.tensor(5.0),
)
whole = {
    "epoch": 3,
    "global_step": 875000,
    "state_dict": tensors,
    "callbacks": {module.ModelCheckpoint: {"monitor": "val/loss", "best_model_score": torch.tensor(0.1)}},
    "lr": numpy.float64(1e-4),
    "betas": (0.9, 0.999),
    "names": {"a", "b"},
}
torch.save(whole, here / "lightning.ckpt")
torch.save(whole, here / "legacy.ckpt", _use_new_zipfile_serialization=False)
torch.save(dict(tensors), here / "bare.pt")


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


torch.save({"state_dict": {"w": Evil()}}, here / "evil.ckpt")
torch.save({"state_dict": {"w": torch.tensor([1], dtype=torch.int8)}}, here / "int8.ckpt")
torch.save([1, 2, 3], here / "list.ckpt")
