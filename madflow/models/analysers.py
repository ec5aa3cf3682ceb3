"""Reviewers that are code: three areas of static analysis behind the model client's seam.

An analyser answers the stages `find` and `assess` of a review, from `request.view` alone, and quotes no tokens. It
reads Python files whose whole new text is known, by ruff's rules for its area, and reports only what stands on changed
lines (a syntax error wherever it stands: nothing else of that file is read). Beside that it runs the checks of the
diff itself on every file; those do not count as reading. If it read no file it abstains, so that a change in a
language that no analyser reads is never approved, whatever else was found.

With a finding it suggests a patch where ruff has a safe edit, or where a debugging aid's line can go (fixes.py).

Its vote on a finding is what code can check: a rule's or a diff check's finding is looked up in its own results; of a
claim in words only the evidence is checked, which is said in the vote's notes. A patch it accepts only if it is the one
that it would suggest itself; on any other it abstains. It votes on its own findings too:
who raised what is hidden from it, and the review's rules do not count such votes.
"""

from __future__ import annotations

import asyncio
import json
import time
import tomllib
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from ..core.findings import NEUTRAL, SEVERITIES, can_judge, check_claims, why_unread
from ..core.messages import Claim, Severity, Task
from ..errors import ConfigError, PermanentModelError
from ..ports import ModelReply, ModelRequest, Quote, TurnView, Usage
from .lint import Diagnostic, RuffLinter
from .neutral import NeutralChecks, Noted

__all__ = ["AREAS", "AnalyserModel", "Area", "analyser_rules", "analysers_crew"]

Area = Literal["correctness", "security", "maintainability"]
AREAS: tuple[Area, ...] = get_args(Area)

FINDINGS_MAX = 100
FIXES_CHARS_MAX = 48 * 1024
"""Characters of all patches in one reply."""

_QUOTE_MAX = 400
_SPAN_MAX = 20
_NAMED_MAX = 20
_NOTE_MAX = 4_000
_VOTES_MAX = 1_000  # as many as a reply may hold; a finding beyond them has no vote of this seat
_SYNTAX = "invalid-syntax"
_SYNTAX_MAX = 2


@cache
def analyser_rules() -> Mapping[str, Any]:
    """The shipped rules (analysers.toml), parsed."""
    return tomllib.loads(resources.files(__package__).joinpath("analysers.toml").read_text(encoding="utf-8"))


def _new_linter(rules: Mapping[str, Any] | None = None) -> RuffLinter:
    """A linter for all areas of `rules`, to be shared by the analysers of one crew."""
    areas = (rules or analyser_rules())["areas"]
    select = [rule for area in AREAS for rule in areas[area]["select"]]
    ignore = [rule for area in AREAS for rule in areas[area]["ignore"]]
    return RuffLinter(tuple(select), tuple(ignore))


def analysers_crew() -> dict[Area, AnalyserModel]:
    """One analyser per area; they share a linter, so that ruff runs once per set of files."""
    linter = _new_linter()
    return {area: AnalyserModel(area, linter=linter) for area in AREAS}


