"""`answer`: the panel answers a question, and debates only while its rule is not met.

Round 1 is independent. Where the question has no fixed options, the distinct round-1 positions (`base.answer_form`,
each once) freeze into options o1, o2, … ordered by their text. Every later turn carries its ballot: the seat names
an option id. Each round is therefore a poll of the whole panel and costs exactly one call a seat. The last round that
was polled whole is the vote; a round cut half-way is not counted unless it was the first.
"""

from __future__ import annotations

from typing import Any, cast

from ...errors import ConfigError
from ..ballots import BallotBox
from ..canonical import digest
from ..state import Answer, Ask, Closed, Stage, State
from ..stopping import DebateView, Stop
from .base import (
    ByRule,
    OptionNames,
    answer_form,
    answer_names,
    cast_choice,
    final_outcome,
    normalise,
    poll_view,
    seats_ask,
)

__all__ = ["AnswerProtocol", "check_options"]

_POLLS = ("position", "discuss")


class AnswerProtocol(ByRule):
    """See the module's docstring."""

    def first(self, state: State) -> Stage:
        check_options(state)
        return Stage(1, "position", 1, seats_ask(state, "position"), options=state.config.task.options)

    def next(self, state: State) -> Stage | Stop:
        if state.closed[-1].stage.kind == "mediate" and state.stop is not None:
            return state.stop  # a mediator's words are kept; they are no ballot
        view = self.view(state)
        stop = state.config.stop_(view)
        if stop is not None:
            return stop
        options = self.options(state)
        if not options:
            return Stop("deadlock", {"positions": 0, "round": len(view.rounds)})
        if len(view.rounds) >= state.config.rounds:
            return Stop("max_rounds", {"rounds": len(view.rounds), "max_rounds": state.config.rounds})
        return Stage(len(state.closed) + 1, "discuss", len(view.rounds) + 1, seats_ask(state, "discuss"), options)

    def landing(self, state: State) -> Stage | None:
        return None  # every turn carried its ballot

    def landing_asks(self, state: State) -> tuple[Ask, ...]:
        return ()

    def polls(self, state: State) -> list[Closed]:
        """The rounds that count as polls, oldest first."""
        rounds = [closed for closed in state.closed if closed.stage.kind in _POLLS]
        whole = [closed for closed in rounds if not closed.cut]
        return whole or rounds[:1]

    def options(self, state: State) -> tuple[tuple[str, str], ...]:
        """The frozen options: the question's own, else round 1's distinct positions."""
        if state.config.task.options:
            return state.config.task.options
        if "options" not in state.memo and any(closed.stage.kind == "position" for closed in state.closed):
            state.memo["options"] = self._frozen(state)
        return cast("tuple[tuple[str, str], ...]", state.memo.get("options", ()))

    def _frozen(self, state: State) -> tuple[tuple[str, str], ...]:
        first = next((closed for closed in state.closed if closed.stage.kind == "position"), None)
        if first is None:
            return ()
        texts: dict[str, str] = {}
        form = normalise if state.config.edition == 1 else answer_form
        for reply in first.valid().values():
            said = str(reply.get("answer", "")).strip()
            key = form(said)
            if key and normalise(said) != "abstain":
                texts[key] = min(said, texts.get(key, said))
        return tuple((f"o{i}", texts[key]) for i, key in enumerate(sorted(texts), start=1))

    def poll(self, state: State, closed: Closed) -> BallotBox:
        """One closed round's ballots. A free round-1 position is a ballot for the option it became."""
        key = ("poll", closed.stage.number)
        if key not in state.memo:
            state.memo[key] = self.live(state, closed)
        return cast(BallotBox, state.memo[key])

    def live(self, state: State, so_far: Closed) -> BallotBox:
        options = self.options(state)
        box = BallotBox.open(self.options_digest(state), tuple(oid for oid, _ in options), state.config.electorate)
        free = so_far.stage.kind == "position" and not state.config.task.options
        names = answer_names(state.config, options, () if free else None)  # a free position names no id
        for ask, answer in so_far.answers.items():
            choices, conflict = _choices(answer, names, state.config.rule_.reads)
            box = box.spoil(ask.agent, conflict) if conflict else cast_choice(box, ask.agent, answer, names, choices)
        return box

    def options_digest(self, state: State) -> str:
        """What the ballots of this debate are bound to, once its options are frozen."""
        options = self.options(state)
        if not options:
            return digest([])
        if "options_digest" not in state.memo:
            state.memo["options_digest"] = digest([list(option) for option in options])
        return str(state.memo["options_digest"])

    def box(self, state: State) -> BallotBox:
        polls = self.polls(state)
        if not polls:
            options = tuple(oid for oid, _ in self.options(state))
            return BallotBox.open(digest([]), options, state.config.electorate, {}).close("not_asked")
        return self.poll(state, polls[-1]).close("not_asked")

    def view(self, state: State) -> DebateView:
        """What the stop conditions look at."""
        return poll_view(state, [(closed, self.poll(state, closed)) for closed in self.polls(state)], "claims")

    def subject(self, state: State) -> dict[str, Any]:
        options = self.options(state)
        outcome, _ = final_outcome(self, state, self.box(state))
        choice = outcome.winner if outcome.result == "approved" else None
        content: dict[str, Any] = {
            "question": state.config.task.question,
            "options": [{"id": oid, "text": text} for oid, text in options],
            "options_digest": self.options_digest(state),
            "answer": choice,
            "answer_text": dict(options).get(choice) if choice else None,
            "positions": self.positions(state),
        }
        return {"content": content, "proposer": self.proposer(state, choice), "version": 1}

    def positions(self, state: State) -> list[dict[str, Any]]:
        """Each poll as {round, counts by option id}: how opinion moved."""
        rows = []
        for closed in self.polls(state):
            tally = self.poll(state, closed).close("not_asked").tally()
            rows.append({"round": closed.stage.round, "counts": {k: v for k, v in sorted(tally.first.items()) if v}})
        return rows

    def proposer(self, state: State, choice: str | None) -> str:
        """The first seat, by id, that held the winning option in round 1; "panel" where none did."""
        polls = self.polls(state)
        if choice is None or not polls:
            return "panel"
        entries = self.poll(state, polls[0]).entries
        return next((agent for agent in sorted(entries) if entries[agent].choices[:1] == (choice,)), "panel")


def _choices(answer: Answer, names: OptionNames, reads: str) -> tuple[tuple[str, ...], str]:
    """What a reply chooses, and why that is no ballot: a ranking, where the rule reads one, must fit the answer.

    The answer is what the others are shown: it heads a ranking, and is in a set.
    """
    reply = answer.reply or {}
    said, ranking = str(reply.get("answer", "")), tuple(str(item) for item in reply.get("ranking") or ())
    if reads == "choice" or not ranking:
        return (said,), ""
    own, *named = [names.find(word) or names.text_form(word) for word in (said, *ranking)]
    fits = own == named[0] if reads == "ranking" else own in named
    return ranking, "" if fits else "conflict: the answer and the ranking differ"


def check_options(state: State) -> None:
    """Refuse fixed options that no vote could be held on, before anything is asked (ConfigError)."""
    ids = [oid for oid, _ in state.config.task.options]
    BallotBox.open("the task's options", ids, state.config.electorate)
    seen: dict[str, str] = {}
    for oid in ids:
        key = normalise(oid)
        if not key or key in seen or key in ("abstain", "none"):
            other = f"reads like {seen.get(key, key)!r}" if key else "is only punctuation"
            raise ConfigError(f"option id {oid!r} {other}: replies could not tell them apart; give ids like A, B, C")
        seen[key] = oid
