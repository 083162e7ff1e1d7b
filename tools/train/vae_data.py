"""Pictures for the VAE: every base emoji of the Fluent package, the motifs in both styles, and drawn shapes."""

import os
import random

from PIL import Image

import pictures
from motifs import COLOURS

HELD_OUT = 48  # emoji the VAE never sees


def base_files(fluent):
    """Files of emoji without skin tones, flags, keycaps and clock faces, in a fixed order."""
    def wanted(name):
        points = name[: -len(".webp")].split("-")
        first = int(points[0], 16)
        tone = any(0x1F3FB <= int(p, 16) <= 0x1F3FF for p in points)
        return not (tone or "20e3" in points or 0x1F1E6 <= first <= 0x1F1FF or 0x1F550 <= first <= 0x1F567 or len(points) > 2)
    return sorted(name for name in os.listdir(fluent) if name.endswith(".webp") and wanted(name))


class Pictures:
    """Draws 512x512 pictures: a third other emoji, the rest what the diffusion model is taught."""

    def __init__(self, fluent, noto, motifs):
        self.found = motifs
        names = base_files(fluent)
        taught = {os.path.basename(pictures.file_of(fluent, emoji)) for emoji, _, _ in pictures.MOTIFS}
        spare = [name for name in names if name not in taught]
        random.Random(7).shuffle(spare)
        self.folder, self.held_out, self.others = fluent, spare[:HELD_OUT], spare[HELD_OUT:]
        self.cache = {}

    def glyph(self, name):
        if name not in self.cache:
            self.cache[name] = pictures.tight(Image.open(os.path.join(self.folder, name)).convert("RGBA"))
        return self.cache[name]

    def other(self, rng, name):
        glyph = self.glyph(name)
        picture = Image.new("RGB", (pictures.SIZE, pictures.SIZE), COLOURS[pictures.ground_of(rng)])
        place = tuple(56 + rng.randint(-12, 12) for _ in range(2))
        picture.paste(glyph, place, glyph)
        return picture

    def draw(self, rng):
        if rng.random() < 0.33:
            return self.other(rng, rng.choice(self.others))
        return pictures.sample(self.found, rng, shapes=0.15)[0]
