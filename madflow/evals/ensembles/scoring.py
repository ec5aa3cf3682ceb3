"""What a published review is worth, and what a merge is worth, against a judge's matches.

A *published* review is a list of groups of comments, each with its spokesman. Readings of F1 = 2 TP / (groups published
+ golden issues), summed over changes before it is divided; every golden issue counts once, and a group that finds
nothing new is a false positive:

- `strict`: only the words that are published count. TP are the distinct golden issues that spokesmen match: the
  benchmark's own convention, with the ensemble as one more reviewer. It suffers where the judge missed a match.
- `quoted`: the published words are the spokesman's and those quoted beside it, at most three texts in one comment. It
  finds the one issue that most of them match (ties: the lowest id), never two. This convention is ours: no judge has
  read the texts together, and three texts are three chances. `madflow.evals.ensembles.controls` measures what chance
  alone makes of it.
- `half`: a group finds the issue that most of its comments match (ties: the lowest id), if at least half of its judged
  comments do.
- `merged`: a group finds the issue that most of its comments match, however few. It rewards merging too much: a single
  group of all comments on a change finds an issue on nearly every change (the arm `lump`).
- `loose`: as `merged`, but a further group on an issue that was found is left out instead of counted as false.

A merge is compared with the matches alone: two comments are the same where they share a golden issue. `bcubed` and
`pairs` look at comments that match something, and at the judged company they are in (A. Bagga, B. Baldwin,
"Entity-based cross-document coreferencing using the vector space model", ACL 1998). What matches nothing has no known
twin, so merges among such comments are not measured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...core.same import Group
from ..bootstrap import Item
from .reviews import Pull

__all__ = ["READINGS", "Credit", "Published", "bcubed", "credit", "f1", "pairs", "precision", "recall"]

Published = tuple[Group, ...]
"""The groups that are published on one change, the surest first."""


@dataclass(frozen=True, slots=True)
class Credit:
    """What was published on one change, and what it found; counts."""

    pull: str
    published: int
    golden: int
    strict: int
    quoted: int
    half: int
    merged: int
    repeated: int


READINGS: Final[Mapping[str, Callable[[Credit], tuple[int, int]]]] = {
    "strict": lambda one: (one.strict, one.published),
    "quoted": lambda one: (one.quoted, one.published),
    "half": lambda one: (one.half, one.published),
    "merged": lambda one: (one.merged, one.published),
    "loose": lambda one: (one.merged, one.published - one.repeated),
}
"""Reading to (true positives, groups that count as published) of a `Credit`."""


def credit(pull: Pull, published: Published) -> Credit:
    """Score what was published on one change."""
    said: set[int] = set()
    quoted: set[int] = set()
    halves: set[int] = set()
    found: set[int] = set()
    repeated = 0
    for group in published:
        said |= pull.comments[group.told].matches
        quoted |= {issue for issue, _ in _most_matched(pull, group.quoted)}
        for issue, count in _most_matched(pull, group.members):
            repeated += issue in found
            found.add(issue)
            if 2 * count >= sum(pull.comments[place].judged for place in group.members):
                halves.add(issue)
    return Credit(
        pull.name, len(published), len(pull.golden), len(said), len(quoted), len(halves), len(found), repeated
    )


def _most_matched(pull: Pull, places: Iterable[int]) -> list[tuple[int, int]]:
    """The issue that most of some comments match, and how many do; nothing where none does."""
    counts = Counter(issue for place in places for issue in pull.comments[place].matches)
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:1]


def f1(credits_: Iterable[Credit], reading: str = "strict") -> list[Item]:
    """F1 as a ratio of sums, one item per change: 2 TP of (published + golden)."""
    return [
        Item(one.pull, 2.0 * hits, shown + one.golden) for one in credits_ for hits, shown in [READINGS[reading](one)]
    ]


def precision(credits_: Iterable[Credit], reading: str = "strict") -> list[Item]:
    """True positives of what was published."""
    return [Item(one.pull, hits, shown) for one in credits_ for hits, shown in [READINGS[reading](one)]]


def recall(credits_: Iterable[Credit], reading: str = "strict") -> list[Item]:
    """True positives of the golden issues."""
    return [Item(one.pull, READINGS[reading](one)[0], one.golden) for one in credits_]


def bcubed(pull: Pull, groups: Sequence[Group]) -> tuple[Item, Item]:
    """(precision, recall) of B³ on one change, each a sum over the comments that match something."""
    home = {place: group for group in groups for place in group.members}
    matched = [place for place, comment in enumerate(pull.comments) if comment.matches]
    precise, found = [], []
    for place in matched:
        mine = pull.comments[place].matches
        company = [other for other in home[place].members if pull.comments[other].judged]
        precise.append(sum(bool(pull.comments[other].matches & mine) for other in company) / len(company))
        same = [other for other in matched if pull.comments[other].matches & mine]
        found.append(sum(home[other] is home[place] for other in same) / len(same))
    return Item(pull.name, math.fsum(precise), len(matched)), Item(pull.name, math.fsum(found), len(matched))


def pairs(pull: Pull, groups: Sequence[Group]) -> tuple[Item, Item]:
    """(precision, recall) over pairs of comments of different reviewers, one of which at least matches something."""
    home = {place: number for number, group in enumerate(groups) for place in group.members}
    joined = same = both = 0
    for i, one in enumerate(pull.comments):
        for j in range(i + 1, len(pull.comments)):
            two = pull.comments[j]
            if one.remark.by == two.remark.by or not (one.judged and two.judged) or not (one.matches or two.matches):
                continue
            is_same, is_joined = bool(one.matches & two.matches), home[i] == home[j]
            joined += is_joined
            same += is_same
            both += is_same and is_joined
    return Item(pull.name, both, joined), Item(pull.name, both, same)
