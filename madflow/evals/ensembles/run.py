"""Recorded reviews measured: every arm on every file, learning only from repositories that are not scored.

`run_reviews(folder)` reads every `*.jsonl(.gz)` of a folder, or the files it is given, and returns plain values:
`rows`, one per change and arm (counts only, no text of the data), and `measures`, `comparisons`, `arms` in the shapes
of `results.json`. It is deterministic and offline. Groups are `{"data": file stem}` and, for F1, `{"data", "repo"}`.

For each repository of a file, the arms review its changes; those with `labels` are given the labelled changes of the
file's other repositories (leave one repository out). A file of one repository has no such arms, and one
whose other repositories have no label to learn from lacks `labelled`; a note says so.
The merge's threshold is a constant of `core.same` that was chosen on such data; `agreement-nested` alone chooses it on
other repositories. Two more baselines are chosen *in hindsight*, with the labels that they are scored by: the best
single reviewer and the best k. They bound from above what choosing could bring, and are no fair competitors.

Intervals are bootstrap intervals over changes (`evals.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ...core.same import ALIKE_MIN
from ..bootstrap import DRAWS, Interval, Item, difference, estimate, statistic, total
from ..results import ArmMade, Comparison, Measured, figures
from .arms import ARMS, Arm, Merger, Review, at_least, best_alike, by_findings, by_words, single
from .controls import CONTROLS, by_chance
from .labelled import NothingToLearnError
from .reviews import Pull, load_reviews, review_files
from .scoring import READINGS, Credit, Published, bcubed, credit, f1, pairs, precision, recall

__all__ = ["MERGES", "Reviewed", "run_reviews"]

MERGES: Final = {
    "merge-words": "core.same",
    "merge-words-nested": "core.same, its threshold chosen on other repositories",
    "merge-protocol": "core.merging, the review protocol's rule same",
    "merge-overlap": "core.findings.merge, its rule overlap: a third of the words in common",
}
_RULES: Final[Mapping[str, Literal["same", "overlap"]]] = {"protocol": "same", "overlap": "overlap"}
_HINDSIGHT: Final = (
    ArmMade(arm="best-single-hindsight", title="the reviewer that is best on what is scored"),
    ArmMade(arm="k-of-n-hindsight", title="the k that is best on what is scored"),
)
_AGAINST: Final = ("k-of-n", "k-of-n-hindsight", "best-single-hindsight")
_CONTROLLED: Final = next(arm for arm in ARMS if arm.name == "agreement")
"""The arm whose groups the controls take apart."""
_BY_CHANCE: Final = (
    ArmMade(arm="padded", title="agreement, each comment with other comments quoted at random"),
    ArmMade(arm="shuffled", title="agreement, the members of its groups drawn at random"),
)
_CHALLENGERS: Final = ("agreement", "agreement-nested", "labelled")


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What was measured.

    Attributes:
        rows: one per change and arm: data, pr, repo, arm, published, golden, strict, quoted, half, merged,
            repeated.
        files: name and number of changes of each file that was read.
    """

    rows: tuple[Mapping[str, Any], ...]
    arms: tuple[ArmMade, ...]
    measures: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]
    files: tuple[tuple[str, int], ...]


