"""Every proposal that a ledger knows, and what they show together.

Proposals come from two places: the streams `proposal/<id>`, voted on by a panel, and the streams `debate/<id>`, whose
`landed` record holds the body. What became of one afterwards is in the streams `commit/<scope>`. All of it is read as
it stands; whether the records themselves hold is `ledger verify`'s question.

Trends are over the proposals that were asked for, before `limit` cuts the list:

- *alignment* of two agents: of the proposals on which both cast a valid ballot, how many they agree on (same choice).
- *common objections*: what rejecting seats said, counted once a seat and proposal, by normalised text.
- *time to decide*: from the proposal (or the debate's opening) to the end of the vote, where it was decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median
from typing import Any, Final

from ..clock import SystemClock
from ..core.journal import Journal
from ..core.panel import panel_state
from ..core.panel_advice import Objection
from ..core.protocols.base import normalise
from ..errors import ConfigError
from ..ports import Clock, Ledger, Record

__all__ = ["LIMIT_MAX", "MEDIATION_TASK", "STATUSES", "Alignment", "History", "Row", "debate_objections", "history"]

STATUSES: Final = (
    "open",
    "approved",
    "rejected",
    "no_decision",
    "quorum_failed",
    "superseded",
    "committing",
    "committed",
    "compensated",
    "in_doubt",
    "rejected_by_gate",
)
LIMIT_MAX: Final = 10_000
MEDIATION_TASK: Final = "mediation-of/"
"""How the task id of a debate begins that only mediates another proposal: it is no proposal of its own."""
_OBJECTIONS_SHOWN: Final = 20
_PAIRS_SHOWN: Final = 200
_TEXT_MAX: Final = 500
_DECIDED: Final = ("approved", "rejected")
_NO_CHOICE: Final = ("abstain", "invalid", "missing")
_COMMITS: Final = {"pending": "committing", "rejected": "rejected_by_gate"}


@dataclass(frozen=True, slots=True)
class Row:
    """One proposal.

    Attributes:
        source: "panel" or "debate". result: of the vote. status: the last thing that is known of it.
        decided_ms: milliseconds from the proposal to the end of its vote; None while it is open.
        choices: agent to what it chose, valid ballots only.
        scopes: where the gate admitted it; more than one means that it may have been carried out twice.
    """

    proposal_id: str
    source: str
    proposer: str
    task_id: str
    summary: str
    rule: str
    created_at: str
    created_ms: int
    result: str
    status: str
    decided_ms: int | None
    choices: Mapping[str, str]
    objections: tuple[Objection, ...] = ()
    supersedes: str = ""
    superseded_by: str = ""
    scopes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        names = ("proposal_id", "source", "status", "result", "proposer", "task_id", "summary", "rule", "created_at")
        data: dict[str, Any] = {name: getattr(self, name) for name in names}
        links = {"supersedes": self.supersedes or None, "superseded_by": self.superseded_by or None}
        choices, scopes = dict(sorted(self.choices.items())), list(self.scopes)
        return {**data, "decided_ms": self.decided_ms, "choices": choices, **links, "scopes": scopes}


@dataclass(frozen=True, slots=True)
class Alignment:
    """How often two agents chose the same, of the `n` proposals on which both cast a valid ballot."""

    agents: tuple[str, str]
    agree: int
    n: int


@dataclass(frozen=True, slots=True)
class History:
    """The proposals asked for, newest first, and their trends.

    Attributes:
        found: how many there are; rows: at most `limit` of them.
        objections: (text, how many seats said it), most common first.
        median_ms, p90_ms: of the `decided` proposals; None where there are none. p90 is the nearest rank.
    """

    found: int
    rows: tuple[Row, ...]
    statuses: Mapping[str, int]
    alignment: tuple[Alignment, ...]
    objections: tuple[tuple[str, int], ...]
    decided: int
    median_ms: int | None
    p90_ms: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "found": self.found,
            "proposals": [row.to_json() for row in self.rows],
            "trends": {
                "statuses": dict(self.statuses),
                "alignment": [
                    {"agents": list(pair.agents), "agree": pair.agree, "proposals": pair.n} for pair in self.alignment
                ],
                "objections": [{"text": text, "seats": seats} for text, seats in self.objections],
                "time_to_decide": {"decided": self.decided, "median_ms": self.median_ms, "p90_ms": self.p90_ms},
            },
        }


def history(
    ledger: Ledger,
    *,
    status: str = "",
    proposer: str = "",
    since_ms: int = 0,
    limit: int = 50,
    clock: Clock | None = None,
) -> History:
    """The proposals of a ledger, newest first, with what they show together.

    Args:
        status: one of `STATUSES`; the vote's result counts too, so that "approved" finds what was committed since.
        proposer: who proposed. since_ms: proposed at or after this time.
        limit: at most so many rows, 1 to 10,000; trends are over all that were found.

    Raises:
        ConfigError: an unknown status, or a limit out of bounds. LedgerCorrupt: a proposal's stream is none.
    """
    if status and status not in STATUSES:
        raise ConfigError(f"no proposal has the status {status[:60]!r}; use one of {', '.join(STATUSES)}")
    if not 1 <= limit <= LIMIT_MAX:
        raise ConfigError(f"a history lists 1 to {LIMIT_MAX} proposals, not {limit}")
    now_ms = (clock or SystemClock()).now_ms()
    rows = [
        row
        for row in _rows(ledger, now_ms)
        if _has(row, status) and (not proposer or row.proposer == proposer) and row.created_ms >= since_ms
    ]
    rows.sort(key=lambda row: (-row.created_ms, row.proposal_id))
    times = sorted(row.decided_ms for row in rows if row.decided_ms is not None and row.result in _DECIDED)
    return History(
        found=len(rows),
        rows=tuple(rows[:limit]),
        statuses={name: count for name in STATUSES if (count := sum(row.status == name for row in rows))},
        alignment=_alignment(rows),
        objections=_common(rows),
        decided=len(times),
        median_ms=round(median(times)) if times else None,
        p90_ms=times[-(-9 * len(times) // 10) - 1] if times else None,
    )


def _has(row: Row, status: str) -> bool:
    """Whether a row has a status, or its vote that result; an open vote has no result yet."""
    return not status or row.status == status or (row.result == status and row.status != "open")


def debate_objections(records: Iterable[Record]) -> tuple[Objection, ...]:
    """What the seats of a debate that rejected its last plan said against it."""
    last: dict[str, Mapping[str, Any]] = {}
    for record in records:
        payload = record.payload
        if record.kind == "answered" and payload.get("kind") == "ballot":
            last[str(payload["agent"])] = (payload.get("reply") or {}) if payload["status"] == "valid" else {}
    found = []
    for agent, reply in sorted(last.items()):
        if reply.get("decision") == "reject":
            texts = reply.get("objections") or (reply.get("notes") or "",)
            found += [Objection(agent, str(text)[:_TEXT_MAX]) for text in texts if str(text).strip()]
    return tuple(found)


@dataclass(slots=True)
class _After:
    """What the ledger knows beside a proposal's own stream."""

    commits: dict[str, str] = field(default_factory=dict)
    scopes: dict[str, list[str]] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)


