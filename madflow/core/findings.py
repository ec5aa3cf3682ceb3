"""Findings of a review: from what seats claim to what is published, as pure functions.

The way of a finding:

1. A claim is *checked* against the task (`check_claims`): is what it quotes there? It becomes a `Raised`.
   - quote found at its line: verified. Found within three lines, or elsewhere in the file: verified, and the line is
     corrected and noted. Found among the lines that the change removes: verified, noted as such.
   - quote not found, or no such file, or no such line: verified is False, and the severity is at most minor.
   - no quote: verified is None (nothing to check). On a changed line the severity is at most major, elsewhere at
     most minor: a critical finding quotes what it is about.
2. Raised claims *merge*, by the rule that the debate was opened with: `overlap`, here (`merge`), or `same`
   (core.merging). By overlap: same file, lines at most two apart, and the same rule code or similar words (Jaccard
   index of their word sets at least the threshold; Jaccard 1901). By either, two different rule codes never merge. A
   seat that raises two claims means two: its own merge only if they are the same words on the same line. Nothing is
   lost: every claim stays in the lineage.
   The result depends on the claims alone, not on the order in which seats or claims come.
3. Each finding is voted on by the seats that did not raise it (`judge`). Seats that cannot judge it are no part of
   its electorate. With R the weight of the raising seats that can judge it and E the weight of the others:
   - accepted: the others' accepting weight is strictly more than E/2;
   - corroborated: at least two such seats raised it independently, and R is strictly more than (R+E)/2;
   - unconfirmed: nobody else could judge it, and fewer than two raised it: published, its severity at most minor;
   - rejected: everything else. A missing vote, an invalid one and an abstention stay in E: silence never accepts.
4. A finding may carry a *suggested patch* of its file. It is a fact, recorded with the claim, whether the patch applies
   to the tree, and to which state of the file; one that does not is dropped, and the finding's note says why. What
   becomes of the others is core.suggestions.
5. The *verdict* is request_changes if and only if a published finding (accepted, corroborated or unconfirmed) is
   major or critical.

Who can judge what (`why_unread`, `can_judge`): a seat whose languages are declared reads a file if it is in one of
them and its whole new text is known; a seat that declares none (a language model) reads whatever it is shown. A finding
whose code starts with `diff/` is about the diff's own lines, in any language: whoever is shown the file can judge it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

from pydantic import Field

from ..errors import PlanError
from .messages import AgentId, Claim, Frozen, Severity, Task, TaskFile
from .quotes import NewSide
from .unified import read_hunks, write_patch

__all__ = [
    "NEUTRAL",
    "REDACTED",
    "SECRET_FILE",
    "SEVERITIES",
    "Finding",
    "Judged",
    "Raised",
    "Vote",
    "can_judge",
    "cap",
    "check_claims",
    "claim_order",
    "coverage",
    "findings_of",
    "judge",
    "known_path",
    "merge",
    "verdict",
    "why_unread",
]

SEVERITIES: tuple[Severity, ...] = ("info", "minor", "major", "critical")
"""Severities, lowest first."""

NEUTRAL = "diff/"
"""How the code of a finding on the diff's own lines starts: it needs no language to be judged."""

SECRET_FILE = f"{NEUTRAL}secret-file"
"""The code of a finding on a file that is left out because its path looks secret: the path is the evidence."""

REDACTED = re.compile(r"<redacted:([a-z][a-z-]*)>")
"""What stands where a secret-looking value stood, and of which kind it was."""

LINES_APART_MAX = 2
NEAR_MAX = 200  # a claim is compared with so many findings at its place, the first ones; the rest stay apart
_SIMILAR = Fraction(1, 3)
_NOT_WHOLE = "its whole new text is not known: the file is too large or a link, or no root was given"
_WORD = re.compile(r"[^\W_]+")
_COMMON = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "in", "is", "it", "its"}
)
_COMMON |= {"of", "on", "or", "that", "the", "this", "to", "with"}


class Raised(Frozen):
    """One seat's claim on a line, as checked.

    `line` and `severity` are what holds after the check; `stated_line` and `stated_severity` what the seat said.
    `patch` applies to the file with the SHA-256 `patch_before`; both empty where none does.
    """

    agent: AgentId
    file: str = Field(min_length=1, max_length=4096)
    line: int = Field(ge=1)
    severity: Severity
    text: str = Field(min_length=1, max_length=4000)
    quote: str = Field(default="", max_length=2000)
    code: str = ""
    verified: bool | None = None
    note: str = ""
    patch: str = ""
    patch_before: str = ""
    stated_line: int = Field(ge=1)
    stated_severity: Severity


