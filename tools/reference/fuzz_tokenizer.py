"""Records what transformers' CLIPTokenizer makes of 10,000 strings of many languages and habits.

    python fuzz_tokenizer.py

Writes tests/fixtures/tokenizer/fuzz.jsonl.gz: one line a string, `[text, count, hash]` where `hash` is FNV-1a (64 bits, 16
hexadecimal digits) over the ids as little-endian u16, special tokens not included; every 25th line is
`[text, [ids..]]` in full, so that a failure can be read. No cut to 77 tokens.
"""

import gzip
import json
import pathlib
import random
import tempfile

import tokenizers
import transformers

import make_fixtures
import models
import tokenizer

COUNT = 10_000

SENTENCES = """a photo of an astronaut riding a horse on mars, highly detailed, 8k, trending on artstation
masterpiece, best quality, 1girl, solo, (long hair:1.2), looking at viewer, upper body, <lora:detail:0.8>
((worst quality, low quality:1.4)), bad anatomy, watermark, text, [error|fewer digits]
an oil painting of Notre-Dame de Paris by Claude Monet, c. 1889 -- it's a winter's morning; they'll've said we're I'm you'd
ein Foto von einer Straße in Köln, Größe 3½ m², früh am Morgen, weiß und grün
une photo d'un château près de l'océan, où l'été est déjà fini, cœur naïf
una fotografía de un niño pequeño en España, ¿qué más? ¡Olé!
uma fotografia de um coração, São Paulo, avós e ações
фотография кота на красной площади, ёлка и щука, ЭТО СССР
φωτογραφία μιας γάτας στην Ακρόπολη, ΣΊΣΥΦΟΣ ὁδός
صورة قطة على الطاولة في القاهرة، هل هذا صحيح؟ السَّلَامُ عَلَيْكُمْ
תמונה של חתול על השולחן בירושלים, שָׁלוֹם
एक बिल्ली की तस्वीर, दिल्ली में सुबह क्षत्रिय
ছবি একটি বিড়ালের ঢাকা শহরে
ภาพถ่ายของแมวน้อยที่กรุงเทพฯ น้ำใจ
猫の写真、東京の夜、カタカナとひらがな、ｶﾞｷﾞｸﾞ
一张猫的照片，北京的早晨，细节丰富。「你好」
고양이 사진, 서울의 밤 한글 각
Ảnh của một con mèo ở Hà Nội, Việt Nam rất đẹp
fotoğraf: İstanbul'da bir kedi, IĞDIR ışık, ıslak
zdjęcie kota w Łodzi, żółć, gęślą jaźń
fotografie kočky v Plzni, příliš žluťoučký kůň
ljósmynd af ketti á Íslandi, þorn og æðarfugl
კატის ფოტო თბილისში, ᲛᲮᲔᲓᲠᲣᲚᲘ
կատվի լուսանկար Երևանում և
ድመት ፎቶ አዲስ አበባ
ຮູບແມວ ວຽງຈັນ རི་མོ བོད་ ក្រុង ភ្នំពេញ မြန်မာ
email: user.name+tag@example.co.uk, https://example.com/a_b-c?d=e&f=%20#g C:\\path\\file.txt
x = f(y) ** 2 + a[i]->b::c; // TODO {json: "v"} <div class='x'>&amp;&lt;&gt;&quot;&#39;&nbsp;&eacute;</div>
1234567890 3.14159 1,000,000.00 $5 €10 £20 ¥30 50% 1/2 №7 ⅷ Ⅷ ① ² ₃ ௧௨௩ ٣٤٥ ४५६ ５６７""".split("\n")

EMOJI = "😀 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇯🇵 ❤️ ☃︎ 1️⃣ 🤷🏿‍♀️ ✨ 🔥🔥🔥 🫠 ™️ ©".split(" ")
CASES = ["ẞ", "ß", "İ", "ı", "Σ", "ΑΣ", "ὈΔΥΣΣΕΎΣ", "Ǆ", "ǅ", "ŉ", "ﬁ", "Ａ", "Ⅻ", "𐐀", "Ⓐ", "K", "Å", "Ω", "ǰ", "Ꭰ", "ꭰ", "Ა", "ᾼ", "Ϊ́", "Ⴀ"]
COMBINING = [chr(c) for c in (0x300, 0x301, 0x308, 0x30A, 0x327, 0x328, 0x323, 0x345, 0x483, 0x5B0, 0x64B, 0x93C, 0xE31, 0x1AB0, 0x20D0, 0x20E3, 0x3099, 0xFE0F, 0x302A, 0x1D165)]
CONTROL = [chr(c) for c in (*range(0x00, 0x20), 0x7F, 0x80, 0x85, 0x9F, 0xAD, 0x200B, 0x200C, 0x200D, 0x200E, 0x202E, 0x2060, 0xFEFF, 0xFFF9, 0xFFFD, 0xFFFE, 0xFFFF, 0xE000, 0xE0041, 0x10FFFF)]
SPACES = [chr(c) for c in (0x20, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1F, 0x85, 0xA0, 0x1680, 0x180E, 0x2000, 0x2003, 0x2009, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)]
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¡¿«»…—–‘’“”„†‡•‰′″‹›⁄€™←↑→↓∀∂∃∅∆∇∈∏∑−√∞∫≈≠≤≥■□▲▼◆○●★☆♠♣♥♦、。〈〉《》「」『』【】！？，．：；（）［］｛｝～"
APOSTROPHES = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE", "’s", "''s", "'ss", "o'clock", "rock'n'roll", "'", "''"]
SPECIAL = ["<|startoftext|>", "<|endoftext|>", "<|StartOfText|>", "<|endoftext|", "|endoftext|>", "<|endoftext|><|endoftext|>", "</w>", "!</w>", "<|startoftext|>cat", "cat<|endoftext|>dog"]
ENTITIES = ["&amp;", "&lt;b&gt;", "&#39;", "&#x27;", "&amp;amp;", "&nbsp;", "&unknown;", "&"]
# Scripts, symbols and letters with case mappings, by range.
RANGES = [(0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x36F), (0x370, 0x52F), (0x531, 0x6FF), (0x900, 0xDFF), (0xE00, 0x109F), (0x10A0, 0x13FF), (0x1400, 0x1CFF), (0x1D00, 0x1FFF), (0x2000, 0x2BFF), (0x2C00, 0x2DFF), (0x3000, 0x33FF), (0x4E00, 0x9FFF), (0xA000, 0xABFF), (0xAC00, 0xD7A3), (0xF900, 0xFDFF), (0xFE00, 0xFFFD), (0x10000, 0x10FFF), (0x11000, 0x11FFF), (0x1D000, 0x1D7FF), (0x1E000, 0x1EFFF), (0x1F000, 0x1FAFF), (0x20000, 0x2FFFF)]


