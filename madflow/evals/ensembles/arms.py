"""Ways to make one review of several: which groups of comments are published, decided without the scored labels.

Every arm gets the changes of the repository that is scored and, apart from them, the labelled changes of all other
repositories; it sees no label of the first. Where an arm has a constant to choose (a reviewer, k, the merge's
threshold), it is the one that is best on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from ...core.detection import Case, cut_for_f1, learn_detectors
from ...core.findings import Finding, Raised, judge, merge
from ...core.merging import compare
from ...core.same import ALIKE_MIN, QUOTED_MAX, Group, same_findings
from ..bootstrap import total
from .labelled import fit_labelled
from .reviews import Pull
from .scoring import Published, bcubed, credit, f1

__all__ = [
    "ALIKE_GRID",
    "ARMS",
    "Arm",
    "Merger",
    "Review",
    "apart",
    "at_least",
    "best_alike",
    "by_findings",
    "by_words",
    "single",
]

ALIKE_GRID: Final = (0.14, 0.16, 0.18, 0.20, 0.22, 0.24)
"""What the nested choice of the merge's threshold chooses from."""

_RAISED_CHARS_MAX: Final = 4_000

Merger = Callable[[Pull, float], tuple[Group, ...]]
"""Groups the comments of a change; may remember."""

Review = Callable[[Sequence[Pull], Sequence[Pull], Merger], dict[str, Published]]
"""(changes that are scored, labelled ones of other repositories, merger) to what is published on each of the first."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A named way; `labels`: whether it needs labelled changes of other repositories."""

    name: str
    title: str
    review: Review = field(compare=False)
    labels: bool = False


def by_words() -> Merger:
    """Comments merged by `core.same`; each change and threshold once."""
    known: dict[tuple[str, float], tuple[Group, ...]] = {}

    def merger(pull: Pull, alike: float) -> tuple[Group, ...]:
        key = pull.name, alike
        if key not in known:
            known[key] = same_findings([comment.remark for comment in pull.comments], alike=alike)
        return known[key]

    return merger


def by_findings(pull: Pull, rule: Literal["same", "overlap"] = "same") -> tuple[tuple[Finding, Group], ...]:
    """Comments merged as a review's claims are, which have a file and a line: those that are unknown are one."""
    seats = _seats(pull)
    raised = [
        Raised(
            agent=seats[comment.remark.by],
            file=comment.remark.file or "unknown",
            line=max(1, comment.remark.lines[0]) if comment.remark.lines else 1,
            severity="minor",
            text=comment.remark.text[:_RAISED_CHARS_MAX] or "-",
            note=str(place),
            stated_line=1,
            stated_severity="minor",
        )
        for place, comment in enumerate(pull.comments)
    ]
    return tuple(
        (finding, Group(tuple(sorted(int(claim.note) for claim in finding.lineage)), int(finding.note), 1.0))
        for finding in (compare(raised).findings() if rule == "same" else merge(raised))
    )


def _seats(pull: Pull) -> dict[str, str]:
    """Reviewer to seat: names of tools are no agent ids."""
    return {reviewer: f"s{number}" for number, reviewer in enumerate(sorted(pull.reviewers), start=1)}


def apart(pull: Pull) -> tuple[Group, ...]:
    """Every comment a group of its own."""
    return tuple(Group((place,), place, 1.0) for place in range(len(pull.comments)))


def single(reviewer: str) -> Review:
    """What one reviewer says, as it stands."""

    def review(scored: Sequence[Pull], others: Sequence[Pull], merger: Merger) -> dict[str, Published]:
        return {
            pull.name: tuple(group for group in apart(pull) if pull.comments[group.told].remark.by == reviewer)
            for pull in scored
        }

    return review


def _best_single(scored: Sequence[Pull], others: Sequence[Pull], merger: Merger) -> dict[str, Published]:
    names = sorted({name for pull in others for name in pull.reviewers})
    best = max(names, key=lambda name: _value(single(name)(others, (), merger), others))
    return single(best)(scored, others, merger)


def at_least(k: int) -> Review:
    """Groups of at least k reviewers, those of most first."""

    def review(scored: Sequence[Pull], others: Sequence[Pull], merger: Merger) -> dict[str, Published]:
        return _at_least(scored, merger, k)

    return review


def _k_of_n(scored: Sequence[Pull], others: Sequence[Pull], merger: Merger) -> dict[str, Published]:
    most = max(len(pull.reviewers) for pull in others)
    best = max(range(1, most + 1), key=lambda k: _value(_at_least(others, merger, k), others))
    return _at_least(scored, merger, best)


def _agreement(scored: Sequence[Pull], others: Sequence[Pull], merger: Merger) -> dict[str, Published]:
    return _learned(scored, others, merger, ALIKE_MIN)


def _nested(scored: Sequence[Pull], others: Sequence[Pull], merger: Merger) -> dict[str, Published]:
    return _learned(scored, others, merger, best_alike(others, merger))


