"""What would decide a vote that is undecided or lost, and what stands against the plan: by code, without any model.

Three things can be said exactly:

- *Which ballots would decide it.* A set of seats approves (or rejects) if, with their ballots so and whatever the other
  open seats do, the rule decides so (`rules.unassailable`). Listed are the smallest such sets. While the vote is open
  they are sets of seats that have not voted; afterwards, for a new vote, of seats that did not approve.
- *What the objections are about.* An objection is put to a step where it names one: "step 2" (counted from 0), or the
  step's target.
- *What nobody objected to.* Those steps are a candidate for a plan of their own. Whether they make sense
  without the others is for people to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from .ballots import BallotBox
from .protocols.base import normalise
from .rules import decide, parse_rule, unassailable

__all__ = ["Advice", "Objection", "advise"]

SETS_MAX: Final = 20
SEATS_SEARCHED_MAX: Final = 12
"""Up to so many candidate seats every set is tried; beyond, the heaviest seats first."""
OBJECTIONS_MAX: Final = 200
_STEP: Final = re.compile(r"\bsteps?\s+#?([0-9]{1,3})\b", re.I | re.ASCII)
_TEXT_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Objection:
    """What a seat says against the plan."""

    agent: str
    text: str


@dataclass(frozen=True, slots=True)
class Advice:
    """What can be said about an undecided or rejected plan.

    Attributes:
        open: whether its vote is.
        approve, reject: the smallest sets of seats whose ballots would decide it so; empty where none would.
        exact: every set was looked at; False where only the heaviest seats first were.
        by_step: (0-based step, objections that name it), by step; general: objections that name none.
        untouched: 0-based steps that no objection names, where at least one is named.
    """

    open: bool
    approve: tuple[tuple[str, ...], ...]
    reject: tuple[tuple[str, ...], ...]
    exact: bool
    by_step: tuple[tuple[int, tuple[Objection, ...]], ...]
    general: tuple[Objection, ...]
    untouched: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""

        def said(objections: Sequence[Objection]) -> list[dict[str, str]]:
            return [{"agent": item.agent, "text": item.text} for item in objections]

        return {
            "open": self.open,
            "would_approve": [list(seats) for seats in self.approve],
            "would_reject": [list(seats) for seats in self.reject],
            "exact": self.exact,
            "objections": [{"step": step, "said": said(items)} for step, items in self.by_step],
            "general_objections": said(self.general),
            "steps_without_objection": list(self.untouched),
        }


def advise(body: Mapping[str, Any], objections: Sequence[Objection] = (), *, is_open: bool) -> Advice:
    """What would decide this proposal.

    Args:
        body: a whole proposal that was voted on by approve and reject.
        objections: what was said beside the notes of its votes, e.g. in a debate.
        is_open: whether its vote is.
    """
    said = _distinct([*_from_votes(body), *objections])
    by_step, general = _by_step(said, body["plan"])
    named = dict(by_step)
    steps = range(len(body["plan"]))
    seats = _candidates(body, is_open)
    approve, exact = _smallest(body, seats, "approve", is_open)
    reject, exact_too = _smallest(body, seats, "reject", is_open) if is_open else ((), True)
    return Advice(
        open=is_open,
        approve=approve,
        reject=reject,
        exact=exact and exact_too,
        by_step=by_step,
        general=general,
        untouched=tuple(step for step in steps if step not in named) if named else (),
    )


def _candidates(body: Mapping[str, Any], is_open: bool) -> list[tuple[str, int]]:
    """Seats whose ballots could still make the difference, with their weights, heaviest first."""
    may = ("missing",) if is_open else ("missing", "invalid", "abstain", "reject")
    seats = [(str(vote["agent"]), int(vote["weight"])) for vote in body["votes"] if vote["decision"] in may]
    return sorted(seats, key=lambda seat: (-seat[1], seat[0]))


def _smallest(
    body: Mapping[str, Any], seats: list[tuple[str, int]], choice: str, is_open: bool
) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """The smallest sets of `seats` that decide for `choice`, and whether all were looked at."""
    exact = len(seats) <= SEATS_SEARCHED_MAX
    for size in range(len(seats) + 1):
        found = []
        for names in _sets(seats, size, exact):
            if _decides(body, frozenset(names), choice, is_open):
                found.append(tuple(sorted(names)))
                if len(found) == SETS_MAX:
                    break
        if found:
            return tuple(sorted(found)), exact
    return (), exact


def _sets(seats: list[tuple[str, int]], size: int, exact: bool) -> Iterator[tuple[str, ...]]:
    names = [agent for agent, _ in seats]
    yield from combinations(names, size) if exact else iter((tuple(names[:size]),))


def _decides(body: Mapping[str, Any], seats: frozenset[str], choice: str, is_open: bool) -> bool:
    """Whether the vote is decided for `choice` once `seats` cast it, whatever other open seats do."""
    weights = {str(vote["agent"]): int(vote["weight"]) for vote in body["votes"]}
    box = BallotBox.open("advice", ("approve", "reject"), weights)
    for vote in body["votes"]:
        agent, said = str(vote["agent"]), str(vote["decision"])
        said = choice if agent in seats else said
        if said in ("approve", "reject"):
            box, _ = box.cast(agent, (said,), subject=box.subject)
        elif said == "abstain":
            box = box.abstain(agent)
        elif said == "invalid":
            box = box.spoil(agent, "invalid")
    rule, quorum = parse_rule(str(body["rule"])), int(body["decision"]["quorum"])
    if not is_open:
        box = box.close("advice")
    result = decide(rule, box, quorum=quorum).result
    wanted = "approved" if choice == "approve" else "rejected"
    return result == wanted and unassailable(rule, box, quorum=quorum)


def _from_votes(body: Mapping[str, Any]) -> list[Objection]:
    """The notes of seats that rejected, or abstained and said why."""
    return [
        Objection(str(vote["agent"]), str(vote["notes"]))
        for vote in body["votes"]
        if vote["decision"] in ("reject", "abstain") and str(vote["notes"]).strip()
    ]


def _distinct(objections: Sequence[Objection]) -> list[Objection]:
    seen: dict[tuple[str, str], Objection] = {}
    for item in objections:
        seen.setdefault((item.agent, normalise(item.text)), Objection(item.agent, item.text[:_TEXT_MAX]))
    return [seen[key] for key in sorted(seen)][:OBJECTIONS_MAX]


def _by_step(
    objections: Sequence[Objection], plan: Sequence[Mapping[str, Any]]
) -> tuple[tuple[tuple[int, tuple[Objection, ...]], ...], tuple[Objection, ...]]:
    found: dict[int, list[Objection]] = {}
    general = []
    for item in objections:
        steps = {int(number) for number in _STEP.findall(item.text)} & set(range(len(plan)))
        steps |= {at for at, step in enumerate(plan) if _names(item.text, step)}
        for step in steps:
            found.setdefault(step, []).append(item)
        if not steps:
            general.append(item)
    return tuple((step, tuple(found[step])) for step in sorted(found)), tuple(general)


def _names(text: str, step: Mapping[str, Any]) -> bool:
    """Whether the objection names what the step touches: its target as a whole word, with or without its prefix."""
    target = str(step.get("target") or step.get("url") or step.get("name") or "")
    names = {target, target.partition(":")[2]} if ":" in target and "://" not in target else {target}
    return any(re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/-]|\.\w)", text) for name in names if len(name) > 1)
