"""The page of one suite: what was measured, on what, with which code, and what came of each target.

All that stands before anything else; then come the drawings, then every number in tables. Without its script the page
is complete; the script sorts tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..evals.results import Comparison, Measured, Results
from .cells import (
    TARGET_HEADS,
    bdi,
    cell,
    document,
    interval_cell,
    many,
    number_cell,
    section,
    table,
    target_cells,
    text_cell,
)
from .markup import Child, Element, element
from .plots import key
from .sheets import SHEETS, panels
from .view import RECORDED, Table, View, cell_key, met_of, span
from .words import NOTE_CHARS_MAX, clean, measured, one_line, said, said_interval, shorten

__all__ = ["page"]

_DIGEST_CHARS: Final = 12
_FILES_SHOWN: Final = 3
_NAMES_SHOWN: Final = 8
_ABOUT: Final = {
    "accuracy-tokens.svg": (
        "One panel a group, one point an arm: higher is better, further left is cheaper. Lines are 95 % intervals. ",
        "Filled points are on the Pareto front (dotted): no other arm has as high a value for fewer tokens. ",
        "Each panel has its own scales.",
    ),
    "rounds.svg": (
        "What the recordings hold, round by round; bands are 95 % intervals. Each panel has its own scales.",
    ),
    "flips.svg": (
        "Of honest votes that were right in a round, those that were wrong in the next; ",
        "of those that were wrong, those that were right in the next. Lines are 95 % intervals.",
    ),
}


def page(results: Results) -> str:
    """The whole HTML document."""
    view = View(results)
    sections = [
        *_targets(view),
        *_drawings(view),
        *_comparisons(view),
        *_tables(view),
        *_rounds(view),
        _sources(view),
        *_notes(view),
    ]
    links = [element("a", "".join(one[0].itertext()), href=f"#{one.get('id', '')}") for one in sections]
    made = f"Written by madflow {one_line(results.madflow)}, {one_line(results.created_at)}. "
    how = "A value is cut at its last digit against the arm, an interval is widened; – was not measured."
    return document(
        one_line(results.title or results.suite),
        element("header", _head(view), element("nav", links, aria_label="On this page")),
        element("main", sections),
        element("footer", element("p", made, how)),
    )


def _head(view: View) -> list[Element]:
    results = view.results
    arms = [arm for arm in view.arms if arm != RECORDED]
    rows = sum(one.rows for one in results.data)
    what = f"{many(len(arms), 'arm')} on {many(len(view.groups), 'group')} of rows: {_measure_names(view)}"
    commit: Child = ["; commit ", element("code", one_line(results.code.commit, 40))] if results.code.commit else None
    seeds = ", ".join(f"{one_line(name)} {seed}" for name, seed in results.seeds.items()) or "none"
    facts: list[tuple[str, Child]] = [
        ("Measured", what),
        ("On", [f"{many(rows, 'row')} of {many(len(results.data), 'file')}", _files(view)]),
        ("With", ["madflow ", bdi(results.madflow), "; code ", _digest(results.code.digest), commit]),
        ("Command", element("pre", element("code", shorten(clean(results.command), NOTE_CHARS_MAX)))),
        ("Run", [bdi(results.created_at), f", {said(results.elapsed_s, better=-1, decimals=1)} s; seeds: {seeds}"]),
    ]
    found = [
        element("h1", bdi(results.title or results.suite, 200)),
        element("p", "Suite ", element("code", one_line(results.suite)), class_="quiet"),
        element("dl", [(element("dt", name), element("dd", value)) for name, value in facts], class_="facts"),
    ]
    if results.failed:
        count = f"{many(len(results.failed), 'piece')} of work failed"
        told = element("a", "What failed", href="#failed")
        found.append(
            element("p", element("strong", count), "; its debates count as unanswered. ", told, class_="alarm")
        )
    return found


def _measure_names(view: View) -> str:
    names = list(dict.fromkeys(measured(one.measure).label for one in view.results.measures))
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN] + ([f"and {more} more"] if more > 0 else [])) or "nothing"


def _files(view: View) -> Child:
    shown = view.results.data[:_FILES_SHOWN]
    more = len(view.results.data) - len(shown)
    files = [[", " if n else ": ", bdi(one.file, 40), " ", _digest(one.sha256)] for n, one in enumerate(shown)]
    return [*files, [f" and {more} more, ", element("a", "all listed below", href="#sources")] if more > 0 else None]


def _digest(digest: str) -> Element:
    return element("code", one_line(digest, 200)[:_DIGEST_CHARS], title=one_line(digest, 200))


def _targets(view: View) -> list[Element]:
    targets = view.results.targets
    if not targets:
        return []
    rows = [element("tr", cells) for cells in target_cells(targets)]
    return [section("targets", "Targets", table(met_of(targets), TARGET_HEADS, rows))]


def _drawings(view: View) -> list[Element]:
    found = []
    for sheet, title in SHEETS.items():
        drawn = panels(view, sheet)
        if not drawn:
            continue
        many_left = view.left_undrawn
        left = f"{many(many_left, 'more group')} stand in the tables only. " if many_left else ""
        figures = [element("figure", one) for one in drawn]
        alone = element("a", f"{sheet} as a file", href=sheet)
        name = sheet.removesuffix(".svg")
        about = element("p", _ABOUT[sheet], " ", left, class_="quiet")
        drawings = element("div", figures, class_="panels")
        found.append(section(name, title, about, _legend(view, sheet), drawings, element("p", alone)))
    return found


def _legend(view: View, sheet: str) -> Element | None:
    if sheet == "rounds.svg":
        return None
    if sheet == "flips.svg":
        entries = [
            element("li", key(mark, bar=True), text) for mark, text in ((1, "right → wrong"), (0, "wrong → right"))
        ]
    else:
        entries = [
            element("li", key(view.mark(arm)), element("span", element("strong", bdi(arm)), _titled(arm, title)))
            for arm, title in view.plotted().items()
        ]
    return element("ul", entries, class_="legend")


def _titled(arm: str, title: str) -> Child:
    return None if title in ("", arm) else [" ", element("bdi", title)]


def _comparisons(view: View) -> list[Element]:
    if not view.results.comparisons:
        return []
    tables: list[Element] = []
    for group, label in view.groups.items():
        here = [one for one in view.results.comparisons if cell_key(one.group) == group]
        if here:
            heads = ("arm", "against", "measure", "difference", "95 % interval", "result")
            caption: Child = [
                element("bdi", label),
                element("small", ": arm − other, the same questions drawn for both"),
            ]
            tables.append(_folded(label, table(caption, heads, _compared(here)), opened=not tables))
    return [section("comparisons", "Comparisons", tables)]


def _compared(here: Sequence[Comparison]) -> list[Element]:
    rows: list[Element] = []
    order = list(dict.fromkeys(one.measure for one in here))
    scales = {measure: span([one for one in here if one.measure == measure], zero=True) for measure in order}
    for one in sorted(here, key=lambda one: order.index(one.measure)):
        about = measured(one.measure)
        told, mark = _told(one, about.better)
        kind = {2: "verdict good", 7: "verdict bad"}.get(mark, "quiet")
        rows.append(
            element(
                "tr",
                element("th", element("code", one_line(one.arm)), scope="row", class_="name"),
                cell(element("code", one_line(one.against))),
                cell(about.label),
                number_cell(one.value, better=about.better, signed=True),
                interval_cell(one, scales[one.measure], 0.0, mark, signed=True),
                cell(element("span", told, class_=kind)),
            )
        )
    return rows


def _told(one: Comparison, better: int) -> tuple[str, int]:
    """What a comparison shows, and the number of the colour for it."""
    if one.value is None or one.low is None or one.high is None:
        return ("not measured" if one.value is None else "no interval"), 6
    if one.low <= 0 <= one.high:
        return "no difference shown", 6
    more = one.low > 0
    if better == 0:
        return ("more" if more else "less"), 5
    return ("better", 2) if more == (better > 0) else ("worse", 7)


def _tables(view: View) -> list[Element]:
    recorded = dict(view.recorded)
    found: list[Element] = []
    for label in dict.fromkeys([*(one.group for one in view.tables), *recorded]):
        tables = [_measures(view, one) for one in view.tables if one.group == label]
        if label in recorded:
            tables.append(_recorded(view, label, recorded[label]))
        found.append(_folded(label, tables, opened=not found))
    return [section("measures", "Every measure", found)] if found else []


def _measures(view: View, one: Table) -> Element:
    rows = []
    for arm, row in one.rows:
        cells = [element("th", element("code", one_line(arm)), scope="row", class_="name")]
        for name in one.measures:
            found, decimals = row.get(name), view.decimals(name)
            made = number_cell(found.value if found else None, better=measured(name).better, decimals=decimals)
            if found and (below := said_interval(found.low, found.high, decimals=decimals)):
                made.append(element("small", below))
            if found and one.size(name) is None:
                made.extend(element("small", text) for text in _size(found.n, found.questions))
            cells.append(made)
        rows.append(element("tr", cells))
    heads = ["arm", *(measured(name).label for name in one.measures)]
    sizes = [one.size(name) for name in one.measures]
    under: list[tuple[str, ...]] = [(), *(_size(*size) if size else () for size in sizes)]
    caption: Child = [element("bdi", one.group), f": {one.family.lower()}"]
    return table(caption, heads, rows, numbers=heads[1:], below=under)


def _size(n: int, questions: int) -> tuple[str, str]:
    return f"n = {n:,}", many(questions, "question")


def _recorded(view: View, label: str, measures: Sequence[Measured]) -> Element:
    rows = [
        element(
            "tr",
            element("th", measured(one.measure).label, scope="row", class_="name"),
            number_cell(one.value, better=measured(one.measure).better, decimals=view.decimals(one.measure)),
            cell(said_interval(one.low, one.high, decimals=view.decimals(one.measure)) or "none", kind="number"),
            cell(f"{one.n:,}", kind="number"),
            cell(f"{one.questions:,}", kind="number"),
        )
        for one in measures
    ]
    heads = ("measure", "measured", "95 % interval", "n", "questions")
    return table([element("bdi", label), ": what the recordings hold"], heads, rows, numbers=heads[1:])


def _rounds(view: View) -> list[Element]:
    if not view.results.rounds:
        return []
    tables = []
    for group, label in view.groups.items():
        here = [one for one in view.results.rounds if cell_key(one.group) == group]
        rows = [
            element(
                "tr",
                element("th", measured(one.measure).label, scope="row"),
                cell(f"{one.round:,}", kind="number"),
                number_cell(one.value, better=measured(one.measure).better),
                cell(said_interval(one.low, one.high) or "none", kind="number"),
            )
            for one in here
        ]
        if rows:
            heads = ("measure", "round", "measured", "95 % interval")
            made = table(element("bdi", label), heads, rows, numbers=heads[1:])
            tables.append(_folded(label, made, opened=False))
    return [section("by-round", "Every round", tables)]


def _folded(label: str, *children: Child, opened: bool) -> Element:
    """A group's tables, which open at a click; a printed page has them all."""
    summary = element("summary", element("bdi", label))
    return element("details", summary, children, open="" if opened else None)


