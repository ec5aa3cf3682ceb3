"""`proposal`: drafts become one frozen plan, and the panel votes on exactly that plan, by its digest.

    draft ──▶ select ──▶ ballot ──▶ approved
      (several drafts)     │  ▲
                           ▼  │  objections
                         revise ── the same plan again ──▶ deadlock

Proposers draft while critics and auditors name their concerns, independently. Several distinct drafts are narrowed to
one by ballots in which nobody may choose their own. The plan is frozen with its digest, voted on (approve, reject,
abstain), and on refusal revised by its author with the objections, at most `rounds` times. Each version has an id of
its own; a ballot belongs to one version and is never carried over.

Frozen means pinned, too. When a plan arrives, code looks at the tree and records with it, as facts, what each file
that the plan writes or patches holds (`facts["plan"]["sha256_before"]`, by step), or why the plan cannot be carried out
there (`facts["plan"]["problem"]`). The subject is filled from these facts, so that a replay needs no tree. A plan that
cannot be carried out is voted on as any other, but not unseen: the problem is part of the subject
(`content.plan_problems`), and the revision gets it as an objection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..ballots import BallotBox
from ..canonical import digest
from ..proposal import RISK_KINDS, STOP_CONDITION_KINDS
from ..rules import decide, parse_rule
from ..state import Answer, Ask, Closed, Stage, State
from ..stopping import DebateView, Stop
from .base import MOTION, ByRule, cast_choice, normalise, option_names, poll_view, seats_ask
from .subject import subject_body

__all__ = ["MotionProtocol", "Version"]

PROBLEM_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Version:
    """One frozen plan: its place in the debate (1-based), its author, the draft, and what code checked about it.

    `stage`: the number of the stage that brought it; a ballot in a later stage is a ballot on it or on a successor.
    """

    number: int
    stage: int
    author: str
    draft: Mapping[str, Any]
    facts: Mapping[str, Any]
    selected_by: str = "only_draft"


class MotionProtocol(ByRule):
    """See the module's docstring."""

    def first(self, state: State) -> Stage:
        voters = state.config.voters
        proposers = {seat.agent for seat in voters if seat.role == "proposer"} or {
            seat.agent for seat in voters if seat.role == "debater"
        }
        if not proposers:
            proposers = {seat.agent for seat in voters}
        asks = tuple(Ask(seat.agent, "draft" if seat.agent in proposers else "concern") for seat in voters)
        return Stage(1, "draft", 1, asks)

    def next(self, state: State) -> Stage | Stop:
        closed = state.closed[-1]
        after = {
            "draft": self.after_drafts,
            "select": self.ballot_stage,
            "ballot": self.after_ballot,
            "revise": self.after_revision,
        }.get(closed.stage.kind)
        if after is not None:
            return after(state)
        versions = self.versions(state)  # a mediation closed: a modified proposal gets one vote, anything else none
        if versions and versions[-1].stage == closed.stage.number:
            return self.ballot_stage(state)
        return Stop("max_rounds", {"rounds": self.round(state), "max_rounds": state.config.rounds})

    def after_drafts(self, state: State) -> Stage | Stop:
        drafts = self.drafts(state)
        if not drafts:
            return Stop("quorum_lost", {"drafts": 0, "asked": len(state.closed[-1].stage.asks)})
        return self.select_stage(state, drafts) if len(drafts) > 1 else self.ballot_stage(state)

    def after_ballot(self, state: State) -> Stage | Stop:
        stop = state.config.stop_(self.view(state))
        if stop is not None:
            return stop
        done, author = self.round(state), self.versions(state)[-1].author
        if done >= state.config.rounds or state.last("mediate") is not None:
            return Stop("max_rounds", {"rounds": done, "max_rounds": state.config.rounds})
        subject = {**self.ballot_subject(state), "objections": self.objections(state)}
        return Stage(len(state.closed) + 1, "revise", done + 1, (Ask(author, "revise"),), subject=subject)

    def after_revision(self, state: State) -> Stage | Stop:
        closed = state.closed[-1]
        versions = self.versions(state)
        if not closed.valid():
            cause = next(iter(closed.answers.values())).cause
            return Stop("deadlock", {"revision": cause or "invalid", "versions": len(versions)})
        if versions[-1].stage != closed.stage.number:
            return Stop("deadlock", {"revision": "unchanged", "versions": len(versions)})
        return self.ballot_stage(state)

    def landing(self, state: State) -> Stage | None:
        if not self.versions(state) or self.voted(state):
            return None
        return self.ballot_stage(state)

    def landing_asks(self, state: State) -> tuple[Ask, ...]:
        if state.stage is None or state.stage.kind == "ballot":
            return ()
        return seats_ask(state, "ballot")

    def drafts(self, state: State) -> list[tuple[str, str, Answer]]:
        """Distinct valid drafts as (option id, author, answer), ordered by their digest: never by who was faster."""
        closed = next((c for c in state.closed if c.stage.kind == "draft"), None)
        if closed is None:
            return []
        found: dict[str, tuple[str, Answer]] = {}
        for ask in sorted(closed.answers, key=lambda ask: ask.agent):
            answer = closed.answers[ask]
            if ask.kind == "draft" and answer.status == "valid":
                found.setdefault(_draft_key(answer.reply or {}), (ask.agent, answer))
        return [(f"d{i}", *found[key]) for i, key in enumerate(sorted(found), start=1)]

    def select_stage(self, state: State, drafts: list[tuple[str, str, Answer]]) -> Stage:
        options = tuple((oid, str((answer.reply or {}).get("summary", ""))) for oid, _, answer in drafts)
        shown = [
            {"id": oid, **_plain(answer.reply or {}), **_problems(answer.facts, "plan_problems")}
            for oid, _, answer in drafts
        ]
        subject = {"digest": digest([_draft_key(answer.reply or {}) for _, _, answer in drafts]), "drafts": shown}
        return Stage(len(state.closed) + 1, "select", 1, seats_ask(state, "select"), options, subject)

    def selected(self, state: State, drafts: list[tuple[str, str, Answer]]) -> tuple[int, str]:
        """Which draft goes to the vote, and by what: "only_draft", "ballots", or "order" where no ballot was valid."""
        closed = state.last("select")
        if len(drafts) == 1 or closed is None:
            return 0, "only_draft" if len(drafts) == 1 else "order"
        options = closed.stage.options
        own = {author: oid for oid, author, _ in drafts}
        box = BallotBox.open(
            str(closed.stage.subject["digest"]), tuple(o for o, _ in options), state.config.electorate, {}
        )
        names = option_names(options, text_form=normalise)
        for ask, answer in closed.answers.items():
            choices = tuple(str(c) for c in (answer.reply or {}).get("choices") or ())
            if answer.status == "valid" and choices and names.find(choices[0]) == own.get(ask.agent, ""):
                box = box.spoil(ask.agent, "self_vote")
            else:
                box = cast_choice(box, ask.agent, answer, names, choices[:1])
        outcome = decide(parse_rule("plurality"), box.close("not_asked"), quorum=1, tie="earliest")
        if outcome.winner is None:
            return 0, "order"
        return next(i for i, (oid, _, _) in enumerate(drafts) if oid == outcome.winner), "ballots"

    def versions(self, state: State) -> list[Version]:
        """Every frozen plan so far, oldest first. A plan that was there before is no new version: its vote stands."""
        drafts = self.drafts(state)
        ready = state.last("select") is not None or len(drafts) == 1 or state.cut is not None
        if not drafts or not ready:
            return []
        which, by = self.selected(state, drafts)
        _, author, answer = drafts[which]
        first = max(c.stage.number for c in state.closed if c.stage.kind in ("draft", "select"))
        found = [Version(1, first, author, answer.reply or {}, answer.facts, by)]
        seen = {_draft_key(found[0].draft)}
        for closed in (c for c in state.closed if c.stage.kind in ("revise", "mediate")):
            revised = closed.stage.kind == "revise"
            for ask, answer in closed.answers.items():
                draft = answer.reply if revised else _modified(answer.reply or {})
                if answer.status != "valid" or not draft or _draft_key(draft) in seen:
                    continue
                seen.add(_draft_key(draft))
                number, why = len(found) + 1, "revision" if revised else "mediation"
                found.append(Version(number, closed.stage.number, ask.agent, draft, answer.facts, why))
        return found

    def voted(self, state: State) -> bool:
        """Whether the latest version has had its vote."""
        versions = self.versions(state)
        brought = versions[-1].stage if versions else 0
        return any(c.stage.kind == "ballot" and c.stage.number > brought for c in state.closed)

    def round(self, state: State) -> int:
        return max((c.stage.round for c in state.closed if c.stage.kind == "ballot"), default=0)

    def ballot_stage(self, state: State) -> Stage:
        number, subject = len(state.closed) + 1, self.ballot_subject(state)
        round_ = self.round(state) + 1
        return Stage(number, "ballot", round_, seats_ask(state, "ballot"), MOTION, subject)

    def ballot_subject(self, state: State) -> dict[str, Any]:
        body = subject_body(state, self.subject(state))
        keys = ("proposal_id", "content", "plan", "risks", "evidence", "stop_conditions")
        return {"digest": body["subject_digest"], **{key: body[key] for key in keys}}

    def objections(self, state: State) -> list[str]:
        """What the seats that did not approve said against the latest version, sorted."""
        closed = state.last("ballot")
        versions = self.versions(state)
        found = set(_problems(versions[-1].facts, "said").get("said", ())) if versions else set()
        for reply in closed.valid().values() if closed else ():
            if reply.get("decision") != "approve":
                found |= {str(text)[:500] for text in reply.get("objections") or (reply.get("notes"),) if text}
        return sorted(found)

    def ballots(self, state: State, closed: Closed) -> BallotBox:
        words = tuple(oid for oid, _ in MOTION)
        box = BallotBox.open(str(closed.stage.subject["digest"]), words, state.config.electorate, {})
        names = option_names(MOTION)
        for ask, answer in closed.answers.items():
            box = cast_choice(box, ask.agent, answer, names, (str((answer.reply or {}).get("decision", "")),))
        return box

    def live(self, state: State, so_far: Closed) -> BallotBox:
        return self.ballots(state, so_far)

    def options(self, state: State) -> tuple[tuple[str, str], ...]:
        return MOTION

    def box(self, state: State) -> BallotBox:
        closed = state.last("ballot")
        if closed is None or not self.voted(state):
            versions = self.versions(state)
            subject = digest(_plain(versions[-1].draft)) if versions else digest([])
            empty = BallotBox.open(subject, tuple(oid for oid, _ in MOTION), state.config.electorate, {})
            return empty.close(state.cut.reason if state.cut else "not_asked")
        return self.ballots(state, closed).close("not_asked")

    def view(self, state: State) -> DebateView:
        """What the stop conditions look at: one record a ballot."""
        ballots = [closed for closed in state.closed if closed.stage.kind == "ballot"]
        return poll_view(state, [(closed, self.ballots(state, closed)) for closed in ballots], "objections")

    def subject(self, state: State) -> dict[str, Any]:
        versions = self.versions(state)
        if not versions:
            return {
                "content": {"question": state.config.task.question, "summary": None},
                "proposer": "panel",
                "version": 1,
            }
        latest = versions[-1]
        draft = latest.draft
        content: dict[str, Any] = {
            "question": state.config.task.question,
            "summary": draft.get("summary", ""),
            "author": latest.author,
            "selected_by": latest.selected_by,
            **({"details": draft["content"]} if draft.get("content") else {}),
            **_problems(latest.facts, "plan_problems"),
        }
        if len(versions) > 1:
            content["supersedes"] = f"{state.config.debate_id}-p{len(versions) - 1}"
        checked = list(latest.facts.get("evidence") or ())
        evidence = [
            {"id": f"E{i}", **item, "verified": checked[i - 1] if i <= len(checked) else None}
            for i, item in enumerate(draft.get("evidence") or (), start=1)
        ]
        return {
            "content": content,
            "proposer": latest.author,
            "version": len(versions),
            "plan": _pinned(draft.get("plan") or (), latest.facts),
            "risks": [_closed(note, RISK_KINDS) for note in draft.get("risks") or ()],
            "evidence": evidence,
            "stop_conditions": [_closed(note, STOP_CONDITION_KINDS) for note in draft.get("stop_conditions") or ()],
        }


