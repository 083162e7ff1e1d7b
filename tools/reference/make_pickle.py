"""Records one small checkpoint written by torch.save itself.

    python make_pickle.py

Writes tests/fixtures/pickle/vae.ckpt: a VAE under the original names, f16, `{"state_dict": OrderedDict(..), "epoch": ..}` with what
training leaves behind (two tensors over one storage, a Parameter, a tensor of integers), and vae.json with a hash of each tensor.
"""

import collections

import torch

import families
import ldm
import make_fixtures
import models

CONFIG = families.configs("sd15", full=False)["vae"] | {"block_out_channels": [8, 8, 16, 16], "layers_per_block": 1}


def main() -> None:
    """Writes both files."""
    folder = make_fixtures.TESTS / "fixtures" / "pickle"
    folder.mkdir(parents=True, exist_ok=True)
    vae = models.fill("vae", models.build("vae", CONFIG))
    table = ldm._vae(CONFIG)
    state = collections.OrderedDict()
    for name, tensor in vae.state_dict().items():
        original = ldm.rename(name, table)
        tensor = tensor[:, :, None, None] if ".mid.attn_1." in original and tensor.ndim == 2 else tensor
        state[original] = tensor.half().contiguous()
    first, second = list(state)[:2]
    joined = torch.cat([state[first].flatten(), state[second].flatten()])
    state[first] = joined[: state[first].numel()].view(state[first].shape)
    state[second] = joined[state[first].numel() :].view(state[second].shape)
    state["first_stage_model.loss.logvar"] = torch.nn.Parameter(torch.zeros((), dtype=torch.float32))
    state["model_ema.num_updates"] = torch.tensor(7, dtype=torch.int64)
    state["transposed"] = torch.arange(6, dtype=torch.float32).view(2, 3).t()
    torch.save({"state_dict": state, "epoch": 3, "global_step": 70_000, "lr": 1e-4}, folder / "vae.ckpt")
    note = {"command": "python tools/reference/make_pickle.py", "versions": make_fixtures.versions(), "config": CONFIG}
    note["hash"] = "fnv1a64 of the contiguous little-endian bytes"
    note["tensors"] = {
        name: [str(t.dtype).removeprefix("torch."), list(t.shape), fnv(t.detach().contiguous().numpy().tobytes())]
        for name, t in state.items()
    }
    models.write_json(folder / "vae.json", note)
    print(f"{len(state)} tensors, {(folder / 'vae.ckpt').stat().st_size / 1024:.0f} KiB")


def fnv(content: bytes) -> str:
    """FNV-1a, 64 bits, in hexadecimal."""
    state = 0xCBF29CE484222325
    for byte in content:
        state = ((state ^ byte) * 0x100000001B3) % 2**64
    return f"{state:016x}"


if __name__ == "__main__":
    main()
