"""Pictures and their captions: emoji in two styles on plain grounds, and drawn shapes."""

import math
import os
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from motifs import COLOURS, MOTIFS, SHAPES, article

SIZE = 512
GLYPH = 400  # side of an emoji on the canvas
STYLES = ("3d", "flat")


def file_of(folder, emoji):
    """The WebP of an emoji in the Fluent package: hexadecimal code points joined by '-', with or without FE0F."""
    points = [f"{ord(c):04x}" for c in emoji]
    for name in ("-".join(points), "-".join(p for p in points if p != "fe0f")):
        path = os.path.join(folder, f"{name}.webp")
        if os.path.exists(path):
            return path
    raise SystemExit(f"no picture of {emoji} ({'-'.join(points)}) in {folder}")


def tight(glyph):
    """The glyph cropped to what is visible, in the middle of a square, as a GLYPH-sided RGBA picture."""
    glyph = glyph.crop(glyph.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox())
    side = max(glyph.size)
    square = Image.new("RGBA", (side, side))
    square.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    # Resampling premultiplied: a transparent edge must not bleed its hidden colour.
    return square.convert("RGBa").resize((GLYPH, GLYPH), Image.LANCZOS).convert("RGBA")


def glyphs(fluent, noto):
    """`{style: [RGBA picture of each motif]}`."""
    font = ImageFont.truetype(noto, 109)
    found = {style: [] for style in STYLES}
    for emoji, _, _ in MOTIFS:
        found["3d"].append(tight(Image.open(file_of(fluent, emoji)).convert("RGBA")))
        canvas = Image.new("RGBA", (136, 136))
        ImageDraw.Draw(canvas).text((0, 4), emoji, font=font, embedded_color=True)
        found["flat"].append(tight(canvas))
    return found


def ground_of(rng):
    """A colour word, white for about a third."""
    return "white" if rng.random() < 0.35 else rng.choice(list(COLOURS))


def emoji_picture(found, rng, motif=None, style=None, ground=None):
    """One emoji on a plain ground: `(picture, caption, facts)`."""
    motif = rng.randrange(len(MOTIFS)) if motif is None else motif
    style = style or ("3d" if rng.random() < 0.65 else "flat")
    ground = ground or ground_of(rng)
    glyph = found[style][motif]
    side = round(GLYPH * rng.uniform(0.97, 1.03))
    glyph = glyph.convert("RGBa").resize((side, side), Image.BICUBIC).convert("RGBA")
    picture = Image.new("RGB", (SIZE, SIZE), COLOURS[ground])
    place = tuple((SIZE - side) // 2 + rng.randint(-8, 8) for _ in range(2))
    picture.paste(glyph, place, glyph)
    return picture, emoji_caption(rng, motif, style, ground), {"motif": motif, "style": style, "ground": ground}


def emoji_caption(rng, motif, style, ground):
    """Words for the picture. No word of style means 3d; no word of ground means white."""
    _, noun, other = MOTIFS[motif]
    thing = article(noun if rng.random() < 0.75 else other)
    if style == "flat":
        text = rng.choice(("a flat icon of {}", "flat emoji of {}", "{}, flat style", "a flat drawing of {}")).format(thing)
    else:
        text = rng.choice(("a photo of {}", "a photo of {}", "{}", "{}", "a 3d render of {}", "{}, 3d style", "a picture of {}")).format(thing)
    if ground != "white" or rng.random() < 0.3:
        text += rng.choice((" on a {} background", " on a {} background", ", {} background", " in front of {}")).format(ground)
    return text


def outline(shape, cx, cy, radius):
    """Corners of a shape about its middle."""
    if shape == "square":
        r = radius * 0.88
        return [(cx - r, cy - r), (cx + r, cy - r), (cx + r, cy + r), (cx - r, cy + r)]
    if shape == "triangle":
        turns, radii = 3, (radius * 1.1,)
        cy += radius * 0.2
    else:
        turns, radii = 10, (radius * 1.1, radius * 0.46)
    return [
        (cx + radii[i % len(radii)] * math.sin(2 * math.pi * i / turns), cy - radii[i % len(radii)] * math.cos(2 * math.pi * i / turns))
        for i in range(turns)
    ]


def draw_shapes(ground, items):
    """Shapes `(shape, colour, cx, cy, radius)` on a ground, drawn at twice the size for clean edges."""
    canvas = Image.new("RGB", (2 * SIZE, 2 * SIZE), COLOURS[ground])
    pen = ImageDraw.Draw(canvas)
    for shape, colour, cx, cy, radius in items:
        cx, cy, radius = 2 * cx, 2 * cy, 2 * radius
        if shape == "circle":
            pen.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=COLOURS[colour])
        else:
            pen.polygon(outline(shape, cx, cy, radius), fill=COLOURS[colour])
    return canvas.resize((SIZE, SIZE), Image.BOX)


def shape_picture(rng):
    """A drawn scene: one shape, two shapes in a relation, or two or three of a kind."""
    kind = rng.choice(("one", "one", "two", "two", "many"))
    ground = ground_of(rng)
    others = [c for c in COLOURS if c != ground]
    def jitter():
        return rng.randint(-8, 8)
    if kind == "one":
        shape, colour = rng.choice(SHAPES), rng.choice(others)
        size, radius = rng.choice((("", 140), ("", 140), ("big ", 190), ("small ", 75)))
        items = [(shape, colour, 256 + jitter(), 256 + jitter(), radius)]
        text = f"{article(f'{size}{colour} {shape}')}"
    elif kind == "two":
        (a, b) = [(rng.choice(SHAPES), colour) for colour in rng.sample(others, 2)]
        relation = rng.choice(("left of", "right of", "above", "below"))
        places = {"left of": ((145, 256), (367, 256)), "right of": ((367, 256), (145, 256)), "above": ((256, 145), (256, 367)), "below": ((256, 367), (256, 145))}[relation]
        items = [(*what, x + jitter(), y + jitter(), 88) for what, (x, y) in zip((a, b), places)]
        text = f"a {a[1]} {a[0]} {relation} a {b[1]} {b[0]}".replace("a orange", "an orange")
    else:
        shape, colour, count = rng.choice(SHAPES), rng.choice(others), rng.choice((2, 3))
        xs = {2: (145, 367), 3: (100, 256, 412)}[count]
        items = [(shape, colour, x + jitter(), 256 + jitter(), {2: 88, 3: 66}[count]) for x in xs]
        text = f"{ {2: 'two', 3: 'three'}[count]} {colour} {shape}s"
    if ground != "white" or rng.random() < 0.3:
        text += f" on {article(ground)} background"
    return draw_shapes(ground, items), text, {"kind": kind, "items": [i[:2] for i in items], "ground": ground}


def sample(found, rng, shapes=0.25):
    """A picture, its caption and what it shows."""
    return shape_picture(rng) if rng.random() < shapes else emoji_picture(found, rng)


def as_array(picture):
    """`(3, H, W)` of f32 in -1..1."""
    return np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1
