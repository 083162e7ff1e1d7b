"""Measures what the model in the box has learnt, on pictures that Tintype itself made.

    python tools/train/evaluate.py --ask target/box/eval
    cargo run --release --example sheet -- MODEL target/box/eval/prompts.json target/box/eval/pictures
    python tools/train/evaluate.py --score target/box/eval

The feature spaces are fixed: `pixels` is the picture at 64x64 in RGB; `gradients` is a histogram of gradient
directions, 9 of them in 8x8 cells at 128x128, each cell's length normalised, beside the mean colour of 8x8 cells.
The nearest picture is the one with the least sum of both distances, each divided by its mean over the gallery.
"""

import argparse
import json
import os
import random

import numpy as np
from PIL import Image

import pictures
from common import data_paths
from motifs import COLOURS, MOTIFS, SHAPES, article


def asked():
    """Every picture to make: `{file, prompt, seed, kind, ..facts}`."""
    rng, rows = random.Random(99), []
    def ask(kind, prompt, seed, **facts):
        rows.append(dict(file=f"{len(rows):04}-{kind}.png", prompt=prompt, seed=seed, kind=kind, **facts))
    for motif, (_, noun, _) in enumerate(MOTIFS):
        for seed in (1, 2):
            ask("motif", f"a photo of {article(noun)}", 1000 * seed + motif, motif=motif)
        ask("style", f"a flat icon of {article(noun)}", 3000 + motif, motif=motif)
    for ground in COLOURS:
        for motif in rng.sample(range(len(MOTIFS)), 10):
            ask("ground", f"a photo of {article(MOTIFS[motif][1])} on a {ground} background", rng.randrange(10**6), motif=motif, ground=ground)
    for _ in range(160):
        ground = pictures.ground_of(rng)
        colour, shape = rng.choice([c for c in COLOURS if c != ground]), rng.choice(SHAPES)
        ask("one", f"{article(f'{colour} {shape}')} on {article(ground)} background", rng.randrange(10**6), ground=ground, items=[[shape, colour]])
    for _ in range(80):
        ground = pictures.ground_of(rng)
        a, b = [(rng.choice(SHAPES), c) for c in rng.sample([c for c in COLOURS if c != ground], 2)]
        relation = rng.choice(("left of", "above"))
        text = f"{article(f'{a[1]} {a[0]}')} {relation} {article(f'{b[1]} {b[0]}')} on {article(ground)} background"
        ask("two", text, rng.randrange(10**6), ground=ground, items=[list(a), list(b)], relation=relation)
    return rows


def pixels(picture):
    return np.asarray(picture.resize((64, 64), Image.BOX), dtype=np.float32).ravel() / 255


def gradients(picture):
    small = np.asarray(picture.resize((128, 128), Image.BOX), dtype=np.float32) / 255
    gray = small @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    dy, dx = np.gradient(gray)
    length, turn = np.hypot(dx, dy), np.floor((np.arctan2(dy, dx) % np.pi) / np.pi * 9).astype(int) % 9
    cells = np.zeros((8, 8, 9), np.float32)
    at = np.arange(128) // 16
    np.add.at(cells, (at[:, None].repeat(128, 1), at[None].repeat(128, 0), turn), length)
    cells /= np.linalg.norm(cells, axis=2, keepdims=True) + 0.5
    colour = small.reshape(8, 16, 8, 16, 3).mean((1, 3))
    return np.concatenate([cells.ravel(), 2 * colour.ravel()])


class Gallery:
    """Reference pictures with labels, and the order in which they resemble a given one."""

    def __init__(self, labelled):
        self.labels = [label for label, _ in labelled]
        self.spaces = [(f, np.stack([f(p) for _, p in labelled])) for f in (pixels, gradients)]

    def distances(self, picture):
        each = [np.linalg.norm(rows - f(picture), axis=1) for f, rows in self.spaces]
        return [d / d.mean() for d in each]

    def ranked(self, picture, space=None):
        each = self.distances(picture)
        order = np.argsort(sum(each) if space is None else each[space])
        return list(dict.fromkeys(self.labels[i] for i in order))


def emoji_gallery(found):
    rows = []
    for motif in range(len(MOTIFS)):
        for s in pictures.STYLES:
            glyph = found[s][motif]
            canvas = Image.new("RGB", (pictures.SIZE, pictures.SIZE), "white")
            canvas.paste(glyph, (56, 56), glyph)
            rows.append(((motif, s), canvas))
    return rows


