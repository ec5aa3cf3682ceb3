"""Five friends choose a restaurant; one of them votes at random. How many rounds until they agree?"""

import random
from collections import Counter

from madflow import Agent, Debate, Proposal, TurnView, run_sync

PLACES = {"A": "Thai", "B": "Pizza", "C": "Ramen", "D": "Tacos", "E": "Curry"}
TASTES = {"ann": "ACBDE", "ben": "BCDAE", "cem": "DECBA", "dee": "EACDB"}  # best first


async def friend(view: TurnView) -> dict[str, str]:
    """Each round I accept one place more, and take the one among them that had most votes, then the one I like."""
    taste = TASTES[view.seat.agent]
    fine = taste[: view.round]
    votes = Counter(text.rsplit("Ballot: ")[-1][0] for number, _, text in view.transcript if number == view.round - 1)
    return {"answer": max(fine, key=lambda place: (votes[place], -taste.index(place)))}


def main(seed: int = 1) -> Proposal:
    dice = random.Random(seed)

    async def anything(view: TurnView) -> dict[str, str]:
        return {"answer": dice.choice(list(PLACES))}

    agents = [*(Agent(name, friend) for name in TASTES), Agent("eve", anything)]
    task = {"question": "Where do we eat?", "options": list(PLACES.items())}
    proposal = run_sync(Debate(task=task, agents=agents, rule="majority", rounds=12))
    assert isinstance(proposal, Proposal)
    return proposal


if __name__ == "__main__":
    for seed in range(1, 6):
        done = main(seed)
        print(f"seed {seed}: {done.content['answer_text']} after {done.decision.rounds} rounds")