class AnalyserModel:
    """A reviewer that is code.

    Args:
        area: which rules it stands for.
        linter: shared by a crew; its own where absent.
        rules: parsed rules in the form of analysers.toml.

    Attributes:
        languages: what it reads (core.findings.why_unread).
        name: as a crew file names it, e.g. "analyser:security".
    """

    languages: frozenset[str] = frozenset({"python"})

    def __init__(self, area: Area, *, linter: RuffLinter | None = None, rules: Mapping[str, Any] | None = None) -> None:
        if area not in AREAS:
            raise ConfigError(f"no analyser for the area {area!r}; there are {', '.join(AREAS)}")
        self.area = area
        self.name = f"analyser:{area}"
        self._rules = rules or analyser_rules()
        self.linter = linter or _new_linter(self._rules)
        self._neutral = NeutralChecks(self._rules)

    def __repr__(self) -> str:
        return f"AnalyserModel({self.area!r})"

    def quote(self, request: ModelRequest) -> Quote:
        """Code costs no tokens."""
        return Quote(prompt_tokens=0, output_tokens=0, usd_nanos=0, exact=True)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The reply's JSON: a FindReply or an AssessReply (core/replies.py).

        Raises:
            PermanentModelError: no view, another stage, or ruff is missing or fails.
        """
        view = request.view
        if view is None or view.stage not in ("find", "assess"):
            stage = "no view" if view is None else f"the stage {view.stage!r}"
            raise PermanentModelError(
                "bad_stage", f"an analyser takes part in reviews only (find, assess), not in {stage}; configure a model"
            )
        started = time.monotonic()
        text = await asyncio.to_thread(self._answer, view)
        return ModelReply(
            text=text,
            usage=Usage(prompt_tokens=0, output_tokens=0, cached_tokens=0, usd_nanos=0),
            latency_ms=int((time.monotonic() - started) * 1000),
            model=self.name,
        )

    def _answer(self, view: TurnView) -> str:
        """The reply to a view. Blocks: ruff runs, and large texts are searched."""
        change = _Change(view.task, self.languages, self._neutral)
        diagnostics = self.linter.lint({path: change.files[path].text or "" for path in change.read})
        reply = (
            self._find(view, change, diagnostics) if view.stage == "find" else self._assess(view, change, diagnostics)
        )
        return json.dumps(reply, ensure_ascii=False)

    def _find(self, view: TurnView, change: _Change, diagnostics: Iterable[Diagnostic]) -> dict[str, Any]:
        """Of a review in parts, each part's reply lists the next hundred of the whole change's findings."""
        found = [finding for item in _few_syntax_errors(diagnostics) if (finding := self._reported(item, change))]
        for path in sorted(change.files):
            for noted in change.noted(path):
                # In a file that ruff parsed its own rules for debuggers hold: they know code from text in quotes.
                better = noted.code == f"{NEUTRAL}debug-leftover" and not change.unread.get(path)
                if noted.area == self.area and not better:
                    found.append(_as_finding(noted))
        found.sort(key=lambda item: (-SEVERITIES.index(item["severity"]), item["file"], item["line"], item["code"]))
        unlisted = len(found) - FINDINGS_MAX * view.parts
        notes = [f"{unlisted} more findings, the least severe ones, are not listed"] if unlisted > 0 else []
        notes += [f"not read: {path}: {why}" for path, why in sorted(change.unread.items())[:_NAMED_MAX]]
        if len(change.unread) > _NAMED_MAX:
            notes.append(f"and {len(change.unread) - _NAMED_MAX} more files not read")
        listed = found[FINDINGS_MAX * view.part : FINDINGS_MAX * (view.part + 1)]
        if unpatched := _without_room(listed):
            notes.append(f"{unpatched} patches are not suggested: they take more than {FIXES_CHARS_MAX:,} characters")
        return {"findings": listed, "abstain": not change.read, "notes": "\n".join(notes)}

    def _reported(self, item: Diagnostic, change: _Change) -> dict[str, Any] | None:
        """The finding of a diagnostic; None where it is another area's, quiet here, or not on a changed line."""
        area = _area_of(item.code, self._rules)
        if area != self.area or _quiet(item.code, item.path, self._rules):
            return None
        line = _changed_line(item, change.changed(item.path))
        if line is None:
            return None
        severity = _severity_of(item.code, self._rules)
        text = item.message
        if item.suppressed:
            if area != "security":
                return None
            severity, text = "info", f"{text}; a comment suppresses it"
        lines = change.lines(item.path)
        quote = lines[line - 1].strip()[:_QUOTE_MAX] if line <= len(lines) else ""
        return {
            "file": item.path,
            "line": line,
            "severity": severity,
            "text": text[:4000],
            "quote": quote,
            "code": item.code,
            **({"patch": item.fix} if item.fix else {}),
        }

    def _assess(self, view: TurnView, change: _Change, diagnostics: Iterable[Diagnostic]) -> dict[str, Any]:
        told: dict[tuple[str, str, int], set[str]] = {}
        for item in diagnostics:
            for line in range(item.first, min(item.last, item.first + _SPAN_MAX) + 1):
                told.setdefault((item.path, item.code, line), set()).add(item.fix)
        findings = list(view.subject.get("findings", ()))[:_VOTES_MAX]
        decided = [self._coded_vote(finding, change, told) for finding in findings]
        open_ = [finding for finding, vote in zip(findings, decided, strict=True) if vote is None]
        worded = iter(self._worded_votes(open_, view.task, change))
        votes = []
        for finding, vote in zip(findings, decided, strict=True):
            decision, notes = vote or next(worded)
            said = {"finding": finding["id"], "decision": decision, "notes": notes[:_NOTE_MAX]}
            fixes = told.get((str(finding["file"]), str(finding.get("code") or ""), int(finding["line"])), set())
            own = finding.get("patch") and finding["patch"] in fixes
            votes.append({**said, "patch": "accept" if own else "abstain"})
        notes = "" if change.read else "no file of the change could be read"
        return {"decision": "approve" if change.read else "abstain", "votes": votes, "notes": notes}

    def _coded_vote(
        self, finding: Mapping[str, Any], change: _Change, told: Container[tuple[str, str, int]]
    ) -> tuple[str, str] | None:
        """The vote on a finding that a rule or a check can answer; None for a claim in words."""
        code, path, line = str(finding.get("code") or ""), str(finding["file"]), int(finding["line"])
        file = change.files.get(path)
        if file is None:
            return "reject", "the diff has no such file"
        if not can_judge(code, file, self.languages):
            return "abstain", change.unread[path]
        if code.startswith(NEUTRAL):
            said = any(noted.code == code and noted.line == line for noted in change.noted(path))
            return ("accept", "the check says so") if said else ("reject", "the check does not say so")
        if _area_of(code, self._rules) is not None:
            said = (path, code, line) in told
            return ("accept", "the rule says so") if said else ("reject", f"ruff does not report {code} on this line")
        return None

    def _worded_votes(
        self, findings: Iterable[Mapping[str, Any]], task: Task, change: _Change
    ) -> Iterator[tuple[str, str]]:
        claims = [
            Claim(
                text=str(finding["text"])[:4000],
                file=str(finding["file"]),
                line=int(finding["line"]),
                quote=str(finding.get("quote") or "")[:2000],
            )
            for finding in findings
        ]
        for raised in check_claims(task, self.area, claims):
            if raised.verified is False:
                yield "reject", raised.note
            elif raised.verified is None:
                yield "abstain", f"{raised.note}: there is nothing that code can check"
            elif raised.line not in change.changed(raised.file):
                yield "abstain", "the quoted line is not changed"
            else:
                yield "accept", "the quoted line is there and changed; whether the claim follows, code cannot tell"


