"""Which command each contestant of a row is. Standard library only, but for the comparison of pictures."""

import argparse
import dataclasses
import pathlib
import shlex
import shutil
import sys

import contestants
import work
from rows import Contestant, Row

HERE = pathlib.Path(__file__).resolve().parent
# A whole picture is as many guided steps, one decode and one text encoding.
PICTURE = "picture"


def program(command: str) -> pathlib.Path:
    """The file behind --tintype; of an interpreter's command its script."""
    words = shlex.split(command)
    found = shutil.which(words[0])
    if found is None:
        raise SystemExit(f"--tintype {command}: {words[0]} is no program; hint: cargo build --release")
    return pathlib.Path(words[1] if len(words) > 1 else found)


def resized(row: Row, taken: argparse.Namespace) -> Row:
    """A row at the size and with the steps asked for, for models that are not full-size."""
    row = dataclasses.replace(row, title=row.title.replace("20 guided steps", f"{taken.steps} guided steps"))
    if taken.size is None or row.job.family != "sd15":
        return row
    title = row.title.replace("512x512", f"{taken.size}x{taken.size}")
    return dataclasses.replace(row, title=title, job=dataclasses.replace(row.job, width=taken.size, height=taken.size))


def gflop(row: Row, taken: argparse.Namespace, held: work.Work) -> float:
    """Operations of a row's work."""
    if row.job.stage != PICTURE:
        return held.gflop(row.job)
    size = {"family": row.job.family, "width": row.job.width, "height": row.job.height}
    unet, vae, text = (
        held.gflop(work.Job(stage=stage, batch=batch, **size)) for stage, batch in (("unet", 2), ("vae", 1), ("text", 2))
    )
    return unet * taken.steps + vae + text


def build(row: Row, taken: argparse.Namespace, held: work.Work, failures: dict[str, str]) -> list:
    """A row's contestants, not started; who is left out is noted."""
    without, made = taken.without.split(","), []
    for one in row.contestants:
        if one.name in without:
            failures[one.name] = "left out with --without"
            continue
        log = taken.out / "logs" / f"{row.name}-{one.name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        threads = one.threads or taken.threads
        made.append(entrant(one, row, taken, held, threads, log))
    return made


def entrant(one: Contestant, row: Row, taken, held: work.Work, threads: int, log: pathlib.Path):
    """A contestant with its command and surroundings."""
    whole = row.job.stage == PICTURE
    if one.engine == "candle":
        words = [str(taken.candle), str(held.checkpoint(row.job.family)), "1"]
        read = {"unet": read_candle_step, "vae": read_candle_decode}[row.job.stage]
        env = contestants.environment(threads, {"RAYON_NUM_THREADS": str(threads)})
        return contestants.Command(one.name, words, env, log, read)
    if one.ours:
        isa = one.isa or taken.tintype_isa
        env = contestants.environment(threads, {"TINTYPE_ISA": isa} if isa else {})
        words = tintype(one, row, taken, held, threads)
    else:
        env = contestants.environment(threads, {"ONEDNN_MAX_CPU_ISA": taken.peer_isa} if taken.peer_isa else {})
        words = peer(one, row, taken, threads)
    if whole:
        return contestants.Command(one.name, words, env, log)
    return contestants.Worker(one.name, words, env, log, taken.limit)


def tintype(one: Contestant, row: Row, taken, held: work.Work, threads: int) -> list[str]:
    """Our own command line."""
    job = row.job
    words = ["--model", held.checkpoint(job.family), "--precision", one.precision, "--width", job.width]
    words += ["--height", job.height, "--threads", threads, "--json"]
    if job.stage == PICTURE:
        words += ["--seed", work.SEED, "--steps", taken.steps, "--sampler", "ddim", "--guidance", work.GUIDANCE]
        words = ["generate", work.PROMPT, *words, "--out", picture(row, taken, one)]
    else:
        words = ["bench", *words, "--stage", job.stage, "--batch", job.batch, "--interactive"]
    return [*shlex.split(taken.tintype), *map(str, words)]


def peer(one: Contestant, row: Row, taken, threads: int) -> list[str]:
    """A script of this folder, in the Python that runs the harness."""
    job = row.job
    script = f"{'picture' if job.stage == PICTURE else 'worker'}_{one.engine}.py"
    words = [sys.executable, HERE / script, "--work", taken.work, "--family", job.family, "--precision", one.precision]
    words += ["--width", job.width, "--height", job.height, "--threads", threads]
    if job.stage == PICTURE:
        words += ["--steps", taken.steps, "--out", picture(row, taken, one)]
        if one.engine == "openvino" and not taken.cold_openvino:
            words += ["--cache", taken.out / "openvino-cache"]
    else:
        words += ["--stage", job.stage, "--batch", job.batch]
    return [str(word) for word in words]


def picture(row: Row, taken, one: Contestant) -> pathlib.Path:
    """Where a contestant's PNG goes."""
    return taken.out / f"{row.name}-{one.name}.png"


def read_candle_step(output: str) -> dict:
    """The first guided step that bench/candle-stock prints."""
    return {"ms": next(float(line.split()[2]) for line in output.splitlines() if line.startswith("step 1 ")) * 1e3}


def read_candle_decode(output: str) -> dict:
    """The decode that bench/candle-stock prints."""
    return {"ms": next(float(line.split()[1]) for line in output.splitlines() if line.startswith("decode_s ")) * 1e3}


def compare_pictures(row: Row, taken, about: dict) -> None:
    """Notes how far each picture is from the first contestant's: same weights, noise and schedule give nearly the same."""
    files = {one.name: picture(row, taken, one) for one in row.contestants if "summary" in about.get(one.name, {})}
    if row.job.stage != PICTURE or len(files) < 2:
        return
    import numpy as np
    from PIL import Image

    read = {name: np.asarray(Image.open(file).convert("RGB"), dtype=np.float64) for name, file in files.items()}
    first, *others = read
    for name in others:
        error = ((read[name] - read[first]) ** 2).mean() if read[name].shape == read[first].shape else float("inf")
        about[name]["psnr_db"] = round(10 * float(np.log10(255**2 / error)), 1) if error else 99.0