def _sources(view: View) -> Element:
    results = view.results
    files = [
        element(
            "tr",
            element("th", bdi(one.file), scope="row", class_="name"),
            number_cell(float(one.rows), decimals=0),
            cell(element("code", one_line(one.sha256, 200))),
        )
        for one in results.data
    ]
    arms = [
        element(
            "tr",
            element("th", element("code", one_line(one.arm)), scope="row", class_="name"),
            text_cell(one.title, 200),
            cell(element("code", _json(one.policy)) if one.policy is not None else "", kind="text"),
        )
        for one in results.arms
    ]
    config = [
        element("tr", element("th", element("code", one_line(name)), scope="row"), cell(element("code", _json(value))))
        for name, value in results.config.items()
    ]
    code = element("p", "Code digest ", element("code", one_line(results.code.digest, 200)))
    parts = [
        table("Data", ("file", "rows", "sha256"), files) if files else element("p", "No data files."),
        table("Arms", ("arm", "what it is", "settings"), arms) if arms else None,
        table("Configuration", ("name", "value"), config) if config else None,
        code,
    ]
    return section("sources", "Data, arms and configuration", parts)


def _json(value: Mapping[str, Any] | Any) -> str:
    return one_line(json.dumps(value, ensure_ascii=False), 1_000)


def _notes(view: View) -> list[Element]:
    found = []
    if view.results.failed:
        rows = [
            element("tr", element("th", bdi(one.key, 200), scope="row", class_="name"), text_cell(one.error))
            for one in view.results.failed
        ]
        found.append(section("failed", "What failed", table("Failed pieces of work", ("piece", "why"), rows)))
    if view.results.notes:
        notes = [element("li", bdi(note, NOTE_CHARS_MAX)) for note in view.results.notes]
        found.append(section("notes", "Notes", element("ul", notes, class_="notes")))
    return found
