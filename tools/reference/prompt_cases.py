"""Records what prompts mean: tests/data/prompts/cases.json and embeddings.safetensors.

The strings are chosen by hand, and drawn by a seeded generator from the grammar's own characters. `python
prompt_cases.py` writes the files; the rules are in prompt_rules.py, the embeddings are those of the tiny text towers.
"""

import json
import pathlib
import random
import tempfile

import diffusers
import numpy as np
import torch
from safetensors.numpy import save_file

import models
import prompt_rules as rules

OUT = pathlib.Path(__file__).parents[2] / "tests/data/prompts"

WEIGHTED = [
    "", " ", "normal text", "an (important) word", "(unbalanced", "unbalanced)", "[unbalanced", "unbalanced]",
    "\\(literal\\]", "(unnecessary)(parens)", "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
    "(a)", "((a))", "(((a)))", "[a]", "[[a]]", "([a])", "[(a)]", "(a:1)", "(a:1.5)", "(a:0)", "(a:0.0)", "(a:-1)",
    "(a:+1.2)", "(a:.5)", "(a:5.)", "(a: 1.5)", "(a:1.5 )", "(a: 1.5 )", "(a :1.5)", "(a:\n1.5)", "(a:b)", "(a:b:1.2)",
    "(a:1.2:b)", "(a:1.2", "a:1.2)", "a:1.2", "[a:1.2]", "(a:1,5)", "(a:1e2)", "(a:)", "(:1.2)", "()", "[]", "(())",
    "([)]", "[(])", "(a[b)c]", "[a(b]c)", "((a)", "(a))", "))((", "a\\", "\\", "\\\\", "\\\\(a)", "\\(a)", "(a\\)",
    "(a\\):1.3)", "\\[a\\]", "\\:", "\\n", "a\\b", "(\\(a\\):1.2)", "BREAK", "a BREAK b", "aBREAKb", "a BREAK", "BREAK a",
    "a\nBREAK\nb", "a BREAK BREAK b", "(a BREAK b)", "(a) BREAK (b)", "a BREAK, b", "break", "_BREAK_", "BREAK:", "(BREAK)",
    "(BREAK:1)", "a, b, c", "(a, (b, (c:1.2):1.3):0.5)", "(a:1.2)(b:1.2)", "(a:1.2)b(c:1.2)", "((a:1.2):1.2)", "😀 (é:1.1) 漢字",
    "(masterpiece:1.4), (best quality), [bad], ((sharp)), 8k:1.2", "a (b:1.1) [c:d:0.5]", "{a|b}", "<lora:x:1>", "#a", "a # b",
    "(a:00001.5)", "(a:1.10000000000000000001)", "::", "(::)", "[:]", "(a::1.3)", "time (10:30)", "time (10:30 pm)",
]
CHANGING = [
    "test", "a [b:3]", "a [b: 3]", "a [b:3 ]", "a [[[b]]:2]", "[(a:2):3]", "a [b : c : 1] d", "a[b:[c:d:2]:1]e", "a [unbalanced",
    "a [b:.5] c", "a [{b|d{:.5] c", "((a][:b:c [d:3]", "[a|(b:1.1)]", "[fe|]male", "[fe|||]male", "a [b:1.5] c", "[a:b:3]", "[a::3]",
    "[:b:3]", "[::3]", "[:3]", "[3]", "[a:b:0.25]", "[a:b:1.0]", "[a:b:1]", "[a:b:0]", "[a:b:0.0]", "[a:b:-1]", "[a:b:-0.5]",
    "[a:b:100]", "[a:b:10.5]", "[a:b:1e1]", "[a:b:.1e1]", "[a:b:+2]", "[a:b:c]", "[a:b:c:3]", "[a:b:3:4]", "[a:b:3] [c:d:6]",
    "[a:b:3][c:d:3]", "[[a:b:3]:c:6]", "[a:[b:c:6]:3]", "[a:b:[3]]", "([a:b:3]:1.2)", "(a:[b:c:3])", "(a:b:c)", "(a:b:[c:d:3])",
    "[a|b]", "[a|b|c]", "[a|b|c|d]", "[|]", "[a|]", "[|a]", "[[a|b]|c]", "[a|[b|c]]", "[a|b:3]", "[a:b|c:3]", "a|b", "a | [b:c:3]",
    "(a|b)", "[(a|b)]", "[a|b] [c|d|e]", "[a|b:c]", "[a|[b:c:5]]", "[[a|b]:c:5]", "[a:[b|c]:5]", "a\\", "[a:b:3]\\", "\\[a:b:3]",
    "[a\\:b:3]", "[a\\|b]", "[a\\]b:3]", "[a:b:3\\]", "a\\\nb [c:d:3]", "[a:b\\:c:3]", "]a:b:3[", "[[a:b:3]", "[a:b:3]]", "[a:[b:c:3]",
    "[a:b:3]:c:4]", "(a [b:c:3]", "a) [b:c:3]", "[a (b:c:3]", "[a (b):c:3]", "[(a:1.2):(b:1.3):4]", "[a:b:3 4]", "[a:b: ]", "[a:b:]",
    "[a, b, c:d:0.3] and [e::0.7]", "[a\nb:c:2]", "[ a | b ]", "[a|b]\n[c:d:2]", "[😀:漢字:2]", "[a:b:0.33]", "[a:b:0.29]", "[a:b:0.999]",
    "[a:b:9.99]", "[from:to:when]", "[to:when]", "[from::when]", "[[[[a:b:2]:c:4]:d:6]:e:8]", "[BREAK a:b:2]", "[a:b: 0.5 ]",
    "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6][ in background:0.25] "
    "[shoddy:masterful:0.5]",
]
COMPOSED = [
    "a AND b", "a:1.2 AND b", "a AND b:0.7", "a :0.7 AND b : 0.3", "a AND b AND c:-1", "aANDb", "a and b", "AND", "a AND", "AND b",
    "a AND AND b", "a cat:1.2", "16:9", "a (b:1.2)", "a (b:1.2):0.5", "a:1.", "a:.5", "a:+.5", "a:1.2.3", "a:b", "a:1:2", "a AND [b:c:3]:0.5",
    "[a AND b:3]", "(a AND b:1.2)", "a\nAND\nb :0.5\n", "a,AND,b", "_AND_", "a: 1e3", " a : 1 ", ":0.5", "a:", "a AND :2",
    "# a\nb", "a # b\nc", "#", "a#b", "a\n#b\n#c\nd", "a\n# b AND c\nAND d", "[a:b # c\n:3]", "#a\n#b",
]
FAMILIES = ("sd15", "sd21", "sdxl")
EMBEDDED = {
    "weight": "a (red:1.4) cat on a [blue] (mat:0.6)",
    "break": "a red cat BREAK (a blue mat:1.3)",
    "long": "a cat, " * 30 + "(a very shiny golden hat:1.5), in the garden, at dusk",
    "zero": "a (cat:0) and (a dog:-1)",
}


