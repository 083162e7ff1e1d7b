"""The table's rows: which work, who does it, and the bars that the project has set itself."""

import dataclasses

from work import Job


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One way of doing the work. `isa` and `threads` are the run's own where they are not given."""

    engine: str
    precision: str
    isa: str | None = None
    threads: int | None = None

    @property
    def name(self) -> str:
        """As tables show it."""
        more = [self.isa] if self.isa else []
        more += [f"{self.threads}-thread"] if self.threads else []
        return "-".join([self.engine, self.precision, *more])

    @property
    def ours(self) -> bool:
        """Whether it is Tintype."""
        return self.engine == "tintype"


@dataclasses.dataclass(frozen=True)
class Bar:
    """Tintype's median time shall be at most this share of the peer's."""

    ours: Contestant
    peer: Contestant
    at_most: float


@dataclasses.dataclass(frozen=True)
class Row:
    """Work that contestants do in turns, in their order."""

    name: str
    title: str
    job: Job
    contestants: tuple[Contestant, ...]
    bars: tuple[Bar, ...]
    rounds: int = 5


FAST = Contestant("tintype", "fast")
F32 = Contestant("tintype", "f32")
AVX2 = Contestant("tintype", "f32", isa="avx2")
FAST_ONE = Contestant("tintype", "fast", threads=1)
F32_ONE = Contestant("tintype", "f32", threads=1)
VINO_BF16 = Contestant("openvino", "bf16")
VINO_F32 = Contestant("openvino", "f32")
VINO_INT8 = Contestant("openvino", "int8")
TORCH_BF16 = Contestant("torch", "bf16")
TORCH_F32 = Contestant("torch", "f32")
CANDLE = Contestant("candle", "f32")

STEP = Job("sd15", "unet", 512, 512, 2)
DECODE = Job("sd15", "vae", 512, 512, 1)
TEXT = Job("sd15", "text", 512, 512, 2)
PICTURE = Job("sd15", "picture", 512, 512, 2)
# Two threads shall be 1.85 times as fast as one.
SPEED_UP = 1 / 1.85

ROWS = (
    Row(
        "step-fast",
        "guided step, SD1.5 512x512, 16 bits",
        STEP,
        (VINO_BF16, TORCH_BF16, VINO_INT8, FAST),
        (Bar(FAST, VINO_BF16, 0.68), Bar(FAST, TORCH_BF16, 0.45), Bar(FAST, VINO_INT8, 1.0)),
    ),
    Row(
        "decode-fast",
        "VAE decode, 512x512, 16 bits",
        DECODE,
        (VINO_BF16, TORCH_BF16, FAST),
        (Bar(FAST, VINO_BF16, 0.42),),
    ),
    Row(
        "step-f32",
        "guided step, SD1.5 512x512, f32",
        STEP,
        (VINO_F32, TORCH_F32, F32),
        (Bar(F32, VINO_F32, 0.62),),
    ),
    Row(
        "decode-f32",
        "VAE decode, 512x512, f32",
        DECODE,
        (VINO_F32, TORCH_F32, F32),
        (Bar(F32, VINO_F32, 0.48),),
    ),
    Row(
        "sdxl-512",
        "SDXL UNet forward, 512x512, 16 bits",
        Job("sdxl", "unet", 512, 512, 1),
        (VINO_BF16, FAST),
        (Bar(FAST, VINO_BF16, 0.85),),
    ),
    Row(
        "sdxl-1024",
        "SDXL UNet forward, 1024x1024, 16 bits",
        Job("sdxl", "unet", 1024, 1024, 1),
        (VINO_BF16, FAST),
        (Bar(FAST, VINO_BF16, 0.85),),
        rounds=3,
    ),
    Row(
        "text-f32",
        "text encoding, CLIP-L, prompt and empty text, f32",
        TEXT,
        (TORCH_F32, F32),
        (Bar(F32, TORCH_F32, 1.0),),
        rounds=15,
    ),
    Row(
        "text-fast",
        "text encoding, CLIP-L, prompt and empty text, 16 bits",
        TEXT,
        (TORCH_BF16, FAST),
        (Bar(FAST, TORCH_BF16, 1.0),),
        rounds=15,
    ),
    Row(
        "picture",
        "prompt to PNG, SD1.5 512x512, 20 guided steps, process start and load included, 16 bits",
        PICTURE,
        (VINO_BF16, TORCH_BF16, FAST),
        (Bar(FAST, VINO_BF16, 0.66),),
        rounds=3,
    ),
    Row(
        "step-avx2",
        "guided step, SD1.5 512x512, f32, Tintype held to AVX2",
        STEP,
        (VINO_F32, AVX2),
        (Bar(AVX2, VINO_F32, 0.85),),
        rounds=3,
    ),
    Row(
        "threads-fast",
        "guided step, SD1.5 512x512, two threads against one, 16 bits",
        STEP,
        (FAST_ONE, FAST),
        (Bar(FAST, FAST_ONE, SPEED_UP),),
    ),
    Row(
        "threads-f32",
        "guided step, SD1.5 512x512, two threads against one, f32",
        STEP,
        (F32_ONE, F32),
        (Bar(F32, F32_ONE, SPEED_UP),),
        rounds=3,
    ),
)


def chosen(names: str | None, candle: bool) -> list[Row]:
    """Rows by name, in the table's order; Candle joins the f32 rows where it is asked for."""
    known = [row.name for row in ROWS]
    wanted = names.split(",") if names else known
    for name in wanted:
        if name not in known:
            raise SystemExit(f"unknown row {name!r}; known: {', '.join(known)}")
    rows = [row for row in ROWS if row.name in wanted]
    if not candle:
        return rows
    joins = ("step-f32", "decode-f32")
    return [dataclasses.replace(r, contestants=(CANDLE, *r.contestants)) if r.name in joins else r for r in rows]
