"""`review`: seats look for defects on their own, then vote on each other's findings; code draws the verdict.

    find (each seat, each part of the diff) ──▶ merge by code ──▶ assess (findings of others) ──▶ verdict by code

How claims merge, and the judge of pairs that may be asked between find and assess, are in `review_merge`.

Two things are decided, and kept apart. The *decision* is whether the review may be published: did a quorum of seats
read the change? The *judgement* on the change is `content.verdict`, computed from the findings that survived. A seat
that could read no file abstains, whatever its reply says; where nobody could, the quorum fails and there is no verdict.
Where nobody found anything there is nothing to assess, and the first replies are the ballots.

A finding may carry a suggested patch, which the assessing seats see and vote on. A review that may be published has a
plan (`review_plan`): write the review, apply the accepted patches, run the tests. What the seats vote on is the
findings, patches included; verdict and plan follow from them and from the votes, by code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ConfigError
from ..ballots import BallotBox
from ..canonical import digest
from ..findings import (
    Finding,
    Judged,
    Raised,
    Vote,
    can_judge,
    check_claims,
    coverage,
    judge,
    verdict,
    why_unread,
)
from ..messages import Claim
from ..state import Answer, Ask, Closed, Stage, State
from ..stopping import Stop
from ..suggestions import Suggested, limit_patches, suggested_steps
from ..topology import labels
from .base import MOTION, ByRule, final_outcome, poll_outcome, seats_ask
from .review_merge import joined_by_judge, merge_record, merged_claims, same_stage
from .review_plan import plan_parts

__all__ = ["ReviewProtocol"]


class ReviewProtocol(ByRule):
    """See the module's docstring."""

    def first(self, state: State) -> Stage:
        if state.config.rounds < 2:
            raise ConfigError("a review takes 2 rounds, one to find and one to vote (rounds=1); leave rounds out")
        parts = range(max(1, len(state.config.parts)))
        asks = tuple(Ask(seat.agent, "find", part) for seat in state.config.voters for part in parts)
        return Stage(1, "find", 1, asks)

    def next(self, state: State) -> Stage | Stop:
        if state.closed[-1].stage.kind == "mediate" and state.stop is not None:
            return state.stop  # a mediator's words are kept; they are no ballot
        if state.closed[-1].stage.kind == "find":
            found = state.closed[-1]
            if (asked := same_stage(state, found, self.claims(state, found))) is not None:
                return asked
        if state.closed[-1].stage.kind in ("find", "same") and self.findings(state):
            return self.assess_stage(state)
        rounds = state.closed[-1].stage.round
        box = self.box(state)
        outcome = poll_outcome(state, box)
        if outcome.result in ("approved", "rejected"):
            return Stop("converged", {"round": rounds, "result": outcome.result})
        if outcome.result == "quorum_failed":
            return Stop("quorum_lost", {"valid_weight": box.tally().valid_weight, "quorum": state.config.quorum})
        return Stop("max_rounds", {"rounds": rounds, "max_rounds": state.config.rounds})

    def landing(self, state: State) -> Stage | None:
        if state.last("assess") is not None or not self.findings(state):
            return None
        return self.assess_stage(state)

    def landing_asks(self, state: State) -> tuple[Ask, ...]:
        if state.stage is None or state.stage.kind not in ("find", "same"):
            return ()
        return seats_ask(state, "assess")

    def assess_stage(self, state: State) -> Stage:
        """Every seat votes on the findings; a vote on one's own is not counted."""
        config = state.config
        letters = labels([seat.agent for seat in config.seats], debate_id=config.debate_id, seed=config.seed)
        shown = [
            {
                "id": finding.id,
                "file": finding.file,
                "line": finding.line,
                "severity": finding.severity,
                "text": finding.text,
                "quote": finding.quote,
                "code": finding.code,
                "quote_found": finding.verified,
                "raised_by": sorted(letters[agent] for agent in finding.raised_by),
                **({"patch": finding.patch} if finding.patch else {}),
            }
            for finding in self.findings(state)
        ]
        subject = {"digest": digest(shown), "findings": shown}
        return Stage(len(state.closed) + 1, "assess", 2, seats_ask(state, "assess"), MOTION, subject)

    def find_stage(self, state: State) -> Closed | None:
        return next((closed for closed in state.closed if closed.stage.kind == "find"), None)

    def findings(self, state: State) -> tuple[Finding, ...]:
        """What the seats raised, checked against the diff and merged."""
        found = self.find_stage(state)
        if found is None:
            return ()
        asked = state.last("same")
        key = ("findings", found.stage.number, asked.stage.number if asked else 0)
        if key not in state.memo:
            state.memo[key] = limit_patches(merged_claims(state, found, self.claims(state, found)))
        merged: tuple[Finding, ...] = state.memo[key]
        return merged

    def claims(self, state: State, found: Closed) -> tuple[Raised, ...]:
        """What the seats raised, checked against the diff."""
        key = ("claims", found.stage.number)
        if key not in state.memo:
            asks = sorted(found.answers, key=lambda ask: (ask.agent, ask.part))
            state.memo[key] = tuple(claim for ask in asks for claim in _raised(state, ask, found.answers[ask]))
        claims: tuple[Raised, ...] = state.memo[key]
        return claims

    def judged(self, state: State) -> tuple[Judged, ...]:
        """Every finding and what the other seats made of it."""
        votes = self.finding_votes(state)
        files = {file.path: file for file in state.config.task.files}
        rows = []
        for finding in self.findings(state):
            able = [
                seat.agent
                for seat in state.config.voters
                if can_judge(finding.code, files.get(finding.file), self.languages(state, seat.agent))
            ]
            rows.append(judge(finding, votes.get(finding.id, {}), state.config.electorate, able))
        return tuple(rows)

    def finding_votes(self, state: State) -> dict[str, dict[str, Vote]]:
        """Votes by finding id and agent. Of two votes of a seat on one finding the first counts."""
        assessed = state.last("assess")
        votes: dict[str, dict[str, Vote]] = {}
        if assessed is None:
            return votes
        shown = [str(row["id"]) for row in assessed.stage.subject["findings"]]
        for ask, answer in assessed.answers.items():
            if answer.status == "invalid":
                for finding in shown:
                    votes.setdefault(finding, {})[ask.agent] = Vote(agent=ask.agent, decision="invalid")
            for item in (answer.reply or {}).get("votes") or ():
                if item["finding"] in shown:
                    vote = Vote(
                        agent=ask.agent,
                        decision=item["decision"],
                        notes=str(item.get("notes", ""))[:2000],
                        patch=item.get("patch", "abstain"),
                    )
                    votes.setdefault(item["finding"], {}).setdefault(ask.agent, vote)
        return votes

    def languages(self, state: State, agent: str) -> frozenset[str] | None:
        known = state.config.languages.get(agent)
        return None if known is None else frozenset(known)

    def shown(self, state: State) -> dict[str, list[str]]:
        """By seat that replied: the paths it was shown in parts it answered validly and did not abstain on."""
        found = self.find_stage(state)
        everything = [file.path for file in state.config.task.files]
        seen: dict[str, list[str]] = {}
        for ask, answer in found.answers.items() if found else ():
            if answer.status == "valid":
                paths = list(state.config.parts[ask.part]) if state.config.parts else everything
                abstains = (answer.reply or {}).get("abstain", False)
                seen.setdefault(ask.agent, []).extend([] if abstains else paths)
        return seen

    def read(self, state: State, agent: str) -> bool:
        """Whether the seat read at least one file."""
        paths = set(self.shown(state).get(agent, ()))
        languages = self.languages(state, agent)
        return any(file.path in paths and not why_unread(file, languages) for file in state.config.task.files)

    def options(self, state: State) -> tuple[tuple[str, str], ...]:
        return MOTION

    def live(self, state: State, so_far: Closed) -> BallotBox:
        return self.box(state)

    def box(self, state: State) -> BallotBox:
        """One ballot a seat on publishing the review."""
        subject = digest([finding.model_dump(mode="json") for finding in self.findings(state)])
        box = BallotBox.open(subject, tuple(oid for oid, _ in MOTION), state.config.electorate, {})
        assessed = state.last("assess")
        if assessed is None and self.findings(state):  # nobody has judged them: silence publishes no verdict
            return box.close(state.cut.reason if state.cut else "not_asked")
        for seat in state.config.voters:
            box = self._ballot(state, box, seat.agent, assessed)
        return box.close("not_asked")

    def _ballot(self, state: State, box: BallotBox, agent: str, assessed: Closed | None) -> BallotBox:
        found = self.find_stage(state)
        if assessed is None:
            answers = [a for ask, a in found.answers.items() if ask.agent == agent] if found else []
        else:
            answers = [a for ask, a in assessed.answers.items() if ask.agent == agent]
        if not answers:
            return box
        best = min(answers, key=lambda a: ("valid", "invalid", "missing").index(a.status))
        if best.status == "missing":
            return box.miss(agent, best.cause)
        if best.status == "invalid":
            return box.spoil(agent, best.cause)
        reply: Mapping[str, Any] = best.reply or {}
        notes = str(reply.get("notes") or "")[:2000]
        if not self.read(state, agent):
            return box.abstain(agent, notes or "read no file of this change")
        said = str(reply.get("decision", "approve"))
        if said == "abstain":
            return box.abstain(agent, notes)
        return box.cast(agent, (said,), subject=box.subject, notes=notes)[0]

    def subject(self, state: State) -> dict[str, Any]:
        box = self.box(state)
        outcome, _ = final_outcome(self, state, box)
        judged = self.judged(state)
        held = {path for part in state.config.parts for path in part}
        skipped = {f.path: "over the budget" for f in state.config.task.files if held and f.path not in held}
        shown = self.shown(state)
        languages = {agent: self.languages(state, agent) for agent in shown}
        published = [row for row in judged if row.published]
        steps, patches = suggested_steps(judged, self.finding_votes(state), state.config.electorate)
        merged_by = self._merged_by(state)
        content = {
            "question": state.config.task.question,
            "verdict": verdict(judged) if outcome.result == "approved" else None,
            "findings": [_row(row, patches, merged_by) for row in published],
            "rejected_findings": [_row(row, patches, merged_by) for row in judged if not row.published],
            "coverage": coverage(state.config.task, languages, shown=shown, left_out=skipped),
            **self._merge_told(state),
        }
        evidence = [
            {
                "id": f"E{number}",
                "kind": "diff",
                "ref": f"{row.finding.file}:{row.finding.line}",
                "quote": row.finding.quote,
                "verified": row.finding.verified,
            }
            for number, row in enumerate(published, start=1)
        ]
        parts = plan_parts(state.config, content, steps, self._publishing_votes(state, box))
        return {"content": content, "proposer": "panel", "version": 1, "evidence": evidence, **parts}

    def _merge_told(self, state: State) -> dict[str, Any]:
        found = self.find_stage(state)
        if found is None:
            return {}
        told = merge_record(state, found, self.claims(state, found), len(self.findings(state)))
        return {"merge": told} if told else {}

    def _merged_by(self, state: State) -> dict[str, str]:
        """By finding: the judge of pairs that brought claims of it together."""
        found = self.find_stage(state)
        if found is None:
            return {}
        joined = joined_by_judge(state, found, self.claims(state, found), self.findings(state))
        return dict.fromkeys(joined, state.config.merge.judge)

    def _publishing_votes(self, state: State, box: BallotBox) -> list[dict[str, Any]]:
        """Each seat's ballot on publishing the review, as its document tells it."""
        rows = []
        for seat in state.config.voters:
            entry = box.entries[seat.agent]
            said = " > ".join(entry.choices) if entry.status == "valid" else entry.status
            notes = entry.notes if entry.status in ("valid", "abstain") else entry.cause
            rows.append(
                {"agent": seat.agent, "role": seat.role, "decision": said, "notes": notes, "weight": seat.weight}
            )
        return rows