# Whole runs: prompt, negative prompt, weights as `original` has them, five steps of Euler at guidance 5 (of each part).
RUNS = {
    "plain": ("a photo of a cat", "blurry"),
    "changing": ("a [red:blue:0.4] (cat:1.3) [x|y]", "[dark:blurry:2]"),
    "composed": ("a cat AND a (dog:1.2):0.6 AND a tree:-0.4", "blurry"),
    "longer": ("a cat, " * 30 + "(hat:1.4)", "blurry"),
    "shorter": ("a cat", "blurry, " * 60),
    "parts": ("a cat AND " + "a long dog, " * 25, "blurry"),
}
STEPS = 5


def drawn(alphabet: list[str], count: int, seed: int) -> list[str]:
    """Seeded strings of the alphabet's symbols."""
    generator = random.Random(seed)
    return ["".join(generator.choices(alphabet, k=generator.randint(2, 14))) for _ in range(count)]


def long_prompts() -> list[str]:
    """Prompts around the chunk's length, with commas at every place that matters."""
    fill = "cat "
    prompts = [fill * count for count in (74, 75, 76, 149, 150, 151, 226)]
    for before in (53, 54, 55, 56, 73, 74, 75):
        prompts.append(fill * before + ", " + "dog " * 40)
        prompts.append(fill * before + ", " + "(dog:1.2) " * 40 + ", " + "bird " * 30)
    prompts += [
        "cat, " * 60,
        ", " * 80,
        fill * 30 + "BREAK " + fill * 80,
        "BREAK " + fill,
        fill + "BREAK",
        fill * 75 + "BREAK " + fill,
        fill * 75 + "BREAK",
        fill * 60 + ", " + fill * 14 + "BREAK dog",
        "(" + fill * 80 + ":1.3)",
        "(a BREAK b)",
        "",
        "BREAK",
        "a (b:1.2), [c], d\\(e\\)",
        "antidisestablishmentarianism, " * 20,
        "😀, " * 40 + "漢字 " * 20,
    ]
    return prompts


