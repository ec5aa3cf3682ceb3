"""`answer` under a policy: the policy says whom else to ask, when it is enough, and what the answers come to.

A round may be held in parts: the policy asks some seats, looks at what they said, and asks more of the same round or
stops. Who is next is drawn from (debate, round), never from the panel's order, among those whom the policy prefers. A
seat that is asked later in a round is shown the same as one that was asked first: the rounds before, whole.

An open question stays open: an answer of a later round that is none of the options so far becomes one.

The decision is the policy's verdict, not a rule's: `approved` is the one answer with the greatest share, where the
policy does not abstain. The quorum is one of the seats that were asked. Seats that the policy left out are missing
(`not_asked`), and every other ballot is accounted for as in every debate; the one that counts as a seat's vote is its
latest, and the verdict, which may pool several, is in `content.policy` with its shares.
"""

from __future__ import annotations

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
from .base import normalise, option_index

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
        if isinstance(step, Stop):
            return step
        last = self._rounds(state)[-1]
        if step.round > last.stage.round and all(answer.status == "missing" for answer in last.answers.values()):
            return Stop("quorum_lost", {"live_weight": 0, "quorum": self.quorum(state)})
        return self._stage(state, step)

    def polls(self, state: State) -> list[Closed]:
        rounds = self._rounds(state)
        whole = [closed for closed in rounds if not closed.cut]
        return whole or rounds[:1]

    def options(self, state: State) -> tuple[tuple[str, str], ...]:
        """The question's own options; else every answer that was given, numbered as they came up, round by round."""
        if state.config.task.options:
            return state.config.task.options
        key = ("options", len(state.closed))
        if key not in state.memo:
            state.memo[key] = self._given(state)
        return tuple(state.memo[key])

    def options_digest(self, state: State) -> str:
        key = ("options_digest", len(state.closed))  # an open question's options grow
        if key not in state.memo:
            state.memo[key] = digest([list(option) for option in self.options(state)])
        return str(state.memo[key])

    def box(self, state: State) -> BallotBox:
        """Each seat's latest ballot."""
        options = tuple(oid for oid, _ in self.options(state))
        latest = {ask.agent: poll for poll in self.polls(state) for ask in poll.stage.asks}
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
        return _policy(state).decide(self.debated(state), _learned(state))

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
        return whole_rounds(closed for closed in state.closed if closed.stage.kind in ("position", "discuss"))

    def _stage(self, state: State, step: AskMore) -> Stage:
        config = state.config
        asked = {
            ask.agent for closed in self._rounds(state) if closed.stage.round == step.round for ask in closed.stage.asks
        }
        drawn = order(tuple(config.electorate), debate_id=config.debate_id, round=step.round, seed=config.seed)
        kind = "position" if step.round == 1 else "discuss"
        wanted = step.chosen([agent for agent in drawn if agent not in asked])
        options = config.task.options if step.round == 1 else self.options(state)
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

    def _given(self, state: State) -> tuple[tuple[str, str], ...]:
        options: list[tuple[str, str]] = []
        for closed in self.polls(state):
            known = option_index(tuple(options)) if closed.stage.kind == "discuss" else {}
            fresh: dict[str, str] = {}
            for reply in closed.valid().values():
                said = str(reply.get("answer", "")).strip()
                key = normalise(said)
                if key and key != "abstain" and key not in known:
                    fresh[key] = min(said, fresh.get(key, said))
            options += [(f"o{n}", fresh[key]) for n, key in enumerate(sorted(fresh), start=len(options) + 1)]
        return tuple(options)


_THRESHOLD = "greatest share"


def _policy(state: State) -> Policy:
    policy = state.config.policy
    assert policy is not None  # noqa: S101 - this protocol is taken only where there is one
    return policy


def _learned(state: State) -> Reliabilities:
    return state.config.learned or Reliabilities()