def _raised(state: State, ask: Ask, answer: Answer) -> tuple[Raised, ...]:
    """One reply's findings, checked; whether their patches apply was recorded with the reply."""
    claims = [
        Claim(
            text=item["text"],
            file=item["file"],
            line=item["line"],
            severity=item["severity"],
            quote=item.get("quote", ""),
            code=item.get("code", ""),
            patch=item.get("patch", ""),
        )
        for item in (answer.reply or {}).get("findings") or ()
    ]
    return check_claims(state.config.task, ask.agent, claims, answer.facts.get("patches"))


def _row(judged: Judged, patches: Mapping[str, Suggested], merged_by: Mapping[str, str]) -> dict[str, Any]:
    finding = judged.finding
    suggested = patches.get(finding.id)
    patch = {
        "text": finding.patch,
        "by": finding.patch_by,
        "status": suggested.status if suggested else "",
        "note": suggested.note if suggested else "",
    }
    return {
        **({"patch": patch} if suggested else {}),
        "id": finding.id,
        "file": finding.file,
        "line": finding.line,
        "severity": judged.severity,
        "text": finding.text,
        "quote": finding.quote,
        "code": finding.code,
        "status": judged.status,
        "verified": finding.verified,
        "note": finding.note,
        "raised_by": list(finding.raised_by),
        "lineage": [item.model_dump(mode="json", exclude=_LINEAGE) for item in finding.lineage],
        **({"merged_by": merged_by[finding.id]} if finding.id in merged_by else {}),
        "votes": judged.tally,
        "unable": list(judged.unable),
        "dissent": [vote.model_dump(mode="json", exclude={"patch"}) for vote in judged.dissent],
    }


_LINEAGE = {"file", "patch", "patch_before"}