def best_alike(pulls: Sequence[Pull], merger: Merger) -> float:
    """The threshold of `ALIKE_GRID` whose merge has the best B³ F1 on labelled changes; the least of equals."""

    def merged_well(alike: float) -> float:
        both = [bcubed(pull, merger(pull, alike)) for pull in pulls]
        precise, found = total(p for p, _ in both), total(r for _, r in both)
        return 2 * precise * found / (precise + found)

    return max(ALIKE_GRID, key=merged_well)


def _labelled(scored: Sequence[Pull], others: Sequence[Pull], merger: Merger) -> dict[str, Published]:
    model = fit_labelled([(pull, merger(pull, ALIKE_MIN)) for pull in others])
    sure = [[(model.probability(pull, group), group) for group in merger(pull, ALIKE_MIN)] for pull in scored]
    return _surest(scored, sure)


def _protocol(rule: Literal["same", "overlap"]) -> Review:
    def review(scored: Sequence[Pull], others: Sequence[Pull], merger: Merger) -> dict[str, Published]:
        published = {}
        for pull in scored:
            weights = dict.fromkeys(_seats(pull).values(), 1)
            published[pull.name] = tuple(
                group for finding, group in by_findings(pull, rule) if judge(finding, {}, weights, weights).published
            )
        return published

    return review


def _majority(scored: Sequence[Pull], others: Sequence[Pull], merger: Merger) -> dict[str, Published]:
    return {
        pull.name: tuple(
            group
            for group in _by_size(pull, merger(pull, ALIKE_MIN))
            if 2 * len(_by(pull, group)) > len(pull.reviewers) and len(_by(pull, group)) >= 2
        )
        for pull in scored
    }


def _lump(scored: Sequence[Pull], others: Sequence[Pull], merger: Merger) -> dict[str, Published]:
    """One group, which quotes the spokesmen of the largest groups in it."""
    lumps: dict[str, Published] = {}
    for pull in scored:
        told = [group.told for group in _by_size(pull, merger(pull, ALIKE_MIN))[:QUOTED_MAX]]
        lumps[pull.name] = (Group(tuple(range(len(pull.comments))), told[0], 1.0, tuple(told[1:])),) if told else ()
    return lumps


def _learned(scored: Sequence[Pull], others: Sequence[Pull], merger: Merger, alike: float) -> dict[str, Published]:
    """Without labels: reviewers are learned from all changes; the cut is for those that are scored."""
    cases = (_case(pull, group) for pull in (*scored, *others) for group in merger(pull, alike))
    model = learn_detectors(cases)
    sure = [[(model.probability(_case(pull, group)), group) for group in merger(pull, alike)] for pull in scored]
    return _surest(scored, sure)


def _surest(pulls: Sequence[Pull], sure: Sequence[Sequence[tuple[float, Group]]]) -> dict[str, Published]:
    """The groups above one cut for all changes, which maximises the expected F1."""
    cut = cut_for_f1(chance for held in sure for chance, _ in held)
    return {
        pull.name: tuple(
            group for chance, group in sorted(held, key=lambda one: (-one[0], one[1].members)) if chance > cut.above
        )
        for pull, held in zip(pulls, sure, strict=True)
    }


def _at_least(pulls: Sequence[Pull], merger: Merger, k: int) -> dict[str, Published]:
    return {
        pull.name: tuple(group for group in _by_size(pull, merger(pull, ALIKE_MIN)) if len(_by(pull, group)) >= k)
        for pull in pulls
    }


def _by_size(pull: Pull, groups: Sequence[Group]) -> list[Group]:
    """Groups of most reviewers first, by what their spokesmen say where they are equal."""
    return sorted(groups, key=lambda group: (-len(_by(pull, group)), pull.comments[group.told].remark.text))


def _by(pull: Pull, group: Group) -> frozenset[str]:
    return frozenset(pull.comments[place].remark.by for place in group.members)


def _case(pull: Pull, group: Group) -> Case:
    return _by(pull, group), pull.reviewers


def _value(published: Mapping[str, Published], pulls: Sequence[Pull]) -> float:
    return total(f1(credit(pull, published[pull.name]) for pull in pulls))


ARMS: Final = (
    Arm("agreement", "reviewers learned without labels, cut for F1", _agreement),
    Arm("agreement-nested", "the same, the merge's threshold chosen on other repositories", _nested, labels=True),
    Arm("labelled", "reviewers weighed with labels of other repositories, cut for F1", _labelled, labels=True),
    Arm("k-of-n", "groups of at least k reviewers, k chosen on other repositories", _k_of_n, labels=True),
    Arm("best-single", "one reviewer, chosen on other repositories", _best_single, labels=True),
    Arm("protocol", "the review protocol: its merge; raised by more than half, as nobody voted", _protocol("same")),
    Arm("protocol-overlap", "the same with the merge rule overlap", _protocol("overlap")),
    Arm(
        "protocol-words",
        "the same on groups of core.same, whose groups may hold two comments of one reviewer",
        _majority,
    ),
    Arm("union", "every group", at_least(1)),
    Arm("lump", "all comments on a change as one group: what a reading makes of too much merging", _lump),
)
"""Those that see no label of what is scored."""