class _Change:
    """A change as one analyser sees it; what is worked out is kept for the rest of one reply."""

    def __init__(self, task: Task, languages: frozenset[str], neutral: NeutralChecks) -> None:
        self.files = {file.path: file for file in task.files}
        self.unread = {path: why for path, file in self.files.items() if (why := why_unread(file, languages))}
        self.read = sorted(set(self.files) - set(self.unread))
        self._neutral = neutral
        self._noted: dict[str, list[Noted]] = {}
        self._changed: dict[str, frozenset[int]] = {}
        self._lines: dict[str, list[str]] = {}

    def noted(self, path: str) -> list[Noted]:
        """What the checks of the diff itself say of a file."""
        if path not in self._noted:
            self._noted[path] = self._neutral.run(self.files[path])
        return self._noted[path]

    def changed(self, path: str) -> frozenset[int]:
        """The changed lines of a file."""
        if path not in self._changed:
            self._changed[path] = frozenset(self.files[path].added)
        return self._changed[path]

    def lines(self, path: str) -> list[str]:
        """The new lines of a file that is read."""
        if path not in self._lines:
            self._lines[path] = (self.files[path].text or "").split("\n")
        return self._lines[path]


def _few_syntax_errors(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    # The parser's first errors tell what is wrong; those behind them are mostly their echo.
    kept: list[Diagnostic] = []
    seen: dict[str, int] = {}
    for item in diagnostics:
        if item.code == _SYNTAX:
            seen[item.path] = seen.get(item.path, 0) + 1
            if seen[item.path] > _SYNTAX_MAX:
                continue
        kept.append(item)
    return kept


def _without_room(listed: Iterable[dict[str, Any]]) -> int:
    """Take out the patches that find no room in a reply, the last ones first; how many."""
    room, taken_out = FIXES_CHARS_MAX, 0
    for finding in listed:
        size = len(finding.get("patch", ""))
        if size > room:
            del finding["patch"]
            taken_out += 1
        else:
            room -= size
    return taken_out


def _as_finding(noted: Noted) -> dict[str, Any]:
    return {
        "file": noted.path,
        "line": noted.line,
        "severity": noted.severity,
        "text": noted.text,
        "quote": noted.quote,
        "code": noted.code,
    }


def _area_of(code: str, rules: Mapping[str, Any]) -> Area | None:
    """Which area a rule belongs to; None for a code that none of them has."""
    if code == _SYNTAX:
        return "correctness"
    for area in AREAS:
        if any(code.startswith(prefix) for prefix in rules["areas"][area]["select"]):
            return area
    return None


def _severity_of(code: str, rules: Mapping[str, Any]) -> Severity:
    """A rule's severity: that of its longest prefix in the table, else its area's default."""
    known = [prefix for prefix in rules["severity"] if code.startswith(prefix)]
    if known:
        severity: Severity = rules["severity"][max(known, key=len)]
        return severity
    area = _area_of(code, rules)
    default: Severity = rules["areas"][area]["default"] if area else "info"
    return default


def _quiet(code: str, path: str, rules: Mapping[str, Any]) -> bool:
    parts = PurePosixPath(path).parts
    return any(
        code in quiet["rules"]
        and (set(parts) & set(quiet["parts"]) or (quiet["prefix"] and parts[-1].startswith(quiet["prefix"])))
        for quiet in rules["quiet"]
    )


def _changed_line(item: Diagnostic, changed: frozenset[int]) -> int | None:
    if item.code == _SYNTAX:
        return item.first
    if item.first in changed:
        return item.first
    if item.last - item.first > _SPAN_MAX:
        return None
    return next((line for line in range(item.first, item.last + 1) if line in changed), None)