def run_reviews(source: str | Path | Iterable[Path], *, seed: int = 0, draws: int = DRAWS) -> Reviewed:
    """Measure every arm on every file of recorded reviews.

    Args:
        source: a folder, all of whose `*.jsonl(.gz)` are read, or the files.

    Raises:
        ConfigError: no such folder or file, a line that does not fit, nothing to learn from.
    """
    rows: list[Mapping[str, Any]] = []
    measures: list[Measured] = []
    comparisons: list[Comparison] = []
    notes: list[str] = []
    files: list[tuple[str, int]] = []
    for path in review_files(Path(source)) if isinstance(source, str | Path) else tuple(source):
        stem, pulls, merger = path.name.split(".jsonl")[0], load_reviews(path), by_words()
        files.append((path.name, len(pulls)))
        credits_, said = _credits(pulls, merger)
        notes += [f"{stem}: {note}" for note in said]
        for arm, made in credits_.items():
            rows += [_row(stem, pull, arm, one) for pull, one in zip(pulls, made, strict=True)]
        taken = _Taken(stem, pulls, seed, draws)
        measures += [one for arm, made in credits_.items() for one in taken.of_arm(arm, made)]
        measures += taken.of_merges(merger)
        comparisons += taken.compared(credits_)
        found, against = taken.of_controls(credits_[_CONTROLLED.name], _held(_CONTROLLED, pulls, merger))
        measures += found
        comparisons += against
    arms = (*(ArmMade(arm=arm.name, title=arm.title) for arm in ARMS), *_HINDSIGHT, *_BY_CHANCE)
    merges = tuple(ArmMade(arm=name, title=title) for name, title in MERGES.items())
    return Reviewed(tuple(rows), (*arms, *merges), tuple(measures), tuple(comparisons), tuple(notes), tuple(files))


def _credits(pulls: Sequence[Pull], merger: Merger) -> tuple[dict[str, list[Credit]], list[str]]:
    """Arm to what it is credited with on each change, in order; and what is to be said of them."""
    repos = sorted({pull.repo for pull in pulls})
    made: dict[str, list[Credit]] = {}
    notes: list[str] = []
    for arm in ARMS:
        if arm.labels and len(repos) < 2:
            notes.append(f"{arm.name} is left out: it learns from other repositories, and there is one, {repos[0]}")
            continue
        try:
            published = _held(arm, pulls, merger)
        except NothingToLearnError as error:
            notes.append(f"{arm.name} is left out: {error}")
            continue
        made[arm.name] = [credit(pull, published[pull.name]) for pull in pulls]
    names = sorted({name for pull in pulls for name in pull.reviewers})
    best, made["best-single-hindsight"] = _hindsight({name: single(name) for name in names}, pulls, merger)
    notes.append(f"the best single reviewer in hindsight is {best}")
    most = max(len(pull.reviewers) for pull in pulls)
    best, made["k-of-n-hindsight"] = _hindsight({str(k): at_least(k) for k in range(1, most + 1)}, pulls, merger)
    notes.append(f"the best k in hindsight is {best}")
    return made, notes


def _held(arm: Arm, pulls: Sequence[Pull], merger: Merger) -> dict[str, Published]:
    """What an arm publishes on every change, each repository with the others to learn from."""
    published = {}
    for repo in sorted({pull.repo for pull in pulls}):
        scored = [pull for pull in pulls if pull.repo == repo]
        published.update(arm.review(scored, [pull for pull in pulls if pull.repo != repo], merger))
    return published


def _hindsight(ways: Mapping[str, Review], pulls: Sequence[Pull], merger: Merger) -> tuple[str, list[Credit]]:
    made = {}
    for name, review in ways.items():
        published = review(pulls, (), merger)
        made[name] = [credit(pull, published[pull.name]) for pull in pulls]
    best = max(made, key=lambda name: total(f1(made[name])))
    return best, made[best]


def _row(stem: str, pull: Pull, arm: str, one: Credit) -> dict[str, Any]:
    return {
        "data": stem,
        "pr": pull.name,
        "repo": pull.repo,
        "arm": arm,
        "published": one.published,
        "golden": one.golden,
        "strict": one.strict,
        "quoted": one.quoted,
        "half": one.half,
        "merged": one.merged,
        "repeated": one.repeated,
    }


