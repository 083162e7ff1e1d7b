"""Writes the small pictures by which the tests judge what the model in the box drew.

    python tools/train/thumbs.py

One sheet of 64-pixel tiles on white, in rows of 16: every motif as it is taught, first all in one style, then all in
the other. `thumbs.json` names them in that order.
"""

import argparse
import json
import os

from PIL import Image

import pictures
from common import data_paths
from motifs import MOTIFS, article

SIDE, COLUMNS = 64, 16


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="target/box/data")
    parser.add_argument("--out", default="tests/data/box")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    found = pictures.glyphs(*data_paths(args.data))
    tiles = []
    for style in pictures.STYLES:
        for motif, (_, noun, _) in enumerate(MOTIFS):
            glyph = found[style][motif]
            canvas = Image.new("RGB", (pictures.SIZE, pictures.SIZE), "white")
            place = (pictures.SIZE - pictures.GLYPH) // 2
            canvas.paste(glyph, (place, place), glyph)
            tiles.append(({"motif": noun, "thing": article(noun), "style": style}, canvas.resize((SIDE, SIDE), Image.BOX)))
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE), "white")
    for i, (_, tile) in enumerate(tiles):
        sheet.paste(tile, (i % COLUMNS * SIDE, i // COLUMNS * SIDE))
    # 256 colours for the whole sheet: a third of the size, and far nearer to the truth than two motifs to each other.
    sheet.quantize(256, dither=Image.Dither.NONE).save(os.path.join(args.out, "thumbs.png"), optimize=True)
    with open(os.path.join(args.out, "thumbs.json"), "w") as file:
        lines = ",\n".join(json.dumps(facts) for facts, _ in tiles)
        file.write(f'{{"side": {SIDE}, "columns": {COLUMNS}, "tiles": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
