"""Reports: `results.json` as a page, as drawings, as tables for a terminal, as Markdown.

Data travels one way: `reading` (a file or a mapping) → `view` (groups, arms, families) → `plots` and `sheets` (SVG),
`page` and `index` (HTML, Markdown), `text` (the terminal) → `writing` (files). Nothing here measures anything, and
nothing depends on a clock: the same results give the same bytes.
"""

from __future__ import annotations

from .text import text_tables
from .writing import render, render_all, render_index

__all__ = ["render", "render_all", "render_index", "text_tables"]