class Finding(Frozen):
    """Claims that say the same, merged. `severity` is the highest in `lineage`, after each claim's check.

    `verified`: True if one of the claims is, None if none is but one could not be checked, else False.
    """

    id: str = Field(pattern=r"^F[1-9][0-9]*$")
    file: str
    line: int = Field(ge=1)
    severity: Severity
    text: str
    quote: str = ""
    code: str = ""
    raised_by: tuple[AgentId, ...] = Field(min_length=1)
    verified: bool | None = None
    note: str = ""
    patch: str = ""
    patch_before: str = ""
    patch_by: str = ""
    lineage: tuple[Raised, ...] = Field(min_length=1)


class Vote(Frozen):
    """What a seat says of another's finding, and of its patch. `invalid`: the seat's reply could not be read."""

    agent: AgentId
    decision: Literal["accept", "reject", "abstain", "invalid"]
    notes: str = ""
    patch: Literal["accept", "reject", "abstain"] = "abstain"


class Judged(Frozen):
    """A finding and what became of it.

    `severity` is the finding's, capped where nobody confirmed it. `tally` counts seats and weights of the electorate:
    eligible = accept + reject + abstain + invalid + missing, in each unit. `recused` are the raising seats, `unable`
    the seats that could not judge it; votes of neither count. `dissent` are the votes against the outcome.
    """

    finding: Finding
    status: Literal["accepted", "corroborated", "unconfirmed", "rejected"]
    severity: Severity
    tally: dict[str, int]
    recused: tuple[AgentId, ...]
    unable: tuple[AgentId, ...]
    dissent: tuple[Vote, ...]

    @property
    def published(self) -> bool:
        """Whether the finding is part of the review's result."""
        return self.status != "rejected"


def cap(severity: Severity, highest: Severity) -> Severity:
    """The lower of two severities."""
    return min(severity, highest, key=SEVERITIES.index)


# --- who can judge what


def why_unread(file: TaskFile, languages: frozenset[str] | None) -> str:
    """Why a seat does not read a file; empty if it reads it. `languages` None: a model that reads any text."""
    if file.left_out:
        return f"left out: {file.left_out}"
    if file.binary:
        return "left out: binary"
    if languages is None:
        return ""
    if file.language not in languages:
        return f"language {file.language or 'unknown'}: this seat reads {', '.join(sorted(languages))}"
    if file.text is None:
        header = f"\n{file.diff}".partition("\n@@")[0]
        return "the file is deleted" if "\n+++ /dev/null\n" in f"{header}\n" else _NOT_WHOLE
    return ""


def can_judge(code: str, file: TaskFile | None, languages: frozenset[str] | None) -> bool:
    """Whether a seat can judge a finding with this `code` on `file`; None is a file that the task does not have."""
    if file is None:
        return True  # anyone can see that it is not there
    if code.startswith(NEUTRAL):
        return True
    return not why_unread(file, languages)


# --- check


def check_claims(
    task: Task, agent: str, claims: Iterable[Claim], patches: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Raised, ...]:
    """Check a seat's claims against the diff and what is known of the new text.

    Args:
        patches: by a claim's index, as text, what is known of its suggested patch: `{"sha256_before": hash}` of the
            file that it applies to, or `{"problem": why not}`. A patch that is not here was not tried.

    Claims without a file or a line are none of a review's findings and are refused by the caller's schema;
    here they raise ValueError.
    """
    files = {file.path: file for file in task.files}
    sides: dict[str, NewSide] = {}
    facts = patches or {}
    return tuple(_check(claim, agent, files, sides, facts.get(str(index), {})) for index, claim in enumerate(claims))


def _check(
    claim: Claim,
    agent: str,
    files: Mapping[str, TaskFile],
    sides: dict[str, NewSide],
    fact: Mapping[str, Any],
) -> Raised:
    if claim.file is None or claim.line is None:
        raise ValueError(f"a finding names a file and a line; got file={claim.file!r}, line={claim.line!r}")
    stated: Severity = claim.severity or "info"
    path, note = known_path(claim.file, files)
    line, verified, highest = claim.line, False, SEVERITIES[1]
    checked: bool | None = verified
    if path is None:
        path, note = claim.file, "the diff has no such file"
    else:
        if path not in sides:
            sides[path] = NewSide(files[path])
        if claim.code == SECRET_FILE and files[path].left_out == "secret":
            checked, highest, said = True, "critical", "the path is in the diff"
        else:
            line, checked, highest, said = _check_line(claim, claim.line, sides[path])
        note = "; ".join(part for part in (note, said) if part)
    patch, before, dropped = _checked_patch(claim.patch, path, fact)
    return Raised(
        agent=agent,
        file=path,
        line=line,
        severity=cap(stated, highest),
        text=claim.text,
        quote=claim.quote,
        code=claim.code,
        verified=checked,
        note="; ".join(part for part in (note, dropped) if part),
        patch=patch,
        patch_before=before,
        stated_line=claim.line,
        stated_severity=stated,
    )