def _rows(ledger: Ledger, now_ms: int) -> Iterator[Row]:
    streams = ledger.streams()
    after = _after(ledger, streams)
    for name in streams:
        room, _, rest = name.partition("/")
        if room == "proposal":
            yield _panel_row(ledger.read(name), after, now_ms)
        elif room == "debate" and rest:
            row = _debate_row(ledger.read(name), after)
            if row is not None:
                yield row


def _after(ledger: Ledger, streams: Sequence[str]) -> _After:
    after = _After()
    for name in streams:
        if name.startswith("commit/"):
            for commit in Journal(ledger.read(name)).commits.values():
                own = after.scopes.setdefault(commit.proposal_id, [])
                if commit.admitted or not own:  # a refusal elsewhere does not hide where it was carried out
                    after.commits[commit.proposal_id] = _COMMITS.get(commit.status, commit.status)
                if commit.admitted:
                    own.append(name.removeprefix("commit/"))
        elif name.startswith("mediation/"):
            taken = [record.payload for record in ledger.read(name) if record.kind == "superseded"]
            if taken:
                after.replaced[name.removeprefix("mediation/")] = str(taken[0]["by"])
    return after


def _panel_row(records: Sequence[Record], after: _After, now_ms: int) -> Row:
    state = panel_state(records)
    body, closed = state.body(now_ms), state.closed_at(now_ms)
    vote = "open" if closed is None else str(body["decision"]["result"])
    if closed is not None and state.superseded_by and vote != "approved":
        vote = "superseded"
    return _row(
        body,
        after,
        source="panel",
        vote=vote,
        created_ms=state.created_ms,
        closed_ms=closed,
        superseded_by=state.superseded_by,
    )


