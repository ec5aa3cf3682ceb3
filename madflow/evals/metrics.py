"""What is measured on recorded debates and on what an arm made of them; formulas are in docs/reference/metrics.md.

Two rules hold everywhere. Ties are split: an arm that cannot tell k answers apart, one of them right, is right 1/k. And
nothing leaves a denominator because it failed: a seat that could not be read is wrong, an arm without an answer is
wrong, a judge that chose nothing is inconsistent.

Most measures are lists of `Item`, one per case, so that `bootstrap.estimate` and `bootstrap.difference` give their
intervals; those that are no ratio of sums take their cases and give a float, for `bootstrap.statistic`. Recordings
without gold are refused where a measure needs it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise

from ..core.policies import Debated, leaders
from ..errors import ConfigError
from .bootstrap import Item
from .records import Outcome, Recording, tokens

__all__ = [
    "abstentions",
    "accuracy",
    "all_wrong",
    "auc",
    "brier",
    "calibration_error",
    "collapses",
    "consensus_cases",
    "corrections",
    "detection",
    "disagreement_collapses",
    "error_correlation",
    "gain",
    "interception",
    "latencies",
    "modal_adoption",
    "oracle",
    "oracle_gap",
    "percentile",
    "right_to_wrong",
    "round_accuracy",
    "seat_accuracy",
    "selective_accuracy",
    "swap_consistency",
    "token_share",
    "wrong_to_right",
]


def accuracy(outcomes: Iterable[Outcome]) -> list[Item]:
    """Right answers of all debates; an abstention's answer counts, see `selective_accuracy`."""
    return [Item(one.recording.question, _split(one.tied, _gold(one.recording))) for one in outcomes]


def selective_accuracy(outcomes: Iterable[Outcome]) -> list[Item]:
    """Right answers of those that were given without abstaining."""
    return [
        Item(
            one.recording.question, 0.0 if one.abstained else _split(one.tied, _gold(one.recording)), not one.abstained
        )
        for one in outcomes
    ]


def abstentions(outcomes: Iterable[Outcome]) -> list[Item]:
    """Abstentions of all debates."""
    return [Item(one.recording.question, one.abstained) for one in outcomes]


def round_accuracy(recordings: Iterable[Recording], number: int) -> list[Item]:
    """The plurality of a round (1-based; the last one held where there were fewer), over all debates."""
    return [Item(one.question, _round_score(one, number)) for one in recordings]


def seat_accuracy(recordings: Iterable[Recording], number: int, misleading: bool = False) -> list[Item]:
    """Right votes of all honest seats in a round, or of all `misleading` ones."""
    return [
        Item(one.question, one.debated.votes(number).get(seat) == _gold(one))
        for one in recordings
        for seat in one.debated.seats
        if (seat in one.adversaries) == misleading
    ]


def gain(outcomes: Iterable[Outcome]) -> list[Item]:
    """Accuracy above that of the first round's vote on the same debates."""
    return [
        Item(one.recording.question, _split(one.tied, _gold(one.recording)) - _round_score(one.recording, 1))
        for one in outcomes
    ]


def token_share(outcomes: Iterable[Outcome]) -> list[Item]:
    """Tokens asked for, of those of the whole recordings."""
    return [Item(one.recording.question, one.tokens, tokens(one.recording)) for one in outcomes]


def right_to_wrong(recordings: Iterable[Recording]) -> list[Item]:
    """Of honest votes that were right in a round, those that were not in the next one held."""
    return [Item(question, was and not now, was) for question, was, now in _steps(recordings)]


def wrong_to_right(recordings: Iterable[Recording]) -> list[Item]:
    """Of honest seats that were not right in a round, those that were in the next one held."""
    return [Item(question, now and not was, not was) for question, was, now in _steps(recordings)]


def collapses(outcomes: Iterable[Outcome]) -> list[Item]:
    """Per debate, by how much a right first round was lost: max(0, first round's vote − outcome)."""
    return [Item(item.question, max(0.0, -item.part)) for item in gain(outcomes)]


def corrections(outcomes: Iterable[Outcome]) -> list[Item]:
    """Per debate, by how much a wrong first round was mended: max(0, outcome − first round's vote)."""
    return [Item(item.question, max(0.0, item.part)) for item in gain(outcomes)]


def modal_adoption(recordings: Iterable[Recording]) -> list[Item]:
    """Of honest seats outside the sole leading answer of a round, those that hold it in the next one held."""
    items = []
    for one in recordings:
        for number in range(1, len(one.debated.rounds)):
            before, after = one.debated.votes(number), one.debated.votes(number + 1)
            leading = leaders(before)
            if len(leading) == 1:
                honest = [seat for seat in one.debated.seats if seat not in one.adversaries]
                outside = [seat for seat in honest if seat in before and before[seat] != leading[0]]
                items += [Item(one.question, after.get(seat) == leading[0]) for seat in outside]
    return items


