"""The webui's prompt grammar in its documented behaviour, written anew and apart from the Rust code.

Where the Rust code is a pass with a stack, this is a recursive descent, so that one is a check of the other. Every
function says what it returns; `prompt_cases.py` records the results.
"""

import re

LOOK_BACK = 20
CHUNK = 75
BRACKETS = "()[]"


# --- comments, networks, composition ---------------------------------------------------------------------------------


def strip_comments(text: str) -> str:
    """`#` to the end of the line becomes a line end; a whole line of comment takes the line end before it along."""
    out, at = "", 0
    while at < len(text):
        here = at if text[at] == "#" and at == 0 else at + 1 if text.startswith("\n#", at) else None
        if here is None:
            out += text[at]
            at += 1
            continue
        end = text.find("\n", here)
        out += "\n"
        at = len(text) if end < 0 else end + 1
    text, out, at = out, "", 0
    while at < len(text):
        if text[at] != "#":
            out += text[at]
            at += 1
            continue
        end = text.find("\n", at)
        out += "\n"
        at = len(text) if end < 0 else end + 1
    return out


def compose(text: str) -> list[tuple[str, float]]:
    """The parts that AND joins, with their weights."""
    parts = []
    for part in re.split(r"\bAND\b", text):
        body, weight = part.rstrip(), 1.0
        head, colon, tail = body.rpartition(":")
        if colon and re.fullmatch(r"[-+]?(\d+\.?|\d*\.\d+)", tail.strip()):
            body, weight = head.rstrip(), float(tail)
        parts.append((body, weight))
    return parts


# --- changes over the steps ------------------------------------------------------------------------------------------


class NoGrammar(Exception):
    """The text is beyond the grammar and is taken as it is."""


def parse(text: str) -> list:
    """Nodes: strings, ("keep", [lists and strings]), ("change", before, after, raw), ("alternate", [lists])."""
    ends: dict[int, tuple | None] = {}

    def plain(at: int) -> int:
        """The end of the run of words, blanks and escapes at `at`."""
        while at < len(text) and text[at] not in "()[]:|":
            if text[at] == "\\":
                if at + 1 == len(text) or text[at + 1] == "\n":
                    raise NoGrammar
                at += 1
            at += 1
        return at

    def sequence(at: int) -> tuple[list, int]:
        """As many complete nodes as there are at `at`."""
        nodes = []
        while at < len(text):
            if text[at] in "([":
                found = bracket(at)
                if found is None:
                    break
                nodes.append(found[0])
                at = found[1]
            else:
                end = plain(at)
                if end == at:
                    break
                nodes.append(text[at:end])
                at = end
        return nodes, at

    def bracket(at: int) -> tuple | None:
        """The complete bracket at `at` and its end, or None."""
        if at not in ends:
            ends[at] = attempt(at)
        return ends[at]

    def attempt(at: int) -> tuple | None:
        close = ")" if text[at] == "(" else "]"
        sections, begins, separators = [], [], ""
        here = at
        while True:
            begins.append(here + 1)
            nodes, here = sequence(here + 1)
            sections.append(nodes)
            if here == len(text):
                return None
            if text[here] in ":|":
                separators += text[here]
                continue
            break
        if text[here] != close:
            return None
        end = here + 1
        if close == ")" and separators in ("", ":"):
            return ("keep", ["(", *join(sections, ":"), ")"]), end
        if close == "]" and not separators:
            return ("keep", ["[", *sections[0], "]"]), end
        if close == "]" and set(separators) == {"|"}:
            return ("alternate", sections), end
        if close == "]" and separators in (":", "::"):
            raw = text[begins[-1] : here]
            number = r"\s*[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?\s*"
            if re.fullmatch(number, raw, re.ASCII) or re.fullmatch(number, raw):
                before = sections[0] if len(sections) == 3 else []
                return ("change", before, sections[-2], raw.strip()), end
        return None

    nodes, at = [], 0
    while at < len(text):
        found, at = sequence(at)
        nodes += found
        if at < len(text):
            if text[at] == "|":
                raise NoGrammar
            nodes.append(text[at])
            at += 1
    return nodes


def join(sections: list[list], separator: str) -> list:
    """The sections as one list."""
    out = list(sections[0])
    for section in sections[1:]:
        out += [separator, *section]
    return out