def _debate_row(records: Sequence[Record], after: _After) -> Row | None:
    landed = next((record for record in records if record.kind == "landed"), None)
    if landed is None or str(landed.payload["proposal"]["task_id"]).startswith(MEDIATION_TASK):
        return None
    body = landed.payload["proposal"]
    by = after.replaced.get(str(body["proposal_id"]), "")
    vote = "superseded" if by else str(body["decision"]["result"])
    return _row(
        body,
        after,
        source="debate",
        vote=vote,
        created_ms=records[0].at_ms,
        closed_ms=landed.at_ms,
        superseded_by=by,
        objections=debate_objections(records),
    )


def _row(
    body: Mapping[str, Any],
    after: _After,
    *,
    source: str,
    vote: str,
    created_ms: int,
    closed_ms: int | None,
    superseded_by: str,
    objections: tuple[Objection, ...] = (),
) -> Row:
    name, content = str(body["proposal_id"]), body["content"]
    votes = [(str(v["agent"]), str(v["decision"]), str(v["notes"])) for v in body["votes"]]
    noted = tuple(Objection(agent, notes) for agent, said, notes in votes if said == "reject" and notes.strip())
    spoken = {item.agent for item in objections}
    summary = content.get("summary") or content.get("answer_text") or content.get("verdict") or ""
    return Row(
        proposal_id=name,
        source=source,
        proposer=str(body["proposer"]),
        task_id=str(body["task_id"]),
        summary=str(summary)[:_TEXT_MAX],
        rule=str(body["rule"]),
        created_at=str(body["created_at"]),
        created_ms=created_ms,
        result=str(body["decision"]["result"]),
        status=after.commits.get(name, vote),
        decided_ms=None if closed_ms is None else max(0, closed_ms - created_ms),
        choices={agent: said.partition(" > ")[0] for agent, said, _ in votes if said not in _NO_CHOICE},
        objections=(*objections, *(item for item in noted if item.agent not in spoken)),
        supersedes=str(content.get("supersedes") or ""),
        superseded_by=superseded_by,
        scopes=tuple(after.scopes.get(name, ())),
    )


def _alignment(rows: Sequence[Row]) -> tuple[Alignment, ...]:
    agree: Counter[tuple[str, str]] = Counter()
    both: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for one, two in combinations(sorted(row.choices), 2):
            both[one, two] += 1
            agree[one, two] += row.choices[one] == row.choices[two]
    pairs = [Alignment(pair, agree[pair], n) for pair, n in both.items()]
    return tuple(sorted(pairs, key=lambda pair: (-pair.n, pair.agents))[:_PAIRS_SHOWN])


def _common(rows: Sequence[Row]) -> tuple[tuple[str, int], ...]:
    """Objections by how many seats raised them; shown as they were first said, in the order of the rows."""
    seats: dict[str, set[tuple[str, str]]] = {}
    shown: dict[str, str] = {}
    for row in rows:
        for item in row.objections:
            key = normalise(item.text)
            if key:
                shown.setdefault(key, " ".join(item.text.split())[:_TEXT_MAX])
                seats.setdefault(key, set()).add((row.proposal_id, item.agent))
    ordered = sorted(seats, key=lambda key: (-len(seats[key]), key))
    return tuple((shown[key], len(seats[key])) for key in ordered[:_OBJECTIONS_SHOWN])
