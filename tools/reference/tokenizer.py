"""CLIP's vocabulary, offline.

`vocab.json` and `merges.txt` follow from the merge list that open_clip ships: 256 byte symbols, the same with `</w>`,
one token a merge, then the two special ones.
"""

import gzip
import importlib.util
import json
import pathlib

SPECIAL = ["<|startoftext|>", "<|endoftext|>"]


def bytes_to_unicode() -> list[str]:
    """The printable stand-in of each byte, in GPT-2's order."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    table = {byte: chr(byte) for byte in kept}
    spare = 0
    order = list(kept)
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + spare)
            order.append(byte)
            spare += 1
    return [table[byte] for byte in order]


def merges() -> list[str]:
    """The 48,894 merge lines."""
    package = importlib.util.find_spec("open_clip")
    if package is None:
        raise SystemExit("pip install --no-deps open_clip_torch==3.3.0 (it ships the vocabulary)")
    path = pathlib.Path(package.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.open(path).read().decode().split("\n")
    return lines[1 : 49152 - 256 - 2 + 1]


def write(folder: pathlib.Path, pad_token: str = "<|endoftext|>") -> pathlib.Path:
    """Writes a tokenizer folder as published."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = merges()
    symbols = bytes_to_unicode()
    tokens = symbols + [symbol + "</w>" for symbol in symbols] + ["".join(line.split()) for line in lines] + SPECIAL
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != 49408:
        raise SystemExit(f"vocabulary has {len(vocabulary)} entries, expected 49408")
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
    for name, content in configs(pad_token).items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    return folder


def configs(pad_token: str) -> dict[str, dict]:
    """tokenizer_config.json and special_tokens_map.json as Stable Diffusion's repositories have them."""

    def added(content: str) -> dict:
        return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

    config = {
        "add_prefix_space": False,
        "bos_token": {"__type": "AddedToken", **added("<|startoftext|>")},
        "do_lower_case": True,
        "eos_token": {"__type": "AddedToken", **added("<|endoftext|>")},
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": pad_token,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": {"__type": "AddedToken", **added("<|endoftext|>")},
    }
    special = {
        "bos_token": added("<|startoftext|>"),
        "eos_token": added("<|endoftext|>"),
        "pad_token": pad_token,
        "unk_token": added("<|endoftext|>"),
    }
    return {"tokenizer_config.json": config, "special_tokens_map.json": special}
