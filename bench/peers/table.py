"""The table in Markdown, from what run.py wrote: python table.py OUT > peers.md. Standard library only."""

import json
import pathlib
import sys

import rows

# A result whose spread differs by more than this is not the same work.
SAME = 0.1


def seconds(milliseconds: float) -> str:
    """Three figures."""
    value = milliseconds / 1e3
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def number(value: float | None, form: str = ".0f") -> str:
    """Or a dash."""
    return "–" if value is None else format(value, form)


def bar_cell(bars: list[dict], name: str) -> str:
    """What Tintype's line says of each peer."""
    cells = []
    for bar in bars:
        if bar["ours"] != name:
            continue
        limit = f"bar {bar['at_most']:.2f}"
        if bar["ratio"] is None:
            cells.append(f"{bar['peer']}: not measured ({limit})")
        else:
            cells.append(f"**{bar['ratio']:.2f}** of {bar['peer']} ({limit}{'' if bar['met'] else ', not met'})")
    return "; ".join(cells)


def lines(result: dict) -> list[str]:
    """A row of the issue's table: a line for its work, then one a contestant."""
    made = [f"| **{result['title']}** | | | | | | |"]
    for name, about in result["contestants"].items():
        if "failed" in about:
            made.append(f"| {name} | – | – | – | – | – | {clean(about['failed'])} |")
            continue
        figures = about["summary"]
        share = number(figures["of_peak"] and figures["of_peak"] * 100)
        spread = f"{seconds(figures['min_ms'])} to {seconds(figures['max_ms'])}"
        told = [bar_cell(result["bars"], name), *notes(result, name)]
        cells = [name, f"{seconds(figures['median_ms'])}", spread, number(figures["gflops"]), share]
        cells += [number(about["memory_mib"]), "; ".join(text for text in told if text)]
        made.append(f"| {' | '.join(cells)} |")
    return made


def notes(result: dict, name: str) -> list[str]:
    """What a reader must know of a line."""
    said = []
    if not result["quiet"]:
        said.append("the machine was not quiet")
    if result["differences"].get(name, 0) > SAME:
        said.append(f"its result differs by {result['differences'][name] * 100:.0f} %")
    psnr = result["contestants"][name].get("psnr_db")
    if psnr is not None:
        said.append(f"{psnr:.1f} dB to the first one's picture")
    return said


def clean(text: str) -> str:
    """Why there is no figure, in one cell."""
    return "no figure: " + " ".join(text.replace("|", "/").split())[:160]


def head(record: dict) -> list[str]:
    """Where and with what."""
    facts = record["machine"]
    flags = " ".join(flag for flag in facts["vector_flags"] if flag.startswith(("avx2", "avx512", "avx_", "amx")))
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    made = [
        f"{record['date']}, {facts['cpu']} (family/model/stepping {facts['family']}), {facts['usable_cores']} cores, "
        f"{facts['memory_mib'] / 1024:.0f} GiB, Linux {facts['kernel']}; {record['threads']} threads.",
        f"Flags: `{flags}`.",
        f"Tintype {record['commit']}; {versions}.",
    ]
    if record["peer_isa"] or record["tintype_isa"]:
        limits = f"peers held to {record['peer_isa'] or 'nothing'}, Tintype to {record['tintype_isa'] or 'nothing'}"
        made.append(f"Instruction sets: {limits}.")
    return made


def markdown(record: dict, results: list[dict]) -> str:
    """The whole note."""
    loads = [turn["load"] for result in results for turn in result["turns"]]
    steals = [turn["steal"] for result in results for turn in result["turns"]]
    made = head(record)
    if loads:
        made.append(f"Load average {min(loads):.1f} to {max(loads):.1f}, steal at most {max(steals) * 100:.1f} %.")
    made += ["", "Command:", "", "```sh", record["command"], "```", ""]
    made += ["| work, contestant | median, s | least to most, s | GFLOP/s | % of own peak | peak memory, MiB | |"]
    made += ["|---|---|---|---|---|---|---|"]
    for result in results:
        made += lines(result)
    return "\n".join(made) + "\n"


def results_of(out: pathlib.Path) -> list[dict]:
    """Rows measured so far, in the table's order."""
    files = [out / "rows" / f"{row.name}.json" for row in rows.ROWS]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def write(out: pathlib.Path) -> str:
    """Puts the rows together in peers.json and peers.md."""
    record = json.loads((out / "run.json").read_text())
    results = results_of(out)
    (out / "peers.json").write_text(json.dumps(record | {"rows": results}, indent=1) + "\n")
    text = markdown(record, results)
    (out / "peers.md").write_text(text)
    return text


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print(write(pathlib.Path(sys.argv[1])), end="")