def _checked_patch(patch: str, path: str, fact: Mapping[str, Any]) -> tuple[str, str, str]:
    """(the patch as it is voted on, the file's hash before it, why there is none)."""
    if not patch.strip():
        return "", "", ""
    problem = str(fact.get("problem") or ("" if fact.get("sha256_before") else "there was no tree to try it on"))
    if not problem:
        try:
            return write_patch(path, read_hunks(patch, path)), str(fact["sha256_before"]), ""
        except PlanError as error:
            problem = str(error)
    return "", "", f"suggested patch left out: {problem}"[:500]


def known_path(path: str, files: Mapping[str, TaskFile]) -> tuple[str | None, str]:
    """The path that a seat means, and a note where it wrote another; None where the diff has no such file."""
    if path in files:
        return path, ""
    for prefix in ("./", "a/", "b/"):
        bare = path.removeprefix(prefix)
        if bare != path and bare in files:
            return bare, f"the path was given as {path}"
    return None, ""


def _check_line(claim: Claim, line: int, side: NewSide) -> tuple[int, bool | None, Severity, str]:
    if not side.readable:
        return line, None, "minor", "the file was left out: nothing to check against"
    if claim.quote.strip():
        found = side.find(claim.quote, line)
        if found is None:
            return line, False, "minor", "the quote is not in the file"
        said = f"the quote is on line {found.line}, not {line}" if found.line != line else ""
        removed = "the quote is of a removed line" if found.removed else ""
        return found.line, True, "critical", "; ".join(part for part in (said, removed) if part)
    if side.beyond(line):
        return line, False, "minor", f"the file has {side.last} lines"
    if line in side.changed:
        return line, None, "major", "nothing quoted"
    return line, None, "minor", "nothing quoted, and the line is not changed"


# --- merge


def merge(raised: Iterable[Raised], *, similar: Fraction = _SIMILAR) -> tuple[Finding, ...]:
    """Merge claims by the rule `overlap`, with lineage; ids as `findings_of` gives them.

    Time is linear in the number of claims (sorting aside), which replies bound; see NEAR_MAX.
    """
    ordered = sorted(raised, key=claim_order)
    clusters: list[list[Raised]] = []
    words = {item.text: _words(item.text) for item in ordered}
    first = 0  # clusters before this one are out of reach of every claim to come
    for item in ordered:
        while first < len(clusters) and _out_of_reach(clusters[first][0], item):
            first += 1
        near = [
            (abs(cluster[0].line - item.line), -_alike(cluster[0], item, words), index)
            for index, cluster in enumerate(clusters[first : first + NEAR_MAX], start=first)
            if all(_same(other, item, words, similar) for other in cluster)
        ]
        if near:
            clusters[min(near)[2]].append(item)
        else:
            clusters.append([item])
    return findings_of(clusters)


def findings_of(clusters: Iterable[Sequence[Raised]]) -> tuple[Finding, ...]:
    """A finding each of clusters of claims, however these came about; ids F1, F2, … by file, line and digest."""
    merged = sorted((_fields(cluster) for cluster in clusters), key=_order)
    return tuple(Finding(id=f"F{number}", **fields) for number, fields in enumerate(merged, start=1))


def _digest(item: Raised) -> str:
    parts = (item.file, str(item.line), item.severity, item.text, item.quote, item.code)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def claim_order(item: Raised) -> tuple[str, int, str, str, str]:
    """What claims are sorted by, so that nothing depends on the order in which they came."""
    return item.file, item.line, _digest(item), item.agent, item.model_dump_json()


def _order(fields: Mapping[str, Any]) -> tuple[str, int, str]:
    return fields["file"], fields["line"], _digest(fields["lineage"][0])


def _out_of_reach(head: Raised, item: Raised) -> bool:
    return head.file != item.file or item.line - head.line > LINES_APART_MAX


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold())) - _COMMON


def _alike(one: Raised, two: Raised, words: Mapping[str, frozenset[str]]) -> Fraction:
    shared, union = _overlap(one, two, words)
    return Fraction(shared, union)


def _overlap(one: Raised, two: Raised, words: Mapping[str, frozenset[str]]) -> tuple[int, int]:
    mine, theirs = words[one.text], words[two.text]
    shared = len(mine & theirs)
    union = len(mine) + len(theirs) - shared
    return (shared, union) if union else (int(one.text == two.text), 1)


def _same(one: Raised, two: Raised, words: Mapping[str, frozenset[str]], similar: Fraction) -> bool:
    if one.file != two.file or abs(one.line - two.line) > LINES_APART_MAX:
        return False
    if one.agent == two.agent:
        return one.line == two.line and one.text == two.text
    if one.code and two.code:
        return one.code == two.code
    shared, union = _overlap(one, two, words)
    return shared * similar.denominator >= similar.numerator * union


