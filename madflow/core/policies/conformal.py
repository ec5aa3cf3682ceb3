"""Thresholds with a guarantee that holds for every distribution, from a calibration set like the cases to come.

Both need cases that are exchangeable with those judged later, and nothing else; what changes between calibration and
use (other models, harder questions) voids the guarantee.

- `conformal_threshold`: the ⌈(n + 1)(1 − α)⌉-th smallest of n scores (∞ where n is too small). A new score of the
  same kind lies above it with probability at most α. On the suspicion of *right* outcomes it bounds false alarms.
- `abstention_threshold`: the smallest confidence t such that (wrong answers of confidence ≥ t, plus 1) / (n + 1) ≤ α.
  Answering only at a confidence of at least t, a new case is answered wrongly with probability at most α; above all
  confidences (∞) where no t will do. `abstaining` gives a policy this threshold.

Sources: V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World" (2005); H. Papadopoulos et al.,
"Inductive confidence machines for regression", ECML 2002 (the split); A. Angelopoulos et al., "Conformal risk
control", ICLR 2024 (the second, for the monotone loss "answered and wrong").
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from ...errors import ConfigError
from .policy import Policy

__all__ = ["abstaining", "abstention_threshold", "conformal_threshold"]


def abstaining(policy: Policy, cases: Iterable[tuple[float, bool]], alpha: float) -> Policy:
    """The policy, made to abstain so often that a new debate is answered wrongly with probability at most `alpha`.

    Args:
        cases: (confidence of the policy's verdict, whether it was right) of labelled debates of the same panel.

    Raises:
        ConfigError: as for `conformal_threshold`, or so few or so wrong cases that no threshold keeps `alpha`.
    """
    known = list(cases)
    threshold = abstention_threshold(known, alpha)
    if threshold > 1:
        wrong = sum(not right for _confidence, right in known)
        raise ConfigError(
            f"policy {policy.name}: no threshold keeps wrong answers to {alpha} of all on {len(known)} cases, "
            f"{wrong} of them wrong; calibrate on more debates or allow more errors"
        )
    return replace(policy, abstain_below=threshold)


def conformal_threshold(scores: Sequence[float], alpha: float) -> float:
    """The score that a new, exchangeable one exceeds with probability at most `alpha`.

    Raises:
        ConfigError: `alpha` is not strictly between 0 and 1, or a score is not a number.
    """
    level = _level(alpha)
    ordered = sorted(_numbers(scores))
    rank = math.ceil((len(ordered) + 1) * (1 - level))
    return ordered[rank - 1] if rank <= len(ordered) else math.inf


def abstention_threshold(cases: Iterable[tuple[float, bool]], alpha: float) -> float:
    """The confidence to answer from, so that a new case is answered wrongly with probability at most `alpha`.

    Args:
        cases: (confidence, whether the answer was right) of the calibration set.

    Raises:
        ConfigError: as for `conformal_threshold`.
    """
    level = _level(alpha)
    known = list(cases)
    _numbers([confidence for confidence, _right in known])
    wrong = sorted((confidence for confidence, right in known if not right), reverse=True)
    allowed = math.floor((len(known) + 1) * level) - 1  # how many wrong ones may be answered
    if allowed < 0:
        return math.inf
    barred = wrong[allowed] if allowed < len(wrong) else -math.inf  # answering at this one answers one too many
    return min((confidence for confidence, _right in known if confidence > barred), default=math.inf)


def _level(alpha: float) -> Fraction:
    if not 0 < alpha < 1:
        raise ConfigError(f"an error level lies strictly between 0 and 1 (alpha={alpha}); use e.g. 0.1")
    return Fraction(str(alpha))  # 0.1 means one tenth, not the double next to it


def _numbers(scores: Sequence[float]) -> Sequence[float]:
    for place, score in enumerate(scores):
        if math.isnan(score):
            raise ConfigError(f"score {place} of {len(scores)} is not a number; drop the case or score it")
    return scores
