"""What every protocol gives the debate: its first stage, what follows a closed one, and its ballots.

A protocol is a set of pure functions over `State`. It never decides how a debate ends: it says which stage comes next,
or that a stop condition fired; `core.debate` applies fallbacks and counts.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..ballots import BallotBox
from ..config import Config
from ..rules import Outcome, decide
from ..state import Answer, Ask, Closed, Stage, State
from ..stopping import DebateView, RoundRecord, Stop

__all__ = [
    "MOTION",
    "ByRule",
    "DebateProtocol",
    "OptionNames",
    "answer_form",
    "answer_names",
    "cast_choice",
    "final_outcome",
    "judged_choice",
    "normalise",
    "option_names",
    "poll_outcome",
    "poll_view",
    "seats_ask",
]

MOTION = (("approve", "approve"), ("reject", "reject"))


class DebateProtocol(Protocol):
    """The pure shape of one kind of debate."""

    def first(self, state: State) -> Stage:
        """The opening stage."""
        ...

    def next(self, state: State) -> Stage | Stop:
        """What follows the stage that just closed (`state.closed[-1]`)."""
        ...

    def landing(self, state: State) -> Stage | None:
        """The final vote that a debate cut by its budget still takes, or None when its ballots are already in."""
        ...

    def landing_asks(self, state: State) -> tuple[Ask, ...]:
        """The asks of that final vote, as they would be after the stage that is about to start."""
        ...

    def live(self, state: State, so_far: Closed) -> BallotBox:
        """The ballots of a stage that is still open."""
        ...

    def options(self, state: State) -> tuple[tuple[str, str], ...]:
        """What can be chosen, as (id, text)."""
        ...

    def box(self, state: State) -> BallotBox:
        """The ballots that count, by the digest of what was voted on."""
        ...

    def outcome(self, state: State, box: BallotBox) -> Outcome:
        """What those ballots come to, before any judge or human has spoken."""
        ...

    def quorum(self, state: State) -> int:
        """The valid weight below which nothing is decided."""
        ...

    def voted_in(self, state: State) -> Mapping[str, int]:
        """Agent to the round its vote is from, where that is not the last one for all."""
        ...

    def subject(self, state: State) -> dict[str, Any]:
        """content, plan, risks, evidence, stop_conditions, proposer, and the proposal's version number."""
        ...


class ByRule:
    """Ballots of the whole panel, decided by the debate's rule."""

    def outcome(self, state: State, box: BallotBox) -> Outcome:
        return poll_outcome(state, box)

    def quorum(self, state: State) -> int:
        return state.config.quorum

    def voted_in(self, state: State) -> Mapping[str, int]:
        del state
        return {}


_MARKS = " \"'`*_"
_ENDS = ".,;:!?"  # at the end only: .5 is not 5
_BEFORE = _MARKS + "([{"
_BEHIND = _MARKS + _ENDS + ")]}"
_PAIRS = ("()", "[]", "{}")


def normalise(text: str) -> str:
    """The form of ids, and of words such as abstain: NFKC, case-folded, one space, no punctuation at the edges."""
    return _folded(text).lstrip(_BEFORE).rstrip(_BEHIND)


def answer_form(text: str) -> str:
    """The form in which two free answers count as the same: as `normalise`, but brackets stay. [0, 1) is not (0, 1)."""
    return _folded(text).lstrip(_MARKS).rstrip(_MARKS + _ENDS)


def _folded(text: str) -> str:
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split())


@dataclass(frozen=True, slots=True)
class OptionNames:
    """What names an option in a reply: its id, or a text that no two options share. An id wins over a text.

    Attributes:
        ids, texts: option ids by the form of what names them.
        id_form, text_form: the forms in which a reply is looked up there.
        plain: no option has a bracket, so that a pair of them around a whole reply is decoration: (red) is red.
    """

    ids: Mapping[str, str]
    texts: Mapping[str, str]
    id_form: Callable[[str], str] = normalise
    text_form: Callable[[str], str] = answer_form
    plain: bool = False

    def find(self, said: str) -> str | None:
        """The id of the option that a reply names, or None."""
        form = self.text_form(said)
        found = self.ids.get(self.id_form(said)) or self.texts.get(form)
        if found or not self.plain or form[:1] + form[-1:] not in _PAIRS:
            return found
        return self.texts.get(self.text_form(form[1:-1]))


def option_names(
    options: Sequence[tuple[str, str]],
    *,
    shown: Sequence[tuple[str, str]] | None = None,
    id_form: Callable[[str], str] = normalise,
    text_form: Callable[[str], str] = answer_form,
    plain: bool = False,
) -> OptionNames:
    """The names of `options`, as (id, text). `shown`: those whose ids count, () for none; None for all. `plain`: read
    (red) as red, unless an option has a bracket itself."""
    shared = Counter(text_form(text) for _, text in options)
    plain = plain and not any(bracket in form for form in shared for pair in _PAIRS for bracket in pair)
    texts = {key: oid for oid, text in options if (key := text_form(text)) and shared[key] == 1}
    ids = {id_form(oid): oid for oid, _ in (options if shown is None else shown)}
    return OptionNames(ids, texts, id_form, text_form, plain)


