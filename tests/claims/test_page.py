"""The ledger as a table and as a page."""

import io
import re

import pytest
import rich.console

from resonance_jax.claims import page
from resonance_jax.claims.ledger import Claim, Pending

PLOT = {
    "x_label": "n",
    "y_label": "seconds",
    "series": [
        {"label": "a", "x": [1, 10], "y": [1, 100], "style": "line"},
        {"label": "b", "x": [1, 10], "y": [2, 50], "style": "points"},
        {"label": "limit", "x": [1, 10], "y": [3, 3], "style": "reference"},
    ],
    "log_x": True,
    "log_y": False,
}


def record(name, verdict, **changes):
    number = "error 0.5 <of> 1" if verdict else None
    return {
        "id": name,
        "claim": f"the claim {name} & more",
        "source": "a text.",
        "decided_by": "a test.",
        "verdict": verdict,
        "number": number,
        "statement": "The right <statement>." if verdict else None,
        "error": None if verdict else "no data here",
        "size": "quick",
        "seconds": 1.25,
        "command": f"resonance-jax claims {name}",
        "runs": [{"error": 0.5, "curve": [1.0, 2.0]}] if verdict else [],
        "plot": None,
    } | changes


@pytest.fixture
def records():
    return [
        record("R1", "holds", plot=PLOT),
        record("R2", "holds when"),
        record("R3", "fails"),
        record("R4", None),
    ]


@pytest.fixture
def html(records):
    ledger = {"date": "2026-01-01", "commit": "abc", "device": "cpu", "versions": {"jax": "0.10"}}
    return page.make_page({**ledger, "claims": records}, [Pending("Q1", "it spins", "quaternions")])


def test_every_claim_is_on_the_page_with_its_verdict_number_and_command(html):
    sections = re.findall(r'<section class="claim">.*?</section>', html, re.DOTALL)
    assert len(sections) == 5
    for name, section, chip in zip(
        ("R1", "R2", "R3", "R4"), sections, ("holds", "holds when …", "fails", "unmeasured"), strict=False
    ):  # fmt: skip
        assert f'id="{name}"' in section and f">{chip}</span>" in section
        assert f"resonance-jax claims {name}" in section
        assert f"the claim {name} &amp; more" in section
    assert "error 0.5 &lt;of&gt; 1" in sections[1] and "The right &lt;statement&gt;." in sections[1]
    assert "no data here" in sections[3]
    assert "quaternions" in sections[4] and "it spins" in sections[4]


def test_the_page_is_self_contained_and_fits_phones_and_both_schemes(html):
    assert "src=" in html and not re.search(r'(src|href)="(?!data:|#)', html)
    assert 'name="viewport"' in html and "prefers-color-scheme: dark" in html
    assert "max-width: 40rem" in html


def test_a_plot_is_drawn_where_there_is_one(html, records):
    assert html.count("<img") == 1
    axes = page.draw(PLOT).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert [line.get_label() for line in axes.lines] == ["a", "b", "limit"]
    assert [line.get_linestyle() for line in axes.lines] == ["-", "None", "--"]


def test_verdicts_are_counted(records):
    text = page.summarize_verdicts(records, [Pending("Q1", "", "")])
    assert text == "1 hold, 1 hold when …, 1 fail, 1 unmeasured, 1 pending"
    assert page.summarize_verdicts(records).endswith("1 unmeasured")


def test_table_shows_what_is_measured_what_runs_and_what_is_to_come(records):
    claims = [
        Claim(name, f"text of {name}", "", "", lambda *_: {}, lambda _: None, None, {})  # pyright: ignore[reportArgumentType]
        for name in ("R1", "R4", "R5", "R6")
    ]
    table = page.format_ledger(claims, {r["id"]: r for r in records}, running="R5")
    console = rich.console.Console(width=100, record=True, file=io.StringIO())
    console.print(table)
    lines = [line.strip() for line in console.export_text().splitlines()]
    (first,) = [line for line in lines if line.startswith("R1")]
    assert first.split()[1] == "holds" and "error 0.5 <of> 1" in first and first.endswith("1.2")
    assert any("R4" in line and "unmeasured" in line and "no data here" in line for line in lines)
    assert any("R5" in line and "measuring …" in line for line in lines)
    assert any("R6" in line and "measuring" not in line for line in lines)