def weighted(text: str) -> list:
    return [text, rules.attention(text)]


def scheduled(text: str, steps: int) -> list:
    return [text, steps, rules.schedule(text, steps)]


def composed(text: str) -> list:
    parts = rules.compose(rules.strip_comments(text))
    return [text, [[weight, rules.schedule(part, 10)] for part, weight in parts]]


def chunked(text: str, tokenizer) -> list:
    comma = tokenizer(",", add_special_tokens=False).input_ids[0]

    def tokenize(words: str) -> list[int]:
        return tokenizer(words, add_special_tokens=False, verbose=False).input_ids

    found = rules.chunks(rules.attention(text), tokenize, comma)
    return [text, [[[token for token, _ in chunk], [weight for _, weight in chunk]] for chunk in found]]


def embed(parts: dict, text: str, mode: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(tokens, width) of all chunks and towers, and the pooled text of the first chunk."""
    contexts, pooled = [], None
    for suffix in ("", "_2"):
        if "text_encoder" + suffix not in parts:
            continue
        tower, tokenizer = parts["text_encoder" + suffix], parts["tokenizer" + suffix]
        row, vector = embed_tower(tower, tokenizer, text, mode, "text_encoder_2" in parts)
        contexts.append(row)
        pooled = vector if vector is not None else pooled
    return np.concatenate(contexts, axis=1), pooled


def embed_tower(tower, tokenizer, text: str, mode: str, penultimate: bool):
    def run(tokens: list[int]):
        ids = [tokenizer.bos_token_id, *tokens, tokenizer.eos_token_id]
        ids += [tokenizer.pad_token_id] * (77 - len(ids))
        return tower(torch.tensor([ids]), output_hidden_states=True)

    def hidden(result) -> torch.Tensor:
        return (result.hidden_states[-2] if penultimate else result.last_hidden_state)[0].double()

    rows, vector = [], None
    empty = hidden(run([]))
    for tokens, weights in chunked(text, tokenizer)[1]:
        result = run(tokens)
        if vector is None and getattr(result, "text_embeds", None) is not None:
            vector = result.text_embeds[0].numpy()
        z = hidden(result)
        factor = torch.ones(77, 1, dtype=torch.float64)
        factor[1 : 1 + len(tokens), 0] = torch.tensor(weights, dtype=torch.float64)
        if mode == "original":
            mean = z.mean()
            z = z * factor
            z = z * (mean / z.mean())
        elif mode == "no-norm":
            z = z * factor
        elif mode == "comfy":
            z = empty + (z - empty) * factor
        rows.append(z)
    return torch.cat(rows).float().numpy(), vector


def encode_entries(parts: dict, entries: list[list]) -> list[tuple[int, torch.Tensor]]:
    """[(last evaluation, context), ..] of a schedule; its texts make one batch, so they share length and mean."""
    tokenizer, tower = parts["tokenizer"], parts["text_encoder"]
    laid = [chunked(text, tokenizer)[1] for _, text in entries]
    contexts = []
    for index in range(max(len(chunks) for chunks in laid)):
        rows, factors = [], torch.ones(len(laid), 77, 1)
        for place, chunks in enumerate(laid):
            tokens, weights = chunks[index] if index < len(chunks) else ([], [])
            ids = [tokenizer.bos_token_id, *tokens, tokenizer.eos_token_id]
            rows.append(ids + [tokenizer.pad_token_id] * (77 - len(ids)))
            factors[place, 1 : 1 + len(tokens), 0] = torch.tensor(weights)
        z = tower(torch.tensor(rows)).last_hidden_state
        scaled = z * factors
        contexts.append(scaled * (z.mean() / scaled.mean()))
    joined = torch.cat(contexts, dim=1)
    return [(until, joined[place : place + 1]) for place, (until, _) in enumerate(entries)]


def holding(entries: list[tuple[int, torch.Tensor]], evaluation: int) -> torch.Tensor:
    return next(context for until, context in entries if evaluation <= until)


def run(parts: dict, prompt: str, negative: str) -> np.ndarray:
    """Final latents, every conditioning through the UNet alone."""
    composed = [(weight, encode_entries(parts, rules.schedule(part, STEPS))) for part, weight in rules.compose(prompt)]
    uncond = encode_entries(parts, rules.schedule(negative, STEPS))
    scheduler = diffusers.EulerDiscreteScheduler.from_config(parts["scheduler"].config)
    scheduler.set_timesteps(STEPS)
    x = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(42)) * scheduler.init_noise_sigma
    for evaluation, timestep in enumerate(scheduler.timesteps):
        contexts = [holding(entries, evaluation) for _, entries in composed]
        longest = max(context.shape[1] for context in contexts)
        contexts = [torch.cat([c, c[:, -1:].repeat(1, longest - c.shape[1], 1)], dim=1) for c in contexts]
        scaled = scheduler.scale_model_input(x, timestep)
        empty = parts["unet"](scaled, timestep, holding(uncond, evaluation)).sample
        noise = empty.clone()
        for (weight, _), context in zip(composed, contexts):
            noise += weight * 5.0 * (parts["unet"](scaled, timestep, context).sample - empty)
        x = scheduler.step(noise, timestep, x).prev_sample
    return x.numpy()


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    symbols = ["a", "b ", "(", ")", "[", "]", ":", ":1.2)", ":3]", "\\", "|", "BREAK", " ", "1.5", ",", "é"]
    quiet = [symbol for symbol in symbols if symbol not in ("\\", "|", "BREAK")]
    with tempfile.TemporaryDirectory() as work:
        towers = {family: models.load(family, pathlib.Path(work)) for family in FAMILIES}
    tokenizer = towers["sd15"]["tokenizer"]
    cases = {
        "source": "tools/reference/prompt_cases.py",
        "weighted": [weighted(text) for text in WEIGHTED + drawn(symbols, 60, 1)],
        "scheduled": [scheduled(text, 10) for text in CHANGING + drawn(quiet, 60, 2) + drawn(symbols, 20, 3)]
        + [scheduled(text, steps) for text in CHANGING[:20] for steps in (1, 7)],
        "composed": [composed(text) for text in COMPOSED],
        "chunked": [chunked(text, tokenizer) for text in long_prompts()],
    }
    path = OUT / "cases.json"
    rows = [f'"source": {json.dumps(cases.pop("source"))}']
    for name, list_ in cases.items():
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in list_)
        rows.append(f'"{name}": [\n{lines}\n]')
        print(name, len(list_))
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    tensors, notes = {}, {"texts": EMBEDDED}
    for family in FAMILIES:
        for name, text in EMBEDDED.items():
            for mode in ("original", "no-norm", "comfy"):
                if family != "sd15" and (name, mode) not in (("weight", "original"), ("long", "comfy"), ("break", "no-norm")):
                    continue
                context, pooled = embed(towers[family], text, mode)
                tensors[f"{family}.{name}.{mode}"] = context.astype(np.float32)
                if pooled is not None:
                    tensors[f"{family}.{name}.{mode}.pooled"] = pooled.astype(np.float32)
    for name, (prompt, negative) in RUNS.items():
        tensors[f"sd15.run.{name}"] = run(towers["sd15"], prompt, negative).astype(np.float32)
    notes["runs"] = RUNS
    save_file(tensors, OUT / "embeddings.safetensors")
    (OUT / "embeddings.json").write_text(json.dumps(notes, indent=2) + "\n")


if __name__ == "__main__":
    main()