def when(raw: str, steps: int) -> int:
    """The last step of the text before a change."""
    value = float(raw)
    return min(steps, int(value * steps if "." in raw else value))


def read(nodes: list, step: int, steps: int) -> str:
    """The text at a step, counted from 1."""
    out = ""
    for node in nodes:
        if isinstance(node, str):
            out += node
        elif node[0] == "keep":
            out += read(node[1], step, steps)
        elif node[0] == "change":
            out += read(node[1] if step <= when(node[3], steps) else node[2], step, steps)
        else:
            out += read(node[1][(step - 1) % len(node[1])], step, steps)
    return out


def moments(nodes: list, steps: int) -> set[int]:
    """The last step of each wording, the run's end left out."""
    found = set()
    for node in nodes:
        if isinstance(node, str):
            continue
        if node[0] == "keep":
            found |= moments(node[1], steps)
        elif node[0] == "change":
            found |= {when(node[3], steps)} if when(node[3], steps) >= 1 else set()
            found |= moments(node[1], steps) | moments(node[2], steps)
        else:
            found |= set(range(1, steps + 1))
            for option in node[1]:
                found |= moments(option, steps)
    return found


def schedule(text: str, steps: int) -> list[list]:
    """[[last step, text], ..]"""
    try:
        nodes = parse(text)
    except NoGrammar:
        return [[steps, text]]
    return [[until, read(nodes, until, steps)] for until in sorted(moments(nodes, steps) | {steps})]


# --- weights ---------------------------------------------------------------------------------------------------------


def attention(text: str) -> list[list]:
    """[[words, weight], ..]; ["BREAK", -1] ends a chunk."""
    pieces: list[list] = []
    opened = {"(": [], "[": []}

    def scale(start: int, factor: float) -> None:
        for piece in pieces[start:]:
            piece[1] *= factor

    def words(run: str) -> None:
        for index, part in enumerate(re.split(r"\s*\bBREAK\b\s*", run)):
            if index:
                pieces.append(["BREAK", -1])
            pieces.append([part, 1.0])

    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            escaped = at + 1 < len(text) and text[at + 1] in "()[]\\"
            pieces.append([text[at + 1] if escaped else "", 1.0])
            at += 2 if escaped else 1
        elif char in "([":
            opened[char].append(len(pieces))
            at += 1
        elif char == ":":
            weight = re.compile(r":\s*([+-]?[.\d]+)\s*\)").match(text, at)
            if weight and opened["("]:
                scale(opened["("].pop(), float(weight[1]))
            else:
                words(weight[0] if weight else ":")
            at = weight.end() if weight else at + 1
        elif char == ")" and opened["("]:
            scale(opened["("].pop(), 1.1)
            at += 1
        elif char == "]" and opened["["]:
            scale(opened["["].pop(), 1 / 1.1)
            at += 1
        elif char in ")]":
            words(char)
            at += 1
        else:
            end = at
            while end < len(text) and text[end] not in "\\()[]:":
                end += 1
            words(text[at:end])
            at = end
    for start in opened["("]:
        scale(start, 1.1)
    for start in opened["["]:
        scale(start, 1 / 1.1)
    merged: list[list] = []
    for piece in pieces or [["", 1.0]]:
        if merged and merged[-1][1] == piece[1]:
            merged[-1][0] += piece[0]
        else:
            merged.append(list(piece))
    return merged


# --- chunks ----------------------------------------------------------------------------------------------------------


def chunks(pieces: list[list], tokenize, comma: int) -> list[list[tuple[int, float]]]:
    """Runs of at most 75 (token, weight), markers and padding left out."""
    done, chunk = [], []
    last_comma = None
    for words, weight in pieces:
        if words == "BREAK" and weight == -1:
            done.append(chunk)
            chunk, last_comma = [], None
            continue
        for token in tokenize(words):
            if token == comma:
                last_comma = len(chunk)
            elif len(chunk) == CHUNK and last_comma is not None and CHUNK - last_comma <= LOOK_BACK:
                done.append(chunk[: last_comma + 1])
                chunk, last_comma = chunk[last_comma + 1 :], None
            if len(chunk) == CHUNK:
                done.append(chunk)
                chunk, last_comma = [], None
            chunk.append((token, weight))
    return done + [chunk] if chunk or not done else done