def disagreement_collapses(recordings: Iterable[Recording]) -> list[Item]:
    """Of debates with two first answers or more, those in which all seats that vote last vote alike."""
    return [
        Item(one.question, len(set(one.debated.votes(len(one.debated.rounds)).values())) == 1)
        for one in recordings
        if len(set(one.debated.votes(1).values())) > 1
    ]


def oracle(recordings: Iterable[Recording], number: int = 1) -> list[Item]:
    """Debates in which some seat, misleading ones included, was right in a round: the best that any choice among the
    answers given could do, by whomever they were given."""
    return [Item(one.question, _gold(one) in one.debated.votes(number).values()) for one in recordings]


def all_wrong(recordings: Iterable[Recording], number: int = 1) -> list[Item]:
    """Debates in which no seat was right in a round: 1 − oracle."""
    return [Item(item.question, 1 - item.part) for item in oracle(recordings, number)]


def oracle_gap(outcomes: Sequence[Outcome]) -> list[Item]:
    """The first round's oracle minus the accuracy: what choosing better could still gain."""
    best = oracle(one.recording for one in outcomes)
    return [Item(top.question, top.part - got.part) for top, got in zip(best, accuracy(outcomes), strict=True)]


def detection(recordings: Iterable[Recording], suspicion: Mapping[tuple[str, str], float]) -> list[Item]:
    """Per run with one misleading seat: is it the most suspicious, ties split. The cluster is the run.

    Args:
        suspicion: (run, seat) to any score, e.g. 1 − reliability.
    """
    runs: dict[str, Recording] = {}
    for one in recordings:
        if len(one.adversaries) == 1:
            runs.setdefault(one.run, one)
    items = []
    for run, one in runs.items():
        scores = {seat: suspicion[run, seat] for seat in one.debated.seats}
        most = max(scores.values())
        named = [seat for seat, score in scores.items() if score == most]
        items.append(Item(run, len(one.adversaries.intersection(named)) / len(named)))
    return items


def consensus_cases(outcomes: Iterable[Outcome], of: str = "last") -> list[tuple[str, float, bool]]:
    """(question, suspicion, whether it is wrong) of the debates that ended in one answer, for `interception`.

    Args:
        of: "last": a strict majority of all seats votes alike in the last recorded round; "outcome": the arm has one
            answer.
    """
    if of not in ("last", "outcome"):
        raise ConfigError(f"a consensus is of the last round or of the outcome (of={of!r}); name one of them")
    cases = []
    for one in outcomes:
        debated = one.recording.debated
        agreed = _majority(debated) if of == "last" else one.tied
        if len(agreed) == 1:
            cases.append((one.recording.question, one.suspicion, agreed[0] != _gold(one.recording)))
    return cases


def interception(cases: Iterable[tuple[float, bool]], false_flags: float) -> float:
    """The share of wrong cases flagged, at a share of right ones flagged: a point of the ROC curve.

    Cases are flagged from the most suspicious down. Equally suspicious ones cannot be told apart and are flagged
    together in the same proportion, which draws the curve straight between them. nan without right or wrong cases.
    """
    wrong, right = _by_kind(cases)
    if not wrong or not right:
        return math.nan
    allowed, caught = false_flags * sum(right.values()), 0.0
    for score in sorted(wrong.keys() | right.keys(), reverse=True):
        if right[score] > allowed:
            return (caught + wrong[score] * allowed / right[score]) / sum(wrong.values())
        allowed -= right[score]
        caught += wrong[score]
    return 1.0


def auc(cases: Iterable[tuple[float, bool]]) -> float:
    """The probability that a case of the kind True scores above one of the kind False, ties half; nan without both."""
    yes, no = _by_kind(cases)
    if not yes or not no:
        return math.nan
    below = above = 0.0
    for score in sorted(yes.keys() | no.keys()):
        above += yes[score] * (below + no[score] / 2)
        below += no[score]
    return above / (sum(yes.values()) * sum(no.values()))


def swap_consistency(judged: Iterable[tuple[str, str | None, str | None]]) -> list[Item]:
    """(question, choice, choice with the answers in swapped order): chosen at all, and the same both times.

    Choices name answers, not positions; None is a judgement that could not be read.
    """
    return [Item(question, first is not None and first == second) for question, first, second in judged]


