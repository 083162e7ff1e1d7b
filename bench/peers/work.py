"""The prepared work: one folder with inputs, converted models and work.json, written by prepare.py.

Only NumPy is needed to read it, so that OpenVINO's contestants run without torch in their process.
"""

import argparse
import dataclasses
import json
import pathlib

# Where everything goes unless told otherwise: ignored by git.
HOME = pathlib.Path(__file__).resolve().parents[2] / "target" / "peers"
# What every contestant computes with: the prompt's and the empty text, noise of this seed, this timestep.
PROMPT = "a photo of a cat"
SEED = 42
TIMESTEP = 621.0
GUIDANCE = 7.5
# Pixels to a latent, and the text towers' length.
REDUCTION = 8
TOKENS = 77


@dataclasses.dataclass(frozen=True)
class Job:
    """One stage of one model at one size."""

    family: str
    stage: str
    width: int
    height: int
    batch: int

    @property
    def key(self) -> str:
        """Its name in work.json."""
        return f"{self.family}/{self.stage}/{self.width}x{self.height}/{self.batch}"

    @property
    def inputs(self) -> str:
        """Its file of inputs, in the family's folder."""
        return f"inputs-{self.width}x{self.height}.npz"


class Work:
    """A prepared folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        file = folder / "work.json"
        if not file.exists():
            raise SystemExit(f"no work.json in {folder}; hint: bench/peers/prepare.py --work {folder} writes it")
        self.content = json.loads(file.read_text())

    def checkpoint(self, family: str) -> pathlib.Path:
        """The diffusers folder of a family."""
        if family not in self.content["checkpoints"]:
            known = ", ".join(self.content["checkpoints"])
            raise SystemExit(f"{self.folder} holds no {family}, only {known}; hint: prepare.py --{family} FOLDER")
        return pathlib.Path(self.content["checkpoints"][family])

    def gflop(self, job: Job) -> float:
        """Direct-convolution operations of a job, 10^9; products count twice."""
        if job.key not in self.content["gflop"]:
            raise SystemExit(f"{self.folder} was not prepared for {job.key}; hint: run prepare.py with this size")
        return self.content["gflop"][job.key]

    def arrays(self, job: Job) -> dict:
        """Inputs of a stage, by name, at the job's batch: 2 is (empty, prompt) and 1 the prompt alone."""
        import numpy as np

        with np.load(self.folder / job.family / job.inputs) as file:
            held = {name: file[name] for name in file.files}
        if job.stage == "vae":
            return {"latents": held["latents"]}
        names = ["ids"] if job.stage == "text" else [name for name in held if name not in ("ids", "latents")]
        return {name: held[name][2 - job.batch :] for name in names}


def arguments(description: str | None, precisions: list[str]) -> argparse.Namespace:
    """The command line that the peers' workers share; `job` and `held` are read from it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder written by prepare.py")
    parser.add_argument("--family", default="sd15")
    parser.add_argument("--stage", choices=["unet", "vae", "text"], required=True)
    parser.add_argument("--precision", choices=precisions, required=True)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--batch", type=int, choices=[1, 2], default=2)
    parser.add_argument("--threads", type=int, default=2)
    taken = parser.parse_args()
    taken.job = Job(taken.family, taken.stage, taken.width, taken.height, taken.batch)
    taken.held = Work(taken.work)
    return taken


def look(values) -> dict:
    """What a reply says of a result, so that contestants can be seen to compute the same."""
    import numpy as np

    wide = np.asarray(values, dtype=np.float64)
    return {"mean": float(wide.mean()), "std": float(wide.std())}