def answer_names(
    config: Config, options: Sequence[tuple[str, str]], shown: Sequence[tuple[str, str]] | None = None
) -> OptionNames:
    """The names of the options of a question, as its debate's edition reads them; see `option_names`.

    The texts of an open question's options are answers, brackets and all. A question's own options cannot merge, so a
    pair of brackets around a reply is only decoration there, unless an option has a bracket itself.
    """
    if config.edition == 1:
        return option_names(options, shown=shown, text_form=normalise)
    return option_names(options, shown=shown, plain=bool(config.task.options))


def seats_ask(state: State, kind: str) -> tuple[Ask, ...]:
    """One ask of `kind` for every seat that holds a ballot."""
    return tuple(Ask(seat.agent, kind) for seat in state.config.voters)


def cast_choice(box: BallotBox, agent: str, answer: Answer, names: OptionNames, choices: tuple[str, ...]) -> BallotBox:
    """Put one seat's answer into the box: a choice names an option by its id or its text."""
    if answer.status == "missing":
        return box.miss(agent, answer.cause)
    if answer.status == "invalid":
        return box.spoil(agent, answer.cause)
    reply = answer.reply or {}
    notes = str(reply.get("notes") or reply.get("reasoning") or "")[:2000]
    if len(choices) == 1 and normalise(choices[0]) == "abstain":
        return box.abstain(agent, notes)
    named = tuple(names.find(choice) or choice for choice in choices)
    return box.cast(agent, named, subject=box.subject, notes=notes, confidence=reply.get("confidence"))[0]


def judged_choice(state: State) -> str | None:
    """The judge's choice among the offered options, or None. "none" is no choice, whatever an option's text says."""
    closed = state.last("judge")
    if closed is None:
        return None
    replies = closed.valid()
    choice = next((str(reply.get("choice", "")) for reply in replies.values()), "")
    return None if normalise(choice) == "none" else answer_names(state.config, closed.stage.options).find(choice)


def poll_outcome(state: State, box: BallotBox) -> Outcome:
    """The rule over one poll, before any judge or human has spoken."""
    config = state.config
    return decide(config.rule_, box, quorum=config.quorum, tie=config.tie)


def poll_view(state: State, polls: Sequence[tuple[Closed, BallotBox]], claims: str) -> DebateView:
    """What the stop conditions look at: one record a poll. `claims` names the replies' field that holds new arguments.

    A rule is met only by itself: a tie that the tie policy would settle is no reason to stop debating.
    """
    seen: set[str] = set()
    rounds, live = [], 0
    for closed, box in polls:
        key = ("view", closed.stage.number)
        if key not in state.memo:
            texts = {text for reply in closed.valid().values() for text in reply.get(claims) or ()}
            state.memo[key] = (poll_outcome(state, box), {normalise(text) for text in texts})
        outcome, said = state.memo[key]
        answered = [ask.agent for ask, answer in closed.answers.items() if answer.status != "missing"]
        rounds.append(
            RoundRecord(
                round=closed.stage.round,
                met=outcome.met,
                winner=outcome.winner if outcome.met else None,
                positions={entry.agent: entry.choices[0] if entry.choices else "" for entry in box.seats},
                new_claims=len(said - seen),
                answered=len(answered),
            )
        )
        seen |= said
        live = sum(state.config.electorate[agent] for agent in answered)
    return DebateView(
        tuple(rounds),
        state.config.rounds,
        unassailable=bool(rounds and rounds[-1].met),  # a whole poll has no ballots outstanding
        quorum=state.config.quorum,
        live_weight=live,
        weights=state.config.electorate,
    )


def final_outcome(protocol: DebateProtocol, state: State, box: BallotBox) -> tuple[Outcome, str]:
    """The panel's own outcome on the final ballots, then the judge or the human where they decided.

    Returns (outcome, decided_by).

    Neither can overrule a panel that decided, nor approve where the quorum failed.
    """
    config = state.config
    outcome = protocol.outcome(state, box)
    if outcome.result != "no_decision":
        return outcome, "ballots"
    motion = box.is_motion
    if state.human is not None:
        return _settled(outcome, str(state.human["choice"]), motion), f"human:{state.human['by']}"
    choice = judged_choice(state)
    judge = config.seat_of("judge")
    if choice is None or judge is None:
        return outcome, "ballots"
    if outcome.needs_judge and config.policy is None:
        outcome = decide(config.rule_, box, quorum=config.quorum, tie=config.tie, judged=choice)
        return outcome, f"judge:{judge.agent}"
    return _settled(outcome, choice, motion), f"judge:{judge.agent}"


def _settled(outcome: Outcome, choice: str, motion: bool) -> Outcome:
    if choice == "none":
        return outcome
    if motion:
        return (
            replace(outcome, result="approved", winner=choice)
            if choice == "approve"
            else replace(outcome, result="rejected")
        )
    return replace(outcome, result="approved", winner=choice)
