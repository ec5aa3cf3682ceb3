"""What stands above all suites: a page that links them, with every target in one table, and the same as Markdown.

The Markdown is published with results. Text of other origin never begins a line in it, and what could begin anything
within one (emphasis, code, a link, a cell, HTML, a mention) is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import Final
from urllib.parse import quote

from ..evals.results import Measured, Results, TargetMeasured
from .cells import TARGET_HEADS, bdi, cell, document, many, table, target_cells
from .markup import Element, element
from .view import View, beside, group_label, met_of, on_debates, verdict
from .words import (
    DASH,
    NOTE_CHARS_MAX,
    clean,
    is_difference,
    measured,
    one_line,
    said,
    said_interval,
    shorten,
    threshold,
    wanted,
)

__all__ = ["PAGE", "index_page", "summary"]

PAGE: Final = "report.html"
_SPECIAL: Final = re.compile(r"([\\`*_\[\]<>|~&@$]|:(?=//)|(?<=www)\.)", re.I)
_DIGEST_CHARS: Final = 12


def index_page(suites: Sequence[tuple[str, Results]]) -> str:
    """The HTML page. `suites`: folder name and results of each."""
    rows = [element("tr", _suite_cells(folder, results)) for folder, results in suites]
    heads = ("suite", "what it asks", "rows", "targets met", "failed", "run", "code")
    body = [element("h2", "Suites"), table(many(len(suites), "suite"), heads, rows)]
    targets = [
        element("tr", [cell(_link(folder, results)), *cells])
        for folder, results in suites
        for cells in target_cells(results.targets)
    ]
    if targets:
        body += [element("h2", "Targets"), table(met_of(_every(suites)), ("suite", *TARGET_HEADS), targets)]
    about = "Each suite's page has its plots, all measures with 95 % intervals, and what it takes to run it again."
    return document(
        "Evaluations",
        element("header", element("h1", "Evaluations"), element("p", about, class_="quiet")),
        element("main", body),
        element("footer", element("p", "A value is cut at its last digit against the arm; – was not measured.")),
    )


def _every(suites: Sequence[tuple[str, Results]]) -> list[TargetMeasured]:
    return [one for _, results in suites for one in results.targets]


def _link(folder: str, results: Results) -> Element:
    return element("a", bdi(results.suite), href=f"./{quote(folder)}/{PAGE}")


def _suite_cells(folder: str, results: Results) -> list[Element]:
    rows = sum(one.rows for one in results.data)
    judged = [one for one in results.targets if one.met is not None]
    met = f"{sum(verdict(one) == 'met' for one in judged)} of {len(judged)}" if judged else "none judged"
    met = met if results.targets else "none set"
    return [
        element("th", _link(folder, results), scope="row"),
        cell(bdi(results.title, 200), kind="text"),
        cell(f"{rows:,}", kind="number"),
        cell(met),
        cell(element("span", f"{len(results.failed):,}", class_="verdict bad" if results.failed else None)),
        cell(bdi(results.created_at)),
        cell(element("code", one_line(results.code.digest, 200)[:_DIGEST_CHARS])),
    ]


def summary(suites: Sequence[tuple[str, Results]]) -> str:
    """The Markdown document: all targets, then for each suite its command, its data, and its main measures."""
    every = _every(suites)
    lines = ["# Results", ""]
    if every:
        lines += [f"{met_of(every)}.", ""]
        lines += _grid(
            ("suite", "target", "on", "arm", "wanted", "known before", "measured", "result"),
            [(_text(results.suite), *_target(one)) for _, results in suites for one in results.targets],
        )
    for _, results in suites:
        lines += ["", *_suite(results)]
    return "\n".join([*lines, "", "A value is cut at its last digit against the arm, an interval is widened.", ""])


def _suite(results: Results) -> list[str]:
    view = View(results)
    command = shorten(clean(results.command), NOTE_CHARS_MAX)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    lines = [
        f"## {_text(results.suite)}: {_text(results.title, 200)}",
        "",
        f"{fence}sh",
        *command.split("\n"),
        fence,
        "",
    ]
    commit = f", commit {_text(results.code.commit, 40)}" if results.code.commit else ""
    seeds = ", ".join(f"{_text(name)} {seed}" for name, seed in results.seeds.items()) or "none"
    took = said(results.elapsed_s, better=-1, decimals=1)
    ran = f"{_text(results.created_at)}, {took} s, madflow {_text(results.madflow)}"
    lines += [f"Run {ran}, code {_text(results.code.digest, 200)}{commit}; seeds: {seeds}.", ""]
    files = [(_text(one.file), f"{one.rows:,}", _text(one.sha256)) for one in results.data]
    lines += _grid(("file", "rows", "sha256"), files) if files else []
    for one in view.matrices:
        about, decimals = measured(one.measure), view.decimals(one.measure)
        rows = [(_text(arm), *(_cell(cell, about.better, decimals) for cell in row)) for arm, row in one.rows]
        lines += ["", f"**{_text(about.label)}**", "", *_grid(("arm", *map(_text, one.groups)), rows)]
    told = [f"- Failed: {_text(one.key, 200)}: {_text(one.error, NOTE_CHARS_MAX)}" for one in results.failed]
    told += [f"- {_text(note, NOTE_CHARS_MAX)}" for note in results.notes]
    return [*lines, *([""] if told else []), *told]


def _cell(found: Measured | None, better: int, decimals: int) -> str:
    if found is None:
        return DASH
    span = said_interval(found.low, found.high, decimals=decimals)
    return f"{said(found.value, better=better, decimals=decimals)} {span}".strip()


def _target(one: TargetMeasured) -> tuple[str, ...]:
    limit = threshold(one.target)
    better, signed = limit[0] if limit else measured(one.measure).better, is_difference(one.measure)
    came, why, on = verdict(one), _text(beside(one), 300), on_debates(one)
    span = said_interval(one.low, one.high, signed=signed)
    value = f"{said(one.value, better=better, signed=signed)} {span}".strip()
    result = f"{came}; {why}" if why else came
    note = f". {_text(one.note, NOTE_CHARS_MAX)}" if one.note else ""
    return (
        _text(one.name, 160),
        _text(f"{group_label(one.group)}, {on}" if on else group_label(one.group), 160),
        _text(one.arm),
        _text(wanted(one.measure, one.target), 160),
        _text(one.known, 300),
        value,
        result + note,
    )


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |" for line in chain(lines)]


def _text(text: str, limit: int = 80) -> str:
    """Text of other origin, which begins nothing in Markdown."""
    return _SPECIAL.sub(r"\\\1", one_line(text, limit))
