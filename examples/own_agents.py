"""An app's own objects sit in the debate: anything with an async `__call__` that takes a TurnView."""

import re
from dataclasses import dataclass

from madflow import Agent, Debate, Proposal, TurnView, run_sync


@dataclass
class Monitor:
    """It knows its own readings only, and how far to trust them."""

    metric: str
    growth: float
    trust: float

    async def __call__(self, view: TurnView) -> dict[str, object]:
        own = "rollback" if self.growth > 1.5 else "keep"
        said = "\n".join(text for _, _, text in view.transcript)
        ballots = re.findall(r"Ballot: (\w+) \(confidence ([\d.]+)\)", said)
        weight = {oid: sum(float(sure) for oid_, sure in ballots if oid_ == oid) for oid, _ in view.options}
        answer = max(weight, key=weight.__getitem__) if ballots and self.trust < 0.5 else own
        return {"answer": answer, "confidence": self.trust, "reasoning": f"{self.metric} times {self.growth}"}


def main() -> Proposal:
    monitors = [Monitor("errors", 22.0, trust=0.9), Monitor("latency", 1.1, trust=0.3), Monitor("cost", 0.9, trust=0.4)]
    agents = [Agent(monitor.metric, monitor) for monitor in monitors]
    task = {"question": "Keep the release?", "options": [["keep", "Keep it"], ["rollback", "Roll it back"]]}
    proposal = run_sync(Debate(task=task, agents=agents, rule="unanimity"))
    assert isinstance(proposal, Proposal)
    return proposal


if __name__ == "__main__":
    for vote in main().votes:
        print(vote.agent, vote.decision, vote.confidence)
