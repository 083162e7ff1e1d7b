"""What every stage of the training shares: arguments, seeds, averaging, resumable files."""

import argparse
import json
import os
import random
import time

import numpy as np
import torch


def arguments(text, **extra):
    """`--data`, `--run`, `--minutes` and whatever else a stage wants."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--data", default="target/box/data", help="folder made by fetch_data.sh")
    parser.add_argument("--run", default="target/box/run", help="folder for checkpoints, samples and logs")
    for name, (default, help_) in extra.items():
        parser.add_argument(f"--{name}", default=default, type=type(default), help=help_)
    args = parser.parse_args()
    os.makedirs(args.run, exist_ok=True)
    return args


def data_paths(data):
    """The folder of Fluent pictures and the Noto font under `data`."""
    return os.path.join(data, "fluent", "assets"), os.path.join(data, "noto/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")


def device():
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seeded(seed):
    torch.manual_seed(seed)
    np.random.seed(seed)
    return random.Random(seed)


class Average:
    """A moving average of a module's weights."""

    def __init__(self, module, decay):
        self.decay, self.values = decay, {k: v.detach().clone().float() for k, v in module.state_dict().items()}
        self.updates = 0

    @torch.no_grad()
    def update(self, module):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in module.state_dict().items():
            self.values[name].lerp_(value.float(), 1 - decay)

    def copy_to(self, module):
        module.load_state_dict({k: v.to(module.state_dict()[k].dtype) for k, v in self.values.items()})


def save(path, **state):
    """Writes beside and renames, so that a stopped run never leaves half a checkpoint."""
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)


class Log:
    """Lines of JSON, on the terminal and in a file."""

    def __init__(self, path):
        self.file, self.start = open(path, "a"), time.time()

    def line(self, **facts):
        facts["seconds"] = round(time.time() - self.start, 1)
        text = json.dumps(facts)
        print(text, flush=True)
        print(text, file=self.file, flush=True)


def falling(share, warm=0.02, hold=0.7):
    """Learning rate as a share of its top: a short rise, a plateau, a straight fall to nothing."""
    if share < warm:
        return share / warm
    return 1.0 if share < hold else max(0.0, (1 - share) / (1 - hold))