@dataclass(frozen=True, slots=True)
class _Taken:
    """Takes measures on one file."""

    stem: str
    pulls: Sequence[Pull]
    seed: int
    draws: int

    def of_arm(self, arm: str, made: Sequence[Credit]) -> list[Measured]:
        found = [self._measured(arm, f"f1_{reading}", f1(made, reading)) for reading in READINGS]
        found += [
            self._measured(arm, "precision_strict", precision(made)),
            self._measured(arm, "recall_strict", recall(made)),
            self._measured(arm, "published_per_change", [Item(one.pull, one.published) for one in made]),
        ]
        repos = sorted({pull.repo for pull in self.pulls})
        for repo in repos if len(repos) > 1 else ():
            mine = [one for pull, one in zip(self.pulls, made, strict=True) if pull.repo == repo]
            found += [self._measured(arm, f"f1_{reading}", f1(mine, reading), repo) for reading in READINGS]
        return found

    def of_merges(self, merger: Merger) -> list[Measured]:
        ways = {
            "merge-words": {pull.name: merger(pull, ALIKE_MIN) for pull in self.pulls},
            **{
                f"merge-{name}": {
                    pull.name: tuple(group for _, group in by_findings(pull, rule)) for pull in self.pulls
                }
                for name, rule in _RULES.items()
            },
        }
        repos = sorted({pull.repo for pull in self.pulls})
        if len(repos) > 1:
            chosen = {repo: best_alike([one for one in self.pulls if one.repo != repo], merger) for repo in repos}
            ways["merge-words-nested"] = {pull.name: merger(pull, chosen[pull.repo]) for pull in self.pulls}
        found = []
        for arm, groups in ways.items():
            both = [(pull, bcubed(pull, groups[pull.name]), pairs(pull, groups[pull.name])) for pull in self.pulls]
            for measure, items in (
                ("b3_precision", [item for _, (item, _), _ in both]),
                ("b3_recall", [item for _, (_, item), _ in both]),
                ("pair_precision", [item for *_, (item, _) in both]),
                ("pair_recall", [item for *_, (_, item) in both]),
            ):
                found.append(self._measured(arm, measure, items))
            interval = statistic({pull.name: [b3] for pull, b3, _ in both}, _harmonic, seed=self.seed, draws=self.draws)
            found.append(self._figure(arm, "b3_f1", interval, len(both)))
        return found

    def of_controls(
        self, made: Sequence[Credit], published: Mapping[str, Published]
    ) -> tuple[list[Measured], list[Comparison]]:
        found, compared = [], []
        for name in CONTROLS:
            for reading in ("strict", "quoted"):
                items = by_chance(name, reading, self.pulls, published)
                found.append(self._measured(name, f"f1_{reading}", items))
                gap = difference(f1(made, reading), items, seed=self.seed, draws=self.draws)
                compared.append(
                    Comparison(
                        group={"data": self.stem},
                        arm=_CONTROLLED.name,
                        against=name,
                        measure=f"f1_{reading}",
                        **figures(gap),
                    )
                )
        return found, compared

    def compared(self, credits_: Mapping[str, Sequence[Credit]]) -> list[Comparison]:
        return [
            Comparison(
                group={"data": self.stem},
                arm=arm,
                against=against,
                measure=f"f1_{reading}",
                **figures(
                    difference(
                        f1(credits_[arm], reading), f1(credits_[against], reading), seed=self.seed, draws=self.draws
                    )
                ),
            )
            for arm in _CHALLENGERS
            for against in _AGAINST
            for reading in READINGS
            if arm in credits_ and against in credits_
        ]

    def _measured(self, arm: str, measure: str, items: Sequence[Item], repo: str = "") -> Measured:
        return self._figure(arm, measure, estimate(items, seed=self.seed, draws=self.draws), len(items), repo)

    def _figure(self, arm: str, measure: str, interval: Interval, n: int, repo: str = "") -> Measured:
        group = {"data": self.stem, **({"repo": repo} if repo else {})}
        return Measured(group=group, arm=arm, measure=measure, n=n, questions=interval.questions, **figures(interval))


def _harmonic(cases: Sequence[tuple[Item, Item]]) -> float:
    precise, found = total(p for p, _ in cases), total(r for _, r in cases)
    return 2 * precise * found / (precise + found) if precise + found else float("nan")