def word(random_: random.Random) -> str:
    """One piece of a string."""
    kind = random_.randrange(12)
    if kind < 4:
        words = random_.choice(SENTENCES).split(" ")
        start = random_.randrange(len(words))
        return " ".join(words[start : start + random_.randint(1, 5)])
    if kind == 4:
        return random_.choice(EMOJI) * random_.randint(1, 2)
    if kind == 5:
        return "".join(random_.choice(PUNCTUATION) for _ in range(random_.choice((1, 2, 3, 9))))
    if kind == 6:
        return random_.choice(APOSTROPHES + ENTITIES + SPECIAL)
    if kind == 7:
        return "".join(random_.choice(CASES) for _ in range(random_.randint(1, 3)))
    if kind == 8:
        base = random_.choice("aeoinüñеいかक한ا ")
        return base + "".join(random_.choice(COMBINING) for _ in range(random_.randint(1, 3)))
    if kind == 9:
        return random_.choice(CONTROL)
    if kind == 10:
        low, high = random_.choice(RANGES)
        return "".join(chr(random_.randint(low, high)) for _ in range(random_.randint(1, 6)))
    text = random_.choice(SENTENCES)
    start = random_.randrange(len(text))
    text = text[start : start + random_.randint(2, 12)]
    return random_.choice((str.upper, str.title, str.swapcase))(text)


def string(random_: random.Random) -> str:
    """Pieces, joined by one of the many spaces or by nothing."""
    out = ""
    for _ in range(random_.choice((1, 1, 2, 2, 3, 5))):
        gap = random_.choice((" ", " ", " ", "", "", random_.choice(SPACES), random_.choice(SPACES) * 2))
        out += word(random_) + gap
    return out if random_.random() < 0.5 else out.strip(" ")


def strings() -> list[str]:
    """The fixed lists first, then random ones; none twice."""
    random_ = random.Random(20240607)
    fixed = ["", " ", *SENTENCES, *EMOJI, *CASES, *CONTROL, *SPACES, *APOSTROPHES, *SPECIAL, *ENTITIES]
    fixed += [f"a{piece}b" for piece in (*CONTROL, *SPACES, *COMBINING)]
    seen = dict.fromkeys(fixed)
    while len(seen) < COUNT:
        seen.setdefault(string(random_))
    return [text for text in seen if not any(0xD800 <= ord(c) < 0xE000 for c in text)]


def digest(ids: list[int]) -> str:
    """FNV-1a over the ids as little-endian u16."""
    state = 0xCBF29CE484222325
    for value in ids:
        for byte in (value & 255, value >> 8):
            state = ((state ^ byte) * 0x100000001B3) % 2**64
    return f"{state:016x}"


def main() -> None:
    """Writes the fixture."""
    with tempfile.TemporaryDirectory() as work:
        tok = transformers.CLIPTokenizer.from_pretrained(tokenizer.write(pathlib.Path(work)))
    lines = []
    for index, text in enumerate(strings()):
        ids = tok(text, add_special_tokens=False).input_ids
        lines.append(json.dumps([text, ids] if index % 25 == 0 else [text, len(ids), digest(ids)], ensure_ascii=False, separators=(",", ":")))
    folder = make_fixtures.FIXTURES / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    packed = gzip.compress(("\n".join(lines) + "\n").encode(), 9, mtime=0)
    (folder / "fuzz.jsonl.gz").write_bytes(packed)
    note = {"strings": len(lines), "command": "python tools/reference/fuzz_tokenizer.py"}
    models.write_json(folder / "fuzz.json", note | {"versions": make_fixtures.versions() | {"tokenizers": tokenizers.__version__}})
    print(f"{len(lines)} strings, {len(packed) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
