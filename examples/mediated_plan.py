"""A plan is drafted, voted down, mediated, and passed: the panel votes on exactly one frozen text each time."""

from madflow import Agent, Debate, Proposal, TurnView, run_sync

WRITE = {"step": "write", "target": "file:config/queue.toml", "content": "attempts = 3\n"}
DRAFT = {"summary": "Three attempts in the queue", "plan": [WRITE]}
TEST = {"step": "test", "cmd": ["pytest", "tests/test_queue.py"]}
ROLLBACK = {"kind": "rollback", "note": "put the old file back"}


async def voter(view: TurnView) -> dict[str, object]:
    """The proposer drafts; the critic looks for a test in what is voted on, the auditor for a way back."""
    role, plan = view.seat.role, view.subject
    if not plan:
        return DRAFT if role == "proposer" else {"claims": []}
    if role == "critic" and not any(step["step"] == "test" for step in plan["plan"]):
        return {"decision": "reject", "objections": ["no test"]}
    if role == "auditor" and not any(risk["kind"] == "rollback" for risk in plan["risks"]):
        return {"decision": "reject", "objections": ["no way back"]}
    return {"decision": "approve"}


async def mediator(view: TurnView) -> dict[str, object]:
    said = str(view.transcript)
    plan = [*view.subject["plan"], *([TEST] if "no test" in said else [])]
    risks = [*view.subject["risks"], *([ROLLBACK] if "no way back" in said else [])]
    return {"kind": "modified_proposal", "text": "both", "draft": {**DRAFT, "plan": plan, "risks": risks}}


def main() -> Proposal:
    agents = [Agent(role, voter, role=role) for role in ("proposer", "critic", "auditor")]
    agents += [Agent("mediator", mediator, role="mediator")]
    proposal = run_sync(Debate(task="Retries?", agents=agents, protocol="proposal", rounds=1, fallback=["mediator"]))
    assert isinstance(proposal, Proposal)
    return proposal


if __name__ == "__main__":
    print([step.step for step in main().plan])
