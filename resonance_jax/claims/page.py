"""The ledger as a table in a terminal and as one self-contained page, both made from its records alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from resonance_jax.claims.ledger import VERDICTS, Claim, Pending
from resonance_jax.training import html, plots

COLORS = {"holds": "green", "holds when": "yellow", "fails": "red"}
_STYLE = """
.claim { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: 1.2rem; }
.claim h2 { margin: 0 0 .4rem; } .claim p { margin: .4rem 0; overflow-wrap: anywhere; }
.verdict { border-radius: 1rem; padding: .12rem .7rem; font-size: .8rem; font-weight: 600; white-space: nowrap; }
.holds { background: #d5efdf; color: #0b5130; } .holds-when { background: #fbeebf; color: #5c4400; }
.fails { background: #fadcd7; color: #7c1d10; } .unmeasured { background: #e2e5e9; color: #3a4048; }
.ledger { width: 100%; } .ledger td { white-space: normal; text-align: left; vertical-align: top; }
.ledger td:nth-child(2) { white-space: nowrap; } .ledger th { text-align: left; }
.number { font-weight: 600; } a { color: inherit; } .claim figure { margin: 1rem 0; }
@media (max-width: 40rem) { body { padding: 1.2rem 1rem 3rem; } .ledger thead { display: none; }
  .ledger tr, .ledger td { display: block; border: 0; padding: .1rem 0; }
  .ledger tr { border-bottom: 1px solid var(--line); padding: .7rem 0; } }
@media (prefers-color-scheme: dark) { .holds { background: #12472e; color: #b9f0d3; }
  .holds-when { background: #4a3a08; color: #fbe7a3; } .fails { background: #5a1c13; color: #ffd3cb; }
  .unmeasured { background: #3a4048; color: #d8dce1; } }
"""


def format_ledger(
    claims: Sequence[Claim], records: Mapping[str, Mapping[str, Any]], running: str | None = None
) -> Table:
    """Returns the table of a terminal: what is measured, what is being measured, and what is to come."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("claim", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("measured")
    table.add_column("s", justify="right", no_wrap=True)
    for claim in claims:
        record = records.get(claim.id)
        if record is None:
            state = "measuring …" if claim.id == running else ""
            table.add_row(claim.id, Text(state, "dim"), Text(claim.text, "dim"), "")
            continue
        verdict = record["verdict"]
        style = COLORS.get(verdict, "dim")
        found = record["number"] or f"{record['error']}"
        seconds = f"{record['seconds']:.1f}"
        table.add_row(claim.id, Text(verdict or "unmeasured", style), Text(found), seconds)
    return table


def summarize_verdicts(
    records: Sequence[Mapping[str, Any]], pending: Sequence[Pending] = ()
) -> str:
    """Returns a line such as "12 hold, 9 hold when …, 7 fail, 14 pending"."""
    counts = Counter(record["verdict"] for record in records)
    words = {"holds": "hold", "holds when": "hold when …", "fails": "fail"}
    parts = [f"{counts[verdict]} {words[verdict]}" for verdict in VERDICTS]
    parts += [f"{counts[None]} unmeasured"] if counts[None] else []
    parts += [f"{len(pending)} pending"] if pending else []
    return ", ".join(parts)


def make_page(ledger: Mapping[str, Any], pending: Sequence[Pending]) -> str:
    """Returns the page of a ledger, as `claims.json` holds it, and of the claims that wait for a part."""
    records = ledger["claims"]
    versions = ", ".join(f"{name} {version}" for name, version in ledger["versions"].items())
    facts = {"measured": ledger["date"], "on": ledger["device"], "with": versions}
    listed = "".join(f"<dt>{key}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items())
    introduction = (
        f"<p>{escape(summarize_verdicts(records, pending))}. Every verdict is computed from the numbers below it; "
        "the command of each claim measures it again.</p>"
    )
    sections = [introduction, f"<dl>{listed}</dl>", _overview(records)]
    sections += [_claim(record) for record in records]
    sections += [_pending(pending)] if pending else []
    return html.page("What holds: the claims, measured", sections, _STYLE)


def draw(plot: Mapping[str, Any]) -> Figure:
    """Draws a `Plot`, given as JSON values."""
    figure = Figure(figsize=(6.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    colors = iter(plots.PALETTE * 4)
    styles = {"line": "o-", "points": "o", "reference": "--"}
    for series in plot["series"]:
        color = "#888888" if series["style"] == "reference" else next(colors)
        form, label = styles[series["style"]], series["label"]
        axes.plot(series["x"], series["y"], form, color=color, label=label, markersize=3.5)
    axes.set_xlabel(plot["x_label"], fontsize=9, color=plots.INK)
    axes.set_ylabel(plot["y_label"], fontsize=9, color=plots.INK)
    axes.set_xscale("log" if plot["log_x"] else "linear")
    axes.set_yscale("log" if plot["log_y"] else "linear")
    axes.tick_params(which="both", labelsize=8, colors=plots.INK)
    axes.grid(True, color="#e6e6e6", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, labelcolor=plots.INK)
    return figure


def _chip(verdict: str | None) -> str:
    kind = (verdict or "unmeasured").replace(" ", "-")
    words = "holds when …" if verdict == "holds when" else verdict or "unmeasured"
    return f'<span class="verdict {kind}">{words}</span>'


def _overview(records: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<tr><td><a href="#{record["id"]}">{record["id"]}</a></td><td>{_chip(record["verdict"])}</td>'
        f"<td>{escape(record['claim'])}</td></tr>"
        for record in records
    )
    head = "<tr><th>id</th><th>verdict</th><th>claim</th></tr>"
    return f'<table class="ledger"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _claim(record: Mapping[str, Any]) -> str:
    title = f'<h2 id="{record["id"]}">{record["id"]} {_chip(record["verdict"])}</h2>'
    found = record["number"] or record["error"]
    lines = [f"<p>{escape(record['claim'])}</p>", f'<p class="number">{escape(found)}</p>']
    if record["statement"]:
        lines.append(f"<p>{escape(record['statement'])}</p>")
    if record["plot"]:
        lines.append(html.figure(draw(record["plot"]), f"Measurement of {record['id']}"))
    rows = "".join(f"<tr><td>{escape(line)}</td></tr>" for line in _numbers(record["runs"]))
    lines += [
        f'<p class="note">Decided by: {escape(record["decided_by"])}</p>',
        f'<p class="note">Source: {escape(record["source"])} Size: {record["size"]}, '
        f"{len(record['runs'])} seed(s), {record['seconds']:.1f} s.</p>",
        f"<pre>{escape(record['command'])}</pre>",
        f'<details><summary>Numbers</summary><div class="wide"><table>{rows}</table></div></details>',
    ]
    return f'<section class="claim">{title}{"".join(lines)}</section>'


def _numbers(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line a number, the values of the seeds beside each other."""
    names = runs[0] if runs else {}
    return [f"{name}: {'; '.join(_short(run[name]) for run in runs)}" for name in names]


def _short(value: Any) -> str:
    return ", ".join(f"{v:.6g}" for v in (value if isinstance(value, list) else [value]))


def _pending(pending: Sequence[Pending]) -> str:
    rows = "".join(
        f"<tr><td>{claim.id}</td><td>{escape(claim.waits_for)}</td><td>{escape(claim.text)}</td></tr>"
        for claim in pending
    )
    head = "<tr><th>id</th><th>waits for</th><th>claim</th></tr>"
    table = f'<table class="ledger"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    return f'<section class="claim"><h2>Not measured yet</h2>{table}</section>'
