"""The smallest debate: three agents, one question. Agents are functions here; a model's name would do as well."""

from statistics import median

from madflow import Agent, Debate, Proposal, TurnView, run_sync

LOSS = {"optimist": 0.005, "realist": 0.2, "pessimist": 0.5}  # how often each believes a request is lost
OPTIONS = [("1", "one attempt"), ("3", "three attempts"), ("10", "ten attempts")]


async def agent(view: TurnView) -> dict[str, object]:
    """Round 1: the fewest attempts that lose less than 1 in 100. Later: the middle of what everybody said."""
    if view.round == 1:
        loss = LOSS[view.seat.agent]
        answer = next((oid for oid, _ in OPTIONS if loss ** int(oid) < 0.01), "10")
        return {"reasoning": f"I lose {loss:.0%} of all requests", "answer": answer}
    said = [int(text.split("Ballot: ")[1]) for _, _, text in view.transcript if "Ballot: " in text]
    return {"answer": str(int(median(said)))}


def main() -> Proposal:
    debate = Debate(
        task={"question": "How many attempts should a request get?", "options": OPTIONS},
        agents=[Agent(name, agent) for name in LOSS],
    )
    proposal = run_sync(debate)
    assert isinstance(proposal, Proposal)
    return proposal


if __name__ == "__main__":
    done = main()
    print(done.decision.result, "after", done.decision.rounds, "rounds:", done.content["answer_text"])