def border(picture):
    """The colour word nearest to the mean of the outer 16 pixels."""
    a = np.asarray(picture, dtype=np.float32)
    edge = np.concatenate([a[:16].reshape(-1, 3), a[-16:].reshape(-1, 3), a[:, :16].reshape(-1, 3), a[:, -16:].reshape(-1, 3)]).mean(0)
    return min(COLOURS, key=lambda c: np.linalg.norm(edge - np.array(COLOURS[c])))


def shape_gallery(ground, radius):
    return Gallery([((s, c), pictures.draw_shapes(ground, [(s, c, 256, 256, radius)])) for s in SHAPES for c in COLOURS if c != ground])


def halves(picture, relation):
    """Both halves of a picture, each with its shape brought to the middle as `shape_gallery` draws it."""
    moved = []
    for sign in (1, -1):
        shift = (sign * 111, 0) if relation == "left of" else (0, sign * 111)
        corner = picture.getpixel((4, 4))
        canvas = Image.new("RGB", picture.size, corner)
        box = (0, 0, 256, 512) if relation == "left of" and sign == 1 else (256, 0, 512, 512) if relation == "left of" else (0, 0, 512, 256) if sign == 1 else (0, 256, 512, 512)
        canvas.paste(picture.crop(box), (box[0] + shift[0], box[1] + shift[1]))
        moved.append(canvas)
    return moved


def share(hits):
    return round(100 * sum(hits) / max(1, len(hits)), 1)


def score(folder, found):
    rows = json.load(open(os.path.join(folder, "prompts.json")))
    both = Gallery([(m, p) for (m, _), p in emoji_gallery(found)])
    styles = Gallery([(s, p) for (_, s), p in emoji_gallery(found)])
    galleries, hits, wrong = {}, {}, []
    def note(name, hit):
        hits.setdefault(name, []).append(bool(hit))
    for row in rows:
        path = os.path.join(folder, "pictures", row["file"])
        if not os.path.exists(path):
            continue
        picture = Image.open(path).convert("RGB")
        if row["kind"] == "motif":
            ranked = both.ranked(picture)
            note("motif top-1", ranked[0] == row["motif"]), note("motif top-5", row["motif"] in ranked[:5])
            for space, name in enumerate(("pixels", "gradients")):
                note(f"motif top-1, {name} alone", both.ranked(picture, space)[0] == row["motif"])
            note("style 3d", styles.ranked(picture)[0] == "3d")
            if ranked[0] != row["motif"]:
                wrong.append(f"{MOTIFS[row['motif']][1]} -> {MOTIFS[ranked[0]][1]}")
        elif row["kind"] == "style":
            ranked = both.ranked(picture)
            note("flat motif top-1", ranked[0] == row["motif"]), note("style flat", styles.ranked(picture)[0] == "flat")
        elif row["kind"] == "ground":
            note("border colour", border(picture) == row["ground"])
        else:
            radius = 140 if row["kind"] == "one" else 88
            key = (row["ground"], radius)
            if key not in galleries:
                galleries[key] = shape_gallery(*key)
            parts = [picture] if row["kind"] == "one" else halves(picture, row["relation"])
            right = [galleries[key].ranked(p)[0] == tuple(item) for p, item in zip(parts, row["items"])]
            note({"one": "one shape", "two": "two shapes"}[row["kind"]], all(right) and border(picture) == row["ground"])
    table = {name: {"share": share(found_), "of": len(found_)} for name, found_ in hits.items()}
    table["style obeyed"] = {"share": share(hits.get("style 3d", []) + hits.get("style flat", [])), "of": len(hits.get("style 3d", []) + hits.get("style flat", []))}
    print(json.dumps(table, indent=1))
    print("wrong:", ", ".join(wrong))
    json.dump(table, open(os.path.join(folder, "scores.json"), "w"), indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ask", help="folder to write prompts.json into")
    parser.add_argument("--score", help="folder whose pictures are judged")
    parser.add_argument("--data", default="target/box/data")
    args = parser.parse_args()
    if args.ask:
        os.makedirs(args.ask, exist_ok=True)
        json.dump(asked(), open(os.path.join(args.ask, "prompts.json"), "w"), indent=0)
    if args.score:
        score(args.score, pictures.glyphs(*data_paths(args.data)))


if __name__ == "__main__":
    main()
