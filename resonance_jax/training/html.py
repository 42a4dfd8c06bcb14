"""What every page that the library writes shares: one self-contained file, light and dark, phone to wide screen."""

from collections.abc import Sequence
from html import escape

from matplotlib.figure import Figure

from resonance_jax.training import plots

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #626a73; --line: #d8dce1; --page: #fbfbfa;
  --best: #e8f3ee; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e8; --soft: #9aa2ab; --line: #3a4048;
  --page: #16181b; --best: #1d3a2f; } }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.5rem 4rem; background: var(--page);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; } p, figcaption, caption { max-width: 46rem; }
.note, figcaption, caption, dt { color: var(--soft); font-size: .875rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: 1rem 0; }
dd { margin: 0; font-size: .9rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
caption { caption-side: bottom; text-align: left; padding-top: .6rem; }
th, td { padding: .38rem .8rem; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
tr.best td { background: var(--best); font-weight: 600; }
figure { margin: 0 0 1rem; } .grid { display: flex; flex-wrap: wrap; gap: 1rem; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px;
  padding: .7rem; box-sizing: border-box; border: 1px solid var(--line); }
figcaption { padding: .3rem .1rem; }
summary { cursor: pointer; padding: .25rem 0; } code, pre { font-size: .82rem; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--line); border-radius: 6px; }
"""


def figure(image: Figure, alternative: str, caption: str = "") -> str:
    """Returns a figure as HTML, its picture inside."""
    width = round(float(image.get_figwidth()) * 96)
    picture = f'<img src="{plots.data_uri(image)}" width="{width}" alt="{escape(alternative)}">'
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{picture}{below}</figure>"


def page(title: str, sections: Sequence[str], style: str = "") -> str:
    """Returns a whole page: the title, then the sections, which are HTML already."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}{style}</style>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    body = f"<h1>{escape(title)}</h1>" + "\n".join(sections)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}{view}</head>\n<body>{body}</body></html>\n'
    )
