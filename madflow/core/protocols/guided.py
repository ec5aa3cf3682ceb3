"""`answer` under a policy: the policy says whom else to ask, when it is enough, and what the answers come to.

A round may be held in parts: the policy asks some seats, looks at what they said, and asks more of the same round or
stops. Who is next is drawn from (debate, round), never from the panel's order, among those whom the policy prefers. A
seat that is asked later in a round is shown the same as one that was asked first: the rounds before, whole.

An open question stays open: an answer of a later round that is none of the options so far becomes one.

The decision is the policy's verdict, not a rule's: `approved` is the one answer with the greatest share, where the
policy does not abstain. Where it does, as with an answer that it holds less likely than one that nobody gave, there is
no decision, and the fallbacks have their turn. The quorum is one of the seats that were asked. Seats that the policy
left out are missing (`not_asked`), and every other ballot is accounted for as in every debate; the one that counts as a
seat's vote is its latest, and the verdict, which may pool several, is in `content.policy` with its shares.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from ..ballots import BallotBox
from ..canonical import digest
from ..policies import Ask as AskMore
from ..policies import Debated, Policy, Reliabilities, Said, Verdict
from ..quorum import quorum
from ..rules import Outcome
from ..state import Ask, Closed, Stage, State, whole_rounds
from ..stopping import Stop
from ..topology import order
from .answer import AnswerProtocol, check_options
from .base import OptionNames, answer_form, cast_choice, normalise, option_names

__all__ = ["GuidedProtocol", "debated_of"]

_SHARE = ".6f"  # shares are floats: what enters a digest is rounded far above their last bits


def debated_of(state: State) -> Debated:
    """A debate as policies see it: the rounds that count, by seat."""
    return GuidedProtocol().debated(state)


class GuidedProtocol(AnswerProtocol):
    """See the module's docstring."""

    def first(self, state: State) -> Stage:
        check_options(state)
        step = _policy(state).next(self.debated(state), _learned(state))
        if isinstance(step, Stop):  # no policy stops before its first vote; one that did would decide nothing
            step = AskMore(1, 1)
        return self._stage(state, step)

    def next(self, state: State) -> Stage | Stop:
        if state.closed[-1].stage.kind == "mediate" and state.stop is not None:
            return state.stop
        debated = self.debated(state)
        step = _policy(state).next(debated, _learned(state))
        last = self._rounds(state)[-1]
        over = isinstance(step, Stop) or step.round > last.stage.round
        if over and all(answer.status == "missing" for answer in last.answers.values()):
            return Stop("quorum_lost", {"live_weight": 0, "quorum": self.quorum(state)})
        return step if isinstance(step, Stop) else self._stage(state, step)

    def polls(self, state: State) -> list[Closed]:
        """The rounds that count. A part that was cut does not, where there is any that was not."""
        asked = [closed for closed in state.closed if closed.stage.kind in _POLLS]
        return whole_rounds(closed for closed in asked if not closed.cut) or whole_rounds(asked)[:1]

    def options(self, state: State) -> tuple[tuple[str, str], ...]:
        """The question's own options; else every answer that was given, numbered as they came up, round by round."""
        if state.config.task.options:
            return state.config.task.options
        return self._given(state, None)

    def live(self, state: State, so_far: Closed) -> BallotBox:
        """Ballots of an open question name an option that was there when the round began, or say an answer."""
        if state.config.task.options:
            return super().live(state, so_far)
        options = self.options(state)
        names = _names(state, options, so_far.stage.options)  # a later id cannot have been meant
        box = BallotBox.open(self.options_digest(state), tuple(oid for oid, _ in options), state.config.electorate)
        for ask, answer in so_far.answers.items():
            said = str((answer.reply or {}).get("answer", ""))
            abstains = normalise(said) == "abstain"
            if answer.status == "valid" and not abstains and names.find(said) is None:
                box = box.spoil(ask.agent, "unknown_option")
            else:
                box = cast_choice(box, ask.agent, answer, names, (said,))
        return box

    def options_digest(self, state: State) -> str:
        key = ("options_digest", len(state.closed))  # an open question's options grow
        if key not in state.memo:
            state.memo[key] = digest([list(option) for option in self.options(state)])
        return str(state.memo[key])

    def box(self, state: State) -> BallotBox:
        """Each seat's vote: its latest ballot that can be read, where the policy pools rounds; else its latest one."""
        options = tuple(oid for oid, _ in self.options(state))
        latest = self._latest(state)
        box = BallotBox.open(self.options_digest(state), options, state.config.electorate)
        for agent, poll in latest.items():
            entry = self.poll(state, poll).close("not_asked").entries[agent]
            if entry.status == "valid":
                box = box.cast(
                    agent, entry.choices, subject=box.subject, notes=entry.notes, confidence=entry.confidence
                )[0]
            elif entry.status == "abstain":
                box = box.abstain(agent, entry.notes)
            elif entry.status == "invalid":
                box = box.spoil(agent, entry.cause)
            else:
                box = box.miss(agent, entry.cause)
        return box.close("not_asked")

    def voted_in(self, state: State) -> dict[str, int]:
        return {agent: poll.stage.round for agent, poll in self._latest(state).items()}

    def _latest(self, state: State) -> dict[str, Closed]:
        """Seat to the round whose ballot is its vote."""
        latest: dict[str, Closed] = {}
        for poll in self.polls(state):
            entries = self.poll(state, poll).close("not_asked").entries
            for ask in poll.stage.asks:
                readable = entries[ask.agent].status in ("valid", "abstain")
                if readable or ask.agent not in latest or _policy(state).pool == "last":
                    latest[ask.agent] = poll
        return latest

    def debated(self, state: State) -> Debated:
        """The rounds that count, as the policy sees them."""
        key = ("debated", len(state.closed))
        if key not in state.memo:
            rounds = tuple(self._said(state, closed) for closed in self.polls(state))
            config = state.config
            state.memo[key] = Debated(rounds, tuple(config.electorate), config.rounds, len(config.task.options))
        return cast(Debated, state.memo[key])

    def verdict(self, state: State) -> Verdict:
        """What the policy makes of it now."""
        verdict = _policy(state).decide(self.debated(state), _learned(state))
        if state.config.edition > 1:
            return verdict
        return replace(verdict, abstained=not verdict.tied or verdict.confidence < _policy(state).abstain_below)

    def quorum(self, state: State) -> int:
        asked = {ask.agent for closed in self.polls(state) for ask in closed.stage.asks}
        weight = sum(state.config.electorate[agent] for agent in asked)
        return quorum(weight, state.config.faulty) if weight else state.config.quorum

    def outcome(self, state: State, box: BallotBox) -> Outcome:
        verdict, tie = self.verdict(state), state.config.tie
        scores = {option: format(share, _SHARE) for option, share in verdict.shares.items()}
        tied = tuple(oid for oid, _ in self.options(state) if oid in verdict.tied) if len(verdict.tied) > 1 else ()
        if box.tally().valid_weight < max(1, self.quorum(state)):
            return Outcome("quorum_failed", None, (), False, _THRESHOLD, scores, False)
        met = verdict.answer is not None and not verdict.abstained and not tied
        winner = verdict.answer if met else tied[0] if tied and tie == "earliest" and not verdict.abstained else None
        needs_judge = not winner and tie == "judge"
        return Outcome("approved" if winner else "no_decision", winner, tied, needs_judge, _THRESHOLD, scores, met)

    def subject(self, state: State) -> dict[str, Any]:
        subject = super().subject(state)
        verdict, debated = self.verdict(state), self.debated(state)
        policy = {
            "name": _policy(state).name,
            "answer": verdict.answer,
            "tied": list(verdict.tied),
            "abstained": verdict.abstained,
            "confidence": format(verdict.confidence, _SHARE),
            "shares": {option: format(share, _SHARE) for option, share in verdict.shares.items()},
            "asked": [len(spoken) for spoken in debated.rounds],
        }
        return {**subject, "content": {**subject["content"], "policy": policy}}

    def _rounds(self, state: State) -> list[Closed]:
        return whole_rounds(closed for closed in state.closed if closed.stage.kind in _POLLS)

    def _stage(self, state: State, step: AskMore) -> Stage:
        config = state.config
        asked = {
            ask.agent for closed in self._rounds(state) if closed.stage.round == step.round for ask in closed.stage.asks
        }
        drawn = order(tuple(config.electorate), debate_id=config.debate_id, round=step.round, seed=config.seed)
        kind = "position" if step.round == 1 else "discuss"
        wanted = step.chosen([agent for agent in drawn if agent not in asked])
        options = config.task.options or self._given(state, step.round)
        return Stage(len(state.closed) + 1, kind, step.round, tuple(Ask(agent, kind) for agent in wanted), options)

    def _said(self, state: State, closed: Closed) -> tuple[Said, ...]:
        entries = self.poll(state, closed).close("not_asked").entries
        said = []
        for ask in closed.stage.asks:
            entry = entries[ask.agent]
            reply = closed.answers[ask].reply or {}
            answer = entry.choices[0] if entry.status == "valid" else None
            text = str(reply.get("reasoning") or "")
            sure = None if entry.confidence is None else float(entry.confidence)
            said.append(Said(ask.agent, answer, sure, text))
        return tuple(said)

    def _given(self, state: State, before: int | None) -> tuple[tuple[str, str], ...]:
        """The answers of an open question in the rounds before one, or in all: what was said, without edge marks."""
        key = ("options", len(state.closed), before)
        if key not in state.memo:
            options: list[tuple[str, str]] = []
            for closed in self.polls(state):
                if before is not None and closed.stage.round >= before:
                    break
                names = _names(state, options, closed.stage.options)
                fresh: dict[str, str] = {}
                for reply in closed.valid().values():
                    said = str(reply.get("answer", "")).strip()
                    name = names.text_form(said)
                    later = closed.stage.kind == "discuss" and _ID.fullmatch(names.id_form(said))  # shown to nobody
                    if name and normalise(said) != "abstain" and names.find(said) is None and not later:
                        fresh[name] = min(said, fresh.get(name, said))
                options += [(f"o{n}", fresh[name]) for n, name in enumerate(sorted(fresh), start=len(options) + 1)]
            state.memo[key] = tuple(options)
        return cast("tuple[tuple[str, str], ...]", state.memo[key])


def _names(state: State, options: Sequence[tuple[str, str]], shown: Sequence[tuple[str, str]]) -> OptionNames:
    """What names an option of an open question; `shown`: the options whose ids a seat can have meant."""
    if state.config.edition == 1:
        return option_names(options, shown=shown, id_form=_first_form, text_form=_first_form)
    return option_names(options, shown=shown)


def _first_form(text: str) -> str:
    """The form of ids and answers alike under edition 1."""
    return answer_form(text).lstrip(" \"'`*_.,;:!?")


_THRESHOLD = "greatest share"
_POLLS = ("position", "discuss")
_ID = re.compile(r"o[0-9]+", re.ASCII)


def _policy(state: State) -> Policy:
    policy = state.config.policy
    assert policy is not None  # noqa: S101 - this protocol is taken only where there is one
    return policy


def _learned(state: State) -> Reliabilities:
    return state.config.learned or Reliabilities()