def error_correlation(recordings: Sequence[Recording], number: int = 1) -> float:
    """The mean φ of two seats' errors, over pairs of honest seats of a run that each were right and wrong somewhere.

    1: seats err together, and a vote adds nothing; 0: independently. nan where no pair has a φ.
    """
    tables: dict[tuple[str, str, str], Counter[tuple[bool, bool]]] = {}
    for one in recordings:
        votes, gold = one.debated.votes(number), _gold(one)
        honest = sorted(set(one.debated.seats) - one.adversaries)
        for a, b in combinations(honest, 2):
            table = tables.setdefault((one.run, a, b), Counter())
            table[votes.get(a) != gold, votes.get(b) != gold] += 1
    found = [phi for table in tables.values() if not math.isnan(phi := _phi(table))]
    return math.fsum(found) / len(found) if found else math.nan


def calibration_error(cases: Iterable[tuple[float, float]], bins: int = 10) -> float:
    """ECE: |mean confidence − mean score| of each of `bins` equally wide bins, by their cases; nan without cases.

    Args:
        cases: (confidence 0 to 1, score 0 to 1); a bin holds confidences above its lower edge up to its upper one.
    """
    filled: dict[int, list[tuple[float, float]]] = {}
    for confidence, score in cases:
        filled.setdefault(max(0, math.ceil(confidence * bins) - 1), []).append((confidence, score))
    count = sum(map(len, filled.values()))
    gaps = [abs(math.fsum(confidence - score for confidence, score in held)) for held in filled.values()]
    return math.fsum(gaps) / count if count else math.nan


def brier(outcomes: Iterable[Outcome]) -> list[Item]:
    """(confidence − score)²; lower is better."""
    return [
        Item(one.recording.question, (one.confidence - _split(one.tied, _gold(one.recording))) ** 2) for one in outcomes
    ]


def latencies(recordings: Iterable[Recording]) -> list[int]:
    """How long debates took, in ms: the slowest seat of each round, added up; those with a time for every reply."""
    found = []
    for one in recordings:
        replies = [
            [(number, said.seat) for said in spoken] for number, spoken in enumerate(one.debated.rounds, start=1)
        ]
        if replies and all(reply in one.latency_ms for spoken in replies for reply in spoken):
            found.append(sum(max((one.latency_ms[reply] for reply in spoken), default=0) for spoken in replies))
    return found


def percentile(values: Iterable[int], share: float) -> float:
    """The least value that at least `share` of them do not exceed (nearest rank); nan without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def _split(tied: Sequence[str], gold: str) -> float:
    return 1 / len(tied) if gold in tied else 0.0


def _gold(recording: Recording) -> str:
    if recording.gold is None:
        raise ConfigError(f"recording {recording.key} has no gold: this measure needs the right answer; leave it out")
    return recording.gold


def _round_score(recording: Recording, number: int) -> float:
    held = min(number, len(recording.debated.rounds))
    return _split(leaders(recording.debated.votes(held)) if held else (), _gold(recording))


def _steps(recordings: Iterable[Recording]) -> list[tuple[str, bool, bool]]:
    """(question, right before, right after) of each honest seat, for each two rounds in a row in which it was asked."""
    steps = []
    for one in recordings:
        for number, (before, after) in enumerate(pairwise(one.debated.rounds), start=1):
            both = {said.seat for said in before} & {said.seat for said in after}
            was, now = one.debated.votes(number), one.debated.votes(number + 1)
            gold = _gold(one)
            steps += [
                (one.question, was.get(seat) == gold, now.get(seat) == gold) for seat in sorted(both - one.adversaries)
            ]
    return steps


def _majority(debated: Debated) -> tuple[str, ...]:
    """The answer of more than half of the seats in the last round, or ()."""
    votes = debated.votes(len(debated.rounds))
    return tuple(answer for answer, count in Counter(votes.values()).items() if 2 * count > len(debated.seats))


def _by_kind(cases: Iterable[tuple[float, bool]]) -> tuple[Counter[float], Counter[float]]:
    """Score to how many cases have it, for the cases of the kind True and of the kind False."""
    kinds: tuple[Counter[float], Counter[float]] = (Counter(), Counter())
    for score, kind in cases:
        kinds[not kind][score] += 1
    return kinds


def _phi(table: Mapping[tuple[bool, bool], int]) -> float:
    both, first = table.get((True, True), 0), table.get((True, False), 0)
    second, neither = table.get((False, True), 0), table.get((False, False), 0)
    spread = (both + first) * (second + neither) * (both + second) * (first + neither)
    return (both * neither - first * second) / math.sqrt(spread) if spread else math.nan
