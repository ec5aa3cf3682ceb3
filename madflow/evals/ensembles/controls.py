"""What chance alone makes of quoting several comments in one: two ways to quote what does not belong together.

`quoted` credits a published comment with an issue if one of up to three texts matches it, so more words may find more
without a better merge. Each control publishes as many comments as an arm did, with as many texts:

- `padded`: each keeps its spokesman; what is quoted beside it is drawn from the comments outside the group. What an arm
  has beyond this, its groups earned.
- `shuffled`: the members of each group are drawn from all comments on the change, each comment at most once, and the
  quoted ones from those. What this has under `quoted` beyond what it has under `strict` is the worth of three chances.

Both take `DRAWS` draws from a generator that is seeded by the name of the change, so that they are the same in every
run; counts are means over the draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from ...core.same import Group
from ..bootstrap import Item
from .reviews import Pull
from .scoring import Published, credit, f1

__all__ = ["CONTROLS", "DRAWS", "by_chance"]

DRAWS: Final = 50

Control = Callable[[Random, Pull, Published], Published]


def by_chance(name: str, reading: str, pulls: Sequence[Pull], published: Mapping[str, Published]) -> list[Item]:
    """F1 of a control of `CONTROLS` under a reading, one item per change: means over the draws."""
    items = []
    for pull in pulls:
        draws = Random(f"{name} {pull.name}")  # noqa: S311 - an experiment, no secret
        made = f1((credit(pull, CONTROLS[name](draws, pull, published[pull.name])) for _ in range(DRAWS)), reading)
        items.append(Item(pull.name, sum(one.part for one in made) / DRAWS, sum(one.whole for one in made) / DRAWS))
    return items


def _padded(draws: Random, pull: Pull, published: Published) -> Published:
    made = []
    for group in published:
        outside = [place for place in range(len(pull.comments)) if place not in group.members]
        made.append(replace(group, also=tuple(draws.sample(outside, min(len(group.also), len(outside))))))
    return tuple(made)


def _shuffled(draws: Random, pull: Pull, published: Published) -> Published:
    places = draws.sample(range(len(pull.comments)), len(pull.comments))
    made = []
    for group in published:
        members, places = places[: len(group.members)], places[len(group.members) :]
        quoted = members[: len(group.quoted)]
        made.append(Group(tuple(sorted(members)), quoted[0], 1.0, tuple(quoted[1:])))
    return tuple(made)


CONTROLS: Final[Mapping[str, Control]] = {"padded": _padded, "shuffled": _shuffled}
