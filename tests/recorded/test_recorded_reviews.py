"""Real recorded reviews: the merge finds what a judge found, and better than the merge it may replace.

Catches: words that are lost on the way from a file to a group, a threshold that joins everything or nothing, arms that
publish nothing. The figures are published in docs/reference/review-ensembles.md; here are bounds far below them.
"""

import os
from pathlib import Path

import pytest

from madflow.evals.bootstrap import Item, total
from madflow.evals.ensembles import load_reviews
from madflow.evals.ensembles.arms import ARMS, by_findings, by_words
from madflow.evals.ensembles.controls import by_chance
from madflow.evals.ensembles.reviews import Pull
from madflow.evals.ensembles.scoring import bcubed, credit, f1


@pytest.fixture(scope="module")
def pulls() -> list[Pull]:
    folder = os.environ.get("MADFLOW_REVIEW", "")
    path = Path(folder) / "martian50.jsonl.gz"
    if not folder or not path.is_file():
        pytest.skip("MADFLOW_REVIEW names no folder with martian50.jsonl.gz: real reviews are not shipped")
    return load_reviews(path)


def b3_f1(both: list[tuple[Item, Item]]) -> float:
    precision, recall = total(p for p, _ in both), total(r for _, r in both)
    return 2 * precision * recall / (precision + recall)


def test_the_merge_agrees_with_a_judge(pulls: list[Pull]) -> None:
    merger = by_words()
    words = b3_f1([bcubed(pull, merger(pull, 0.18)) for pull in pulls])
    protocol, overlap = (
        b3_f1([bcubed(pull, tuple(group for _, group in by_findings(pull, rule))) for pull in pulls])
        for rule in ("same", "overlap")
    )
    assert words > 0.65
    assert min(words, protocol) > overlap + 0.2


def test_an_ensemble_is_better_than_any_of_its_reviewers(pulls: list[Pull]) -> None:
    merger = by_words()
    for arm in ARMS:
        if arm.name in ("agreement", "labelled", "k-of-n", "best-single"):
            made = []
            for repo in sorted({pull.repo for pull in pulls}):
                scored = [pull for pull in pulls if pull.repo == repo]
                published = arm.review(scored, [pull for pull in pulls if pull.repo != repo], merger)
                made += [credit(pull, published[pull.name]) for pull in scored]
            value = total(f1(made))
            assert value < 0.5 if arm.name == "best-single" else value > 0.45, (arm.name, value)


def test_what_is_quoted_finds_more_because_it_belongs_together(pulls: list[Pull]) -> None:
    """Catches quotes that find nothing new, and credit that other comments quoted by chance would get as well."""
    merger = by_words()
    agreement = next(arm for arm in ARMS if arm.name == "agreement")
    published = agreement.review(pulls, (), merger)
    made = [credit(pull, published[pull.name]) for pull in pulls]
    assert total(f1(made, "quoted")) > total(f1(made)) + 0.02
    assert total(f1(made, "quoted")) > total(by_chance("padded", "quoted", pulls, published)) + 0.03