def _fields(cluster: Sequence[Raised]) -> dict[str, Any]:
    # The spokesman: the gravest claim, a verified one before others, then the first by place.
    lineage = sorted(cluster, key=claim_order)
    told = max(lineage, key=lambda item: (SEVERITIES.index(item.severity), item.verified is True))
    states = {item.verified for item in lineage}
    verified = True if True in states else None if None in states else False
    quoted = next((item.quote for item in (told, *lineage) if item.quote and item.verified), told.quote)
    patched = next((item for item in (told, *lineage) if item.patch), None)
    return {
        "file": told.file,
        "line": told.line,
        "severity": told.severity,
        "text": told.text,
        "quote": quoted,
        "code": told.code or next((item.code for item in lineage if item.code), ""),
        "raised_by": tuple(sorted({item.agent for item in lineage})),
        "verified": verified,
        "note": told.note,
        **(
            {"patch": patched.patch, "patch_before": patched.patch_before, "patch_by": patched.agent} if patched else {}
        ),
        "lineage": tuple(lineage),
    }


# --- judge


def judge(finding: Finding, votes: Mapping[str, Vote], weights: Mapping[str, int], judges: Iterable[str]) -> Judged:
    """What becomes of a finding.

    Args:
        votes: by agent. Votes of seats that raised it, cannot judge it or are not in `weights` do not count.
        weights: the panel: integer weight of every voting seat.
        judges: the seats that can judge it (`can_judge`), raising ones included.
    """
    able = set(judges) & set(weights)
    recused = set(finding.raised_by)
    electorate = sorted(able - recused)
    tally, accepting = _tally(electorate, votes, weights)
    others, raising = tally["eligible_weight"], sorted(able & recused)
    raised = sum(weights[agent] for agent in raising)
    status: Literal["accepted", "corroborated", "unconfirmed", "rejected"] = "rejected"
    if 2 * accepting > others:
        status = "accepted"
    elif len(raising) >= 2 and 2 * raised > raised + others:
        status = "corroborated"
    elif not electorate:
        status = "unconfirmed"
    against = "accept" if status == "rejected" else "reject"
    counted = [votes[agent] for agent in electorate if agent in votes]
    return Judged(
        finding=finding,
        status=status,
        severity=cap(finding.severity, "minor") if status == "unconfirmed" else finding.severity,
        tally=tally,
        recused=tuple(sorted(recused)),
        unable=tuple(sorted(set(weights) - able - recused)),
        dissent=tuple(vote for vote in counted if vote.decision == against),
    )


def _tally(
    electorate: Sequence[str], votes: Mapping[str, Vote], weights: Mapping[str, int]
) -> tuple[dict[str, int], int]:
    tally = dict.fromkeys(("eligible", "accept", "reject", "abstain", "invalid", "missing"), 0)
    tally.update({f"{name}_weight": 0 for name in tuple(tally)})
    for agent in electorate:
        outcome = votes[agent].decision if agent in votes else "missing"
        for name in ("eligible", outcome):
            tally[name] += 1
            tally[f"{name}_weight"] += weights[agent]
    return tally, tally["accept_weight"]


def verdict(judged: Iterable[Judged]) -> Literal["approve", "request_changes"]:
    """request_changes iff a published finding is major or critical."""
    grave = any(item.published and item.severity in ("major", "critical") for item in judged)
    return "request_changes" if grave else "approve"


# --- coverage


def coverage(
    task: Task,
    languages: Mapping[str, frozenset[str] | None],
    *,
    shown: Mapping[str, Iterable[str]] | None = None,
    left_out: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Which seat read which file, and what was left out and why, as plain JSON data.

    Args:
        languages: per seat that replied: the languages it reads, None for any. A seat that failed is not here.
        shown: per seat the paths it was shown; absent: all of them.
        left_out: path → reason, of files that no part of the review holds.

    Returns:
        `{"files": [{"file", "language", "read_by": [agent], "unread": {agent: reason}, "left_out": reason}], "read": n,
        "unread": n}`; `read` counts files that at least one seat read.
    """
    rows = []
    for file in sorted(task.files, key=lambda item: item.path):
        reason = file.left_out or (left_out or {}).get(file.path, "")
        unread: dict[str, str] = {}
        for agent in sorted(languages):
            why = f"left out: {reason}" if reason else why_unread(file, languages[agent])
            if not why and shown is not None and file.path not in set(shown.get(agent, ())):
                why = "not shown to this seat"
            if why:
                unread[agent] = why
        read_by = [agent for agent in sorted(languages) if agent not in unread]
        rows.append(
            {"file": file.path, "language": file.language, "read_by": read_by, "unread": unread, "left_out": reason}
        )
    read = sum(1 for row in rows if row["read_by"])
    return {"files": rows, "read": read, "unread": len(rows) - read}
