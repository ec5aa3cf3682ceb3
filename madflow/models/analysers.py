"""Reviewers that are code: three areas of static analysis behind the model client's seam.

An analyser answers the stages `find` and `assess` of a review, from `request.view` alone, and quotes no tokens. It
reads Python files whose whole new text is known, by ruff's rules for its area, and reports only what stands on changed
lines (a syntax error wherever it stands: nothing else of that file is read). Beside that it runs the checks of the
diff itself on every file; those do not count as reading. If it read no file it abstains, so that a change in a
language that no analyser reads is never approved, whatever else was found.

Its vote on a finding is what code can check: a rule's or a diff check's finding is looked up in its own results; of a
claim in words only the evidence is checked, which is said in the vote's notes. It votes on its own findings too:
who raised what is hidden from it, and the review's rules do not count such votes.
"""

from __future__ import annotations

import asyncio
import json
import time
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from ..core.findings import NEUTRAL, SEVERITIES, can_judge, check_claims, why_unread
from ..core.messages import Claim, Severity, Task, TaskFile
from ..errors import ConfigError, PermanentModelError
from ..ports import ModelReply, ModelRequest, Quote, TurnView, Usage
from .lint import Diagnostic, RuffLinter
from .neutral import NeutralChecks, Noted

__all__ = ["AREAS", "AnalyserModel", "Area", "analyser_rules", "analysers_crew"]

Area = Literal["correctness", "security", "maintainability"]
AREAS: tuple[Area, ...] = get_args(Area)

FINDINGS_MAX = 100
_QUOTE_MAX = 400
_SPAN_MAX = 20
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
        family: one per tool, for diversity rules: three areas of one tool are no three families.
    """

    languages: frozenset[str] = frozenset({"python"})
    family = "analysers"

    def __init__(self, area: Area, *, linter: RuffLinter | None = None, rules: Mapping[str, Any] | None = None) -> None:
        if area not in AREAS:
            raise ConfigError(f"no analyser for the area {area!r}; there are {', '.join(AREAS)}")
        self.area = area
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
        diagnostics = await asyncio.to_thread(self.linter.lint, self._texts(view.task))
        reply = self._find(view, diagnostics) if view.stage == "find" else self._assess(view, diagnostics)
        return ModelReply(
            text=json.dumps(reply, ensure_ascii=False),
            usage=Usage(prompt_tokens=0, output_tokens=0, cached_tokens=0, usd_nanos=0),
            latency_ms=int((time.monotonic() - started) * 1000),
            model=f"analysers/{self.area}",
        )

    def _texts(self, task: Task) -> dict[str, str]:
        return {file.path: file.text or "" for file in task.files if not why_unread(file, self.languages)}

    def _find(self, view: TurnView, diagnostics: Iterable[Diagnostic]) -> dict[str, Any]:
        """Of a review in parts, each part's reply lists the next hundred of the whole change's findings."""
        files = {file.path: file for file in view.task.files}
        unread = {path: why for path, file in files.items() if (why := why_unread(file, self.languages))}
        found = [
            finding for item in _few_syntax_errors(diagnostics) if (finding := self._reported(item, files[item.path]))
        ]
        linted = {(finding["file"], finding["line"]) for finding in found}
        for path in sorted(files):
            for noted in self._neutral.run(files[path]):
                twice = noted.code == f"{NEUTRAL}debug-leftover" and (path, noted.line) in linted
                if noted.area == self.area and not twice:
                    found.append(_as_finding(noted))
        found.sort(key=lambda item: (-SEVERITIES.index(item["severity"]), item["file"], item["line"], item["code"]))
        unlisted = len(found) - FINDINGS_MAX * view.parts
        notes = [f"{unlisted} more findings, the least severe ones, are not listed"] if unlisted > 0 else []
        notes += [f"not read: {path}: {why}" for path, why in sorted(unread.items())[:20]]
        if len(unread) > 20:
            notes.append(f"and {len(unread) - 20} more files not read")
        listed = found[FINDINGS_MAX * view.part : FINDINGS_MAX * (view.part + 1)]
        return {"findings": listed, "abstain": len(unread) == len(files), "notes": "\n".join(notes)}

    def _reported(self, item: Diagnostic, file: TaskFile) -> dict[str, Any] | None:
        """The finding of a diagnostic; None where it is another area's, quiet here, or not on a changed line."""
        area = _area_of(item.code, self._rules)
        if area != self.area or _quiet(item.code, file.path, self._rules):
            return None
        line = _changed_line(item, file)
        if line is None:
            return None
        severity = _severity_of(item.code, self._rules)
        text = f"{item.message} ({item.code})"
        if item.suppressed:
            if area != "security":
                return None
            severity, text = "info", f"{text}; a comment suppresses it"
        lines = (file.text or "").split("\n")
        quote = lines[line - 1].strip()[:_QUOTE_MAX] if line <= len(lines) else ""
        return {
            "file": file.path,
            "line": line,
            "severity": severity,
            "text": text[:4000],
            "quote": quote,
            "code": item.code,
        }

    def _assess(self, view: TurnView, diagnostics: Iterable[Diagnostic]) -> dict[str, Any]:
        files = {file.path: file for file in view.task.files}
        told = {(item.path, item.code, line) for item in diagnostics for line in range(item.first, item.last + 1)}
        votes = []
        for finding in view.subject.get("findings", ()):
            decision, notes = self._vote(view.task, finding, files.get(finding["file"]), told)
            votes.append({"finding": finding["id"], "decision": decision, "notes": notes})
        read = any(not why_unread(file, self.languages) for file in files.values())
        notes = "" if read else "no file of the change could be read"
        return {"decision": "approve" if read else "abstain", "votes": votes, "notes": notes}

    def _vote(
        self, task: Task, finding: Mapping[str, Any], file: TaskFile | None, told: set[tuple[str, str, int]]
    ) -> tuple[str, str]:
        code = str(finding.get("code") or "")
        if file is None:
            return "reject", "the diff has no such file"
        if not can_judge(code, file, self.languages):
            return "abstain", why_unread(file, self.languages)
        line = int(finding["line"])
        if code.startswith(NEUTRAL):
            noted = any(item.code == code and item.line == line for item in self._neutral.run(file))
            return ("accept", "the check says so") if noted else ("reject", "the check does not say so")
        if _area_of(code, self._rules) is not None:
            said = (file.path, code, line) in told
            return ("accept", "the rule says so") if said else ("reject", f"ruff does not report {code} on this line")
        return self._claim_vote(task, file, line, finding)

    def _claim_vote(self, task: Task, file: TaskFile, line: int, finding: Mapping[str, Any]) -> tuple[str, str]:
        claim = Claim(
            text=str(finding["text"])[:4000], file=file.path, line=line, quote=str(finding.get("quote") or "")
        )
        raised = check_claims(task, self.area, [claim])[0]
        if raised.verified is False:
            return "reject", raised.note
        if raised.verified is None:
            return "abstain", f"{raised.note}: there is nothing that code can check"
        if raised.line not in file.added:
            return "abstain", "the quoted line is not changed"
        return "accept", "the quoted line is there and changed; whether the claim follows, code cannot tell"


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


def _changed_line(item: Diagnostic, file: TaskFile) -> int | None:
    if item.code == _SYNTAX:
        return item.first
    changed = set(file.added)
    if item.first in changed:
        return item.first
    if item.last - item.first > _SPAN_MAX:
        return None
    return next((line for line in range(item.first, item.last + 1) if line in changed), None)
