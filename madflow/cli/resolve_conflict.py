"""`madflow resolve-conflict`: one attempt to bring an undecided or rejected plan to a decision.

With a model, a mediator is asked once. The vehicle is a debate of the protocol `proposal` with the fallback "mediator":
its seats are the panel's, played by code that says what each of them said, so that the mediator's call is prompted,
budgeted, recorded and resumed like any other. It is named by the vote it mediates: the same conflict is paid for once.
A modified plan becomes a proposal of its own, under the same panel and rule, and nobody's ballot is carried over.

Without a model, or where the mediator offers no plan, code says what would decide the vote (`core.panel_advice`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import ConfigError, MadflowError, PermanentModelError, PlanError
from .exits import DONE, UNDECIDED
from .options import check_root, ledger_option, ledger_path, open_for_reading, open_for_writing
from .output import note, print_text
from .propose import parse_duration
from .summary import command_line, count, where_words
from .text import json_text, one_line

if TYPE_CHECKING:
    from ..core.limits import Budget
    from ..core.panel_request import PlanFile
    from ..core.proposal import PanelMember
    from ..panel.resolve import Conflict
    from ..ports import Ledger, TurnView

__all__ = ["Mediation", "command", "mediate", "modified"]

_DRAFT_STEPS_MAX: Final = 50
_DRAFT_BYTES_MAX: Final = 200_000
_CALLS: Final = 300
Mediation = Mapping[str, Any]
"""{"debate": id, "kind", "text", "draft"}, or {"debate": id, "why": what kept the mediator from answering}."""


@click.command("resolve-conflict")
@click.argument("proposal_id", metavar="ID")
@click.option("--model", metavar="NAME", default="", help="The mediator's model; without one, code recommends.")
@click.option("--api-base", metavar="URL", default="", help="Base URL of an OpenAI-compatible server.")
@click.option(
    "--tokens", type=click.IntRange(1), default=50_000, show_default=True, help="Cap on the mediator's tokens."
)
@click.option("--usd", metavar="DOLLARS", default=None, help="Cap on money, e.g. 0.50.")
@click.option("--seconds", type=click.IntRange(1), default=300, show_default=True, help="Cap on the whole mediation.")
@click.option(
    "--expires", metavar="TIME", default="24h", show_default=True, help="Voting on a modified plan ends then."
)
@ledger_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print what came of it as JSON on stdout, and nothing else there."
)
def command(
    proposal_id: str,
    *,
    model: str,
    api_base: str,
    tokens: int,
    usd: str | None,
    seconds: int,
    expires: str,
    root: str,
    ledger: str,
    as_json: bool,
) -> int:
    """Mediate over the proposal ID of a panel or a debate, if it is undecided or rejected.

    Ends in a modified proposal with an id of its own, which is voted on anew (exit 0), or in a recommendation: what
    would decide the vote, and what is objected to, by step (exit 3).
    """
    from ..core.limits import Budget
    from ..core.panel_request import EXPIRES_S_MAX
    from ..panel.resolve import find_conflict, mediable, record_recommendation

    tree, expires_s = check_root(root), parse_duration("--expires", expires, EXPIRES_S_MAX // 86_400)
    where = where_words(root, ledger)
    budget = Budget.of(tokens=tokens, usd=usd, seconds=seconds, calls=_CALLS, call_seconds=min(60, seconds))
    path = ledger_path(ledger, tree)
    reading = open_for_reading(path)
    try:
        find_conflict(reading, proposal_id)
    finally:
        reading.close()
    opened = open_for_writing(path)

    async def run() -> int:
        conflict = find_conflict(opened, proposal_id)
        if conflict.superseded_by and not model:
            return _report_modified(conflict.superseded_by, proposal_id, where, as_json=as_json)
        mediation: dict[str, Any] = {}
        why = mediable(conflict) if model else ""
        if model and not why:
            mediation = dict(await mediate(opened, conflict, model=model, api_base=api_base, budget=budget))
            plan = modified(mediation)
            if isinstance(plan, str):
                why = plan
            else:
                new = await _propose(opened, conflict, plan, mediation, root=tree, expires_s=expires_s)
                return _report_modified(new, proposal_id, where, as_json=as_json)
        recommendation = {**conflict.advice.to_json(), "mediation": _without_draft(mediation) or None, "why": why}
        await record_recommendation(opened, conflict, recommendation)
        if as_json:
            print_text(json_text({"proposal_id": proposal_id, "modified": None, "recommendation": recommendation}))
        else:
            print_text(_text(conflict, recommendation))
        return UNDECIDED

    try:
        return asyncio.run(run())
    finally:
        opened.close()


async def mediate(
    ledger: Ledger,
    conflict: Conflict,
    *,
    model: str | Callable[..., Awaitable[Any]] | Any,
    api_base: str = "",
    budget: Budget | None = None,
) -> Mediation:
    """Ask a mediator once; the same conflict again gives the same answer, from the ledger.

    Args:
        model: a model's name, a `ModelClient`, or an async callable that takes a `TurnView`.

    Raises:
        UsageError and its kinds before the call (no key, a budget too small, a plan too large to be mediated).
    """
    from ..core.canonical import canonical, digest
    from ..core.limits import Budget
    from ..core.messages import Agent
    from ..debate.run import Pending, run
    from ..debate.setup import Debate
    from ..models.http_pool import aclose_all
    from ..panel.history import MEDIATION_TASK

    body, draft = conflict.body, _draft(conflict.body)
    size = len(canonical(draft))
    if len(draft["plan"]) > _DRAFT_STEPS_MAX or size > _DRAFT_BYTES_MAX:
        raise ConfigError(
            f"proposal {conflict.proposal_id!r} is too large for a mediator ({len(draft['plan'])} steps, {size} bytes; "
            f"the limits: {_DRAFT_STEPS_MAX} steps, {_DRAFT_BYTES_MAX} bytes); leave out --model for a recommendation"
        )
    weights = {str(vote["agent"]): int(vote["weight"]) for vote in body["votes"]}
    seats = [
        Agent(str(vote["agent"]), _seat(vote, draft, conflict), weight=int(vote["weight"]), family="recorded")
        for vote in body["votes"]
    ]
    name = next(name for name in ("mediator", *(f"mediator-{n}" for n in range(1, 66))) if name not in weights)
    cast = [[v["agent"], v["decision"], v["notes"]] for v in body["votes"] if v["decision"] != "missing"]
    debate_id = f"m-{digest([conflict.proposal_id, body['subject_digest'], cast])[:20]}"
    question = str(body["content"].get("question") or draft["summary"])
    debate = Debate(
        task={"task_id": f"{MEDIATION_TASK}{conflict.proposal_id}", "question": question},
        agents=[*seats, Agent(name, model, role="mediator", max_output_tokens=4_096)],
        protocol="proposal",
        rule=str(body["rule"]),
        rounds=1,
        fallback=["mediator"],
        budget=budget or Budget.of(tokens=50_000, seconds=300, calls=_CALLS),
        id=debate_id,
        ledger=ledger,
        api_base=api_base or None,
    )
    try:
        landed = await run(debate)
    finally:
        await aclose_all()
    if isinstance(landed, Pending):
        raise MadflowError(f"mediation {debate_id!r} waits for a human, and none is asked here")
    said = landed.decision.mediation
    if said is None:
        return {
            "debate": debate_id,
            "why": f"the mediator gave no answer that could be used ({landed.decision.stop_reason})",
        }
    return {"debate": debate_id, **said}


def modified(mediation: Mediation) -> PlanFile | str:
    """The plan that a mediator offers, or why there is none. Nothing is believed of the tree that it did not see."""
    from ..core.panel_request import parse_plan_file

    draft = mediation.get("draft")
    if mediation.get("why"):
        return str(mediation["why"])
    if mediation.get("kind") != "modified_proposal" or not draft:
        return "the mediator offers no modified plan"
    keys = ("summary", "risks", "evidence", "stop_conditions", "content")
    plan = [{key: value for key, value in step.items() if key != "sha256_before"} for step in draft["plan"]]
    content = {key: value for key, value in dict(draft.get("content") or {}).items() if key != "supersedes"}
    try:
        return parse_plan_file(
            {**{key: draft[key] for key in keys if draft.get(key)}, "plan": plan, "content": content}
        )
    except PlanError as error:
        return f"the mediator's plan cannot be used: {error}"


async def _propose(
    ledger: Ledger, conflict: Conflict, plan: PlanFile, mediation: Mediation, *, root: Path, expires_s: int
) -> str:
    """Put the modified plan to the same panel; the id of the proposal that took the old one's place.

    The old one is superseded first: a vote that is approved meanwhile stands, and nothing is proposed beside it.
    """
    from ..core.canonical import digest
    from ..debate.evidence import check_evidence
    from ..effects.freeze import freeze_plan
    from ..effects.own import protected_paths
    from ..panel.api import propose
    from ..panel.resolve import replace_with

    # A plan that does not fit the tree supersedes nothing.
    freeze_plan(list(plan.plan), root, protected=protected_paths(root, ledger, None))
    name = f"{conflict.proposal_id[:80]}.m-{digest(list(plan.plan))[:8]}"
    taken = await replace_with(ledger, conflict, name)
    if taken != name:
        return taken
    about = {"mediation": {"debate": str(mediation["debate"]), "text": str(mediation.get("text", ""))[:2_000]}}
    return await propose(
        ledger,
        plan.model_copy(update={"content": {**plan.content, **about}}),
        panel=_panel(conflict.body),
        proposer="mediator",
        rule=str(conflict.body["rule"]),
        expires_s=expires_s,
        root=root,
        proposal_id=name,
        verify=lambda claims: check_evidence(claims, root=root),
        supersedes=conflict.proposal_id,
    )


def _panel(body: Mapping[str, Any]) -> tuple[PanelMember, ...]:
    """The seats that hold a ballot, with their weights and families."""
    from ..core.proposal import PanelMember

    voters = {str(vote["agent"]) for vote in body["votes"]}
    return tuple(
        PanelMember.model_validate({**member, "role": "voter"}) for member in body["panel"] if member["agent"] in voters
    )


def _draft(body: Mapping[str, Any]) -> dict[str, Any]:
    """The plan as a seat of a debate drafts it. What pins it to a tree stays behind: it is pinned anew."""
    plan = [{k: v for k, v in step.items() if k != "sha256_before" and v is not None} for step in body["plan"]]
    evidence = [{key: item[key] for key in ("kind", "ref", "quote")} for item in body["evidence"]]
    summary = str(body["content"].get("summary") or count(len(plan), "step"))
    return {
        "summary": summary,
        "plan": plan,
        "risks": [dict(risk) for risk in body["risks"]],
        "evidence": evidence,
        "stop_conditions": [dict(condition) for condition in body["stop_conditions"]],
    }


def _seat(
    vote: Mapping[str, Any], draft: Mapping[str, Any], conflict: Conflict
) -> Callable[[TurnView], Awaitable[Mapping[str, Any]]]:
    """A seat that says again what it said, and nothing else: it is not asked about a plan it has not seen."""
    said = [item.text for item in conflict.objections if item.agent == vote["agent"]]

    async def speak(view: TurnView) -> Mapping[str, Any]:
        if view.stage == "draft":
            return draft
        if view.stage != "ballot" or view.round > 1:
            raise PermanentModelError("not_asked", f"{vote['agent']} votes on a modified plan when it is proposed")
        if vote["decision"] not in ("approve", "reject", "abstain"):
            raise PermanentModelError("not_voted", f"{vote['agent']} cast no valid ballot ({vote['decision']})")
        reply = {"decision": vote["decision"], "notes": str(vote["notes"]), "confidence": vote["confidence"]}
        against = said or ([str(vote["notes"])] if vote["notes"] else [])
        return {**reply, "objections": against if vote["decision"] == "reject" else []}

    return speak


def _without_draft(mediation: Mediation) -> dict[str, Any]:
    return {key: value for key, value in mediation.items() if key != "draft"}


def _report_modified(new: str, old: str, where: Sequence[str], *, as_json: bool) -> int:
    if as_json:
        print_text(json_text({"proposal_id": old, "modified": new, "recommendation": None}))
    else:
        print_text(f"{new}\n")
        vote = command_line("vote", new, "--agent", "NAME", "--decision", "approve|reject|abstain", where=where)
        note(f"proposal {new!r} takes the place of {old!r} and is voted on anew: {vote}")
    return DONE


def _text(conflict: Conflict, recommendation: Mapping[str, Any]) -> str:
    """The recommendation for people."""
    advice, body = conflict.advice, conflict.body
    state = "open" if advice.open else str(body["decision"]["result"])
    lines = [f"{conflict.proposal_id}: {state}, under {body['rule']}"]
    lines += [f"No modified plan: {one_line(str(recommendation['why']), 300)}"] if recommendation["why"] else []
    said = recommendation["mediation"] or {}
    lines += ["", f"The mediator: {one_line(str(said['text']), 1_000)}"] if said.get("text") else []
    when = "if it votes so" if advice.open else "in a new vote, if it approved and the others voted as they did"
    for word, sets in (("approve", advice.approve), ("reject", advice.reject)):
        if sets:
            lines += ["", f"Would {word} it, {when}:", *(f"  {', '.join(names)}" for names in sets)]
    if not advice.approve:
        lines += ["", "No ballots that are still possible would approve it."]
    for step, items in advice.by_step:
        lines += ["", f"Objections to step {step}:"]
        lines += [f"  {item.agent}: {one_line(item.text, 300)}" for item in items]
    if advice.general:
        lines += ["", "Objections that name no step:"]
        lines += [f"  {item.agent}: {one_line(item.text, 300)}" for item in advice.general]
    if advice.untouched:
        steps = ", ".join(str(step) for step in advice.untouched)
        those = "step" if len(advice.untouched) == 1 else "steps"
        lines += [
            "",
            f"Nobody objects to {those} {steps}: a plan without the others could be proposed, if it makes sense so.",
        ]
    return "\n".join(lines) + "\n"