def _plain(draft: Mapping[str, Any]) -> dict[str, Any]:
    return {key: draft.get(key) for key in ("summary", "plan", "risks", "evidence", "stop_conditions", "content")}


def _problems(facts: Mapping[str, Any], key: str) -> dict[str, list[str]]:
    """Why code says that the plan cannot be carried out, under `key`; nothing where it can, or nobody looked."""
    problem = str((facts.get("plan") or {}).get("problem") or "")
    return {key: [problem[:PROBLEM_CHARS_MAX]]} if problem else {}


def _pinned(plan: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps, each with the state of its file when the plan arrived. What a step says itself stays as it is."""
    known = (facts.get("plan") or {}).get("sha256_before") or {}
    pins = {index: {"sha256_before": known[str(index)]} for index in range(len(plan)) if str(index) in known}
    return [
        dict(step) if step.get("sha256_before") else {**step, **pins.get(index, {})} for index, step in enumerate(plan)
    ]


def _modified(mediation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The plan that a mediator puts to the vote; what comes beside common ground or a recommendation is none."""
    return mediation.get("draft") if mediation.get("kind") == "modified_proposal" else None


def _draft_key(draft: Mapping[str, Any]) -> str:
    return digest(_plain(draft))


def _closed(note: Mapping[str, Any], kinds: tuple[str, ...]) -> dict[str, str]:
    """A note of the closed vocabulary; a word outside of it is kept in the note, under "other"."""
    kind, text = str(note.get("kind", "other")), str(note.get("note", ""))
    return {"kind": kind, "note": text} if kind in kinds else {"kind": "other", "note": f"{kind}: {text}".rstrip(": ")}
