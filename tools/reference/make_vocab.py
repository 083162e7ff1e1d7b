"""Make src/tokenizer/clip_merges.bin, the embedded CLIP vocabulary.

The 49,408 token ids of CLIP follow from its 48,894 byte-pair merges: 256 byte symbols, the same 256
with the end-of-word mark, one token per merge, and the two special tokens. The file therefore holds
the merges alone, each as the ids of its two parts, two little-endian 16-bit numbers: 195,576 bytes,
nothing to decompress, no strings to parse.

Source of the merges: bpe_simple_vocab_16e6.txt.gz of OpenAI's CLIP (MIT licence), as the Python
package open_clip_torch 3.3.0 carries it.

    pip download --no-deps open_clip_torch==3.3.0
    python tools/reference/make_vocab.py open_clip_torch-3.3.0-py3-none-any.whl
"""

import gzip
import hashlib
import struct
import sys
import zipfile
from pathlib import Path

MERGES = 48_894
TARGET = Path(__file__).parents[2] / "src/tokenizer/clip_merges.bin"


def byte_symbols():
    """The 256 characters that stand for bytes, in the order of their ids (CLIP's bytes_to_unicode)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = len([byte for byte in range(256) if byte not in printable])
    return [chr(code) for code in [*printable, *range(0x100, 0x100 + others)]]


def main():
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        packed = wheel.read("open_clip/bpe_simple_vocab_16e6.txt.gz")
    # Line 0 is a header; the lines after the first 48,894 are unused by CLIP.
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : MERGES + 1]
    symbols = byte_symbols()
    tokens = symbols + [symbol + "</w>" for symbol in symbols]
    ids = {token: index for index, token in enumerate(tokens)}
    out = bytearray()
    for line in lines:
        left, right = line.split(" ")
        out += struct.pack("<HH", ids[left], ids[right])
        assert left + right not in ids, line
        ids[left + right] = len(ids)
    assert len(ids) == 49_406
    TARGET.write_bytes(out)
    print(f"{TARGET}: {len(out)} bytes, sha256 {hashlib.sha256(out).hexdigest()}")


if __name__ == "__main__":
    main()
