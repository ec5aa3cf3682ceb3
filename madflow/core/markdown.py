"""A review as Markdown: what the plan of a review writes to a file.

What the seats and the diff say is a stranger's text. In the document it is words and nothing else: no HTML, no link, no
image, no heading, no list, no table cell of its own making.

- Prose goes through `inline`: one line, no control or invisible character (direction marks among them), and ASCII
  punctuation that Markdown gives a meaning behind a backslash, which CommonMark reads as the character itself (section
  2.4) and GFM's autolinks (section 6.9) do not see.
- Code (quotes, patches) goes into a fence that is longer than any run of backticks in it (`block`), paths and names
  into a code span of the same kind (`span`). Nothing is interpreted there.

The length is bounded: what does not fit is counted, and is in the proposal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .same import Remark, worth_quoting

__all__ = ["MARKDOWN_CHARS_MAX", "block", "inline", "other_claims", "review_markdown", "span"]

MARKDOWN_CHARS_MAX: Final = 256 * 1024
"""Characters of a whole document."""

_ROWS_MAX: Final = 200
_WEIGHED_MAX: Final = 200  # of the texts that a finding was raised in, so many are compared for what to quote
_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202f"
    "\u205f-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_PUNCTUATION: Final = re.compile(r"([!#$&()*+.:<=>@\[\\\]^_`{|}~-])")
_BACKTICKS: Final = re.compile("`+")


def inline(text: str, chars_max: int = 4_000) -> str:
    """`text` as one line of plain words."""
    return _PUNCTUATION.sub(r"\\\1", _short(_line(text), chars_max))


def span(text: str, chars_max: int = 300) -> str:
    """`text` as a code span that may stand in a table: of a `|` only its look is kept."""
    bare = _short(_line(text), chars_max).replace("|", "\u2502")
    ticks = "`" * (max((len(run) for run in _BACKTICKS.findall(bare)), default=0) + 1)
    pad = " " if bare[:1] == "`" or bare[-1:] == "`" else ""
    return f"{ticks}{pad}{bare}{pad}{ticks}" if bare.strip() else ""


def block(text: str, language: str = "text", chars_max: int = 20_000) -> list[str]:
    """`text` as a fenced block, as lines. `language` is ours."""
    clean = _CONTROL.sub("\ufffd", _short(text.replace("\r\n", "\n"), chars_max)).replace("\t", "    ")
    ticks = "`" * max(3, max((len(run) for run in _BACKTICKS.findall(clean)), default=0) + 1)
    return [f"{ticks}{language}", *clean.rstrip("\n").split("\n"), ticks]


def _line(text: str) -> str:
    return " ".join(_CONTROL.sub("\ufffd", text.replace("\r", " ").replace("\t", " ")).split())


def _short(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}\u2026"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *body] if body else []


def review_markdown(
    content: Mapping[str, Any],
    *,
    title: str,
    proposal_id: str,
    rule: str,
    votes: Sequence[Mapping[str, Any]],
    tests: Sequence[str] = (),
) -> str:
    """The document of a review.

    Args:
        content: a review's `content` (verdict, findings, rejected_findings, coverage).
        title: what was reviewed; votes: `{"agent", "role", "decision", "notes", "weight"}` on publishing it.
        tests: the command that the plan runs.
    """
    findings, rejected = list(content["findings"]), list(content["rejected_findings"])
    parts = [
        _head(content, title, proposal_id, rule),
        _findings_table(findings),
        _votes_table(votes),
        _coverage(content["coverage"]),
        ["## Tests", "", f"The plan runs {span(json.dumps(list(tests)))} last."] if tests else [],
    ]
    lineage = "merge" in content  # the document of a ledger that was written without a rule keeps its bytes
    details = [_finding(row, lineage) for row in findings]
    refused = [_finding(row, lineage) for row in rejected]
    room = MARKDOWN_CHARS_MAX - sum(_size(part) for part in parts)
    told = [*_fitting("Findings in full", details, room // 2), *_fitting("Rejected findings", refused, room // 4)]
    sections = ["\n".join(part).strip("\n") for part in (*parts[:2], told, *parts[2:]) if part]
    return "\n\n".join(sections) + "\n"


def _size(lines: Sequence[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _head(content: Mapping[str, Any], title: str, proposal_id: str, rule: str) -> list[str]:
    verdict = str(content["verdict"]).replace("_", " ")
    counts = ", ".join(
        f"{number} {severity}"
        for severity in ("critical", "major", "minor", "info")
        if (number := sum(row["severity"] == severity for row in content["findings"]))
    )
    return [
        f"# Review: {inline(verdict, 40)}",
        "",
        f"- Task: {span(title)}",
        f"- Proposal: {span(proposal_id)}",
        f"- Findings: {counts or 'none'}",
        f"- Published by the rule {span(rule)}",
        "",
        inline(str(content["question"]), 1_000),
    ]


def _findings_table(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            str(row["id"]),
            str(row["severity"]),
            span(f"{row['file']}:{row['line']}"),
            inline(str(row["text"]), 160),
            ", ".join(span(agent) for agent in row["raised_by"]),
            f"{row['status']} ({row['votes']['accept']} of {row['votes']['eligible']})",
            str(row["patch"]["status"]).replace("_", " ") if row.get("patch") else "",
        )
        for row in findings[:_ROWS_MAX]
    ]
    head = ("id", "severity", "where", "finding", "raised by", "accepted by the others", "patch")
    more = [] if len(findings) <= _ROWS_MAX else ["", f"{len(findings) - _ROWS_MAX} more are in the proposal."]
    return ["## Findings", "", *(_table(head, rows) or ["None."]), *more]


def _fitting(title: str, entries: Sequence[list[str]], room: int) -> list[str]:
    if not entries:
        return []
    lines, told = [f"## {title}", ""], 0
    for entry in entries:
        size = _size(entry) + 1
        if size > room:
            break
        lines += [*entry, ""]
        told, room = told + 1, room - size
    if told < len(entries):
        lines += [f"{len(entries) - told} more are in the proposal.", ""]
    return lines


def other_claims(row: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], int]:
    """Of the claims that a finding was merged from: those to quote beside its own text, and how many more there are.

    At most two are quoted, each of another seat and in other words; see `core.same.worth_quoting`.
    """
    lineage = list(row.get("lineage") or ())
    own = next((at for at, said in enumerate(lineage) if (said["text"], said["line"]) == (row["text"], row["line"])), 0)
    ordered = [*lineage[own : own + 1], *lineage[:own], *lineage[own + 1 :]]
    fresh: dict[str, Mapping[str, Any]] = {}
    for said in ordered:
        fresh.setdefault(str(said["text"]), said)
    weighed = list(fresh.values())[:_WEIGHED_MAX]
    remarks = [Remark(str(said["agent"]), str(said["text"])) for said in weighed]
    quoted = [weighed[place] for place in worth_quoting(remarks, 0)] if len(weighed) > 1 else []
    return quoted, max(0, len(lineage) - 1 - len(quoted))


def _merged(row: Mapping[str, Any]) -> list[str]:
    """What else the finding was raised as, and that a judge of pairs brought claims together."""
    quoted, more = other_claims(row)
    lines = [
        f"- also reported by {span(str(said['agent']))} on line {said['line']}: {inline(str(said['text']), 1_000)}"
        for said in quoted
    ]
    lines += [f"- {more} more {'claim' if more == 1 else 'claims'} in the proposal's lineage"] if more else []
    lines += [f"- claims merged by {span(str(row['merged_by']))}"] if row.get("merged_by") else []
    return lines


def _finding(row: Mapping[str, Any], lineage: bool) -> list[str]:
    code = f" {span(str(row['code']), 100)}" if row["code"] else ""
    where = span(f"{row['file']}:{row['line']}")
    lines = [
        f"### {row['id']}: {row['severity']}, {where}{code}",
        "",
        inline(str(row["text"])),
        "",
    ]
    if row["quote"]:
        lines += [*block(str(row["quote"])), ""]
    votes = row["votes"]
    counted = ", ".join(
        f"{votes[name]} {name}" for name in ("accept", "reject", "abstain", "invalid", "missing") if votes[name]
    )
    lines += [f"- {row['status']}; votes of the other seats: {counted or 'none'}"]
    lines += [f"- raised by {', '.join(span(agent) for agent in row['raised_by'])}"]
    lines += _merged(row) if lineage else []
    found = {True: "the quote is in the file", False: "the quote is not in the file"}.get(row["verified"])
    lines += [f"- {found}"] if found else []
    lines += [f"- note: {inline(str(row['note']), 500)}"] if row["note"] else []
    lines += [
        f"- dissent: {span(str(vote['agent']))} says {vote['decision']}. {inline(str(vote['notes']), 500)}".rstrip()
        for vote in row["dissent"]
    ]
    patch = row.get("patch")
    if patch:
        why = f": {inline(str(patch['note']), 300)}" if patch["note"] else ""
        state = str(patch["status"]).replace("_", " ")
        lines += ["", f"Suggested patch, {state}{why}", "", *block(str(patch["text"]), "diff")]
    return lines


def _votes_table(votes: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            span(str(vote["agent"])),
            inline(str(vote["role"]), 40),
            inline(str(vote["decision"]), 40),
            str(vote["weight"]),
            inline(str(vote["notes"]), 300),
        )
        for vote in votes[:_ROWS_MAX]
    ]
    return ["## Votes on publishing this review", "", *_table(("seat", "role", "vote", "weight", "notes"), rows)]


def _coverage(coverage: Mapping[str, Any]) -> list[str]:
    files = list(coverage["files"])
    rows = []
    for row in files[:_ROWS_MAX]:
        unread = "; ".join(sorted({str(why) for why in row["unread"].values()}))
        why = str(row["left_out"]) or unread or "no seat answered"
        read_by = ", ".join(span(agent) for agent in row["read_by"])
        rows.append((span(str(row["file"])), read_by or f"nobody: {inline(why, 160)}"))
    more = [] if len(files) <= _ROWS_MAX else ["", f"{len(files) - _ROWS_MAX} more are in the proposal."]
    head = f"{coverage['read']} of {len(files)} files were read."
    return ["## Coverage", "", head, "", *_table(("file", "read by"), rows), *more]
