"""How a report says things: names of measures, numbers, and text that somebody else wrote.

A number is never flattered. It is cut at its last digit against the arm: down where more is better, up where less is;
an interval is widened outwards. So 0.53496 never reads 0.535, and what misses a target by a hair is seen to miss it.
What was not measured is a dash, never 0.

Names and notes come from files that anybody may have written. What a terminal acts on and what makes text read as what
it is not (controls, direction overrides, other invisible characters) is replaced, and every text has a greatest length.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

__all__ = [
    "DASH",
    "FAMILIES",
    "MEASURES",
    "NAME_CHARS_MAX",
    "NOTE_CHARS_MAX",
    "Measured",
    "base_measure",
    "clean",
    "decimals_for",
    "hedge",
    "is_difference",
    "known",
    "measured",
    "one_line",
    "said",
    "said_interval",
    "shorten",
    "threshold",
    "wanted",
]

DASH: Final = "–"
NAME_CHARS_MAX: Final = 80
NOTE_CHARS_MAX: Final = 2_000
_DIGITS: Final = 12  # what lies beyond is noise of binary fractions: 0.1 + 0.2 is 0.3
FAMILIES: Final = ("Answers and cost", "What debating changed", "Trust", "Limits", "Other measures")


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a measure.

    Attributes:
        label: what it is called.
        better: whether more is (+1), less is (-1), or neither (0).
        family: the table that it stands in, of FAMILIES; argued: how label and argument are said together.
    """

    label: str
    better: int
    family: str
    argued: str = "{} ({})"


_ANSWERS, _CHANGE, _TRUST, _LIMITS, _OTHER = FAMILIES
_IN_ROUND: Final = "{} in round {}"
_AT_FLAGS: Final = "{} at {} false flags"
MEASURES: Final = {
    "accuracy": Measured("accuracy", 1, _ANSWERS),
    "token_share": Measured("token share", -1, _ANSWERS),
    "gain": Measured("gain over round 1", 1, _ANSWERS),
    "round_accuracy": Measured("accuracy", 1, _ANSWERS, _IN_ROUND),
    "calls": Measured("calls", -1, _ANSWERS),
    "samples": Measured("samples", -1, _ANSWERS),
    "rounds": Measured("rounds", -1, _ANSWERS),
    "tokens": Measured("tokens", -1, _ANSWERS),
    "latency_ms": Measured("latency in ms", -1, _ANSWERS, "{}, percentile {}"),
    "collapses": Measured("collapses", -1, _CHANGE),
    "corrections": Measured("corrections", 1, _CHANGE),
    "right_to_wrong": Measured("right → wrong", -1, _CHANGE),
    "wrong_to_right": Measured("wrong → right", 1, _CHANGE),
    "modal_adoption": Measured("modal adoption", 0, _CHANGE),
    "disagreement_collapses": Measured("disagreement collapses", 0, _CHANGE),
    "unanimity": Measured("unanimity", 0, _CHANGE, _IN_ROUND),
    "consensus": Measured("consensus", 0, _CHANGE),
    "interception": Measured("wrong consensus intercepted", 1, _TRUST, _AT_FLAGS),
    "interception_outcome": Measured("wrong outcomes intercepted", 1, _TRUST, _AT_FLAGS),
    "detection": Measured("adversary detected", 1, _TRUST),
    "adversary_loss": Measured("adversary loss", -1, _TRUST),
    "abstentions": Measured("abstentions", -1, _TRUST),
    "selective_accuracy": Measured("accuracy where answered", 1, _TRUST),
    "auc": Measured("AUC of suspicion, last round", 1, _TRUST),
    "auc_outcome": Measured("AUC of suspicion, outcome", 1, _TRUST),
    "calibration_error": Measured("calibration error", -1, _TRUST),
    "brier": Measured("Brier score", -1, _TRUST),
    "seat_accuracy": Measured("accuracy of honest seats", 1, _LIMITS, _IN_ROUND),
    "misleading_accuracy": Measured("accuracy of misleading seats", 0, _LIMITS, _IN_ROUND),
    "read": Measured("replies read", 1, _ANSWERS),
    "read_json": Measured("JSON replies read", 1, _ANSWERS),
    "read_prose": Measured("prose replies read", 1, _ANSWERS),
    "oracle": Measured("oracle", 1, _LIMITS, _IN_ROUND),
    "oracle_gap": Measured("oracle gap", -1, _LIMITS),
    "all_wrong": Measured("all wrong", -1, _LIMITS, _IN_ROUND),
    "error_correlation": Measured("error correlation", -1, _LIMITS),
}
_DIFFERENCE: Final = " − "  # "accuracy − that of vote"
_TARGET = re.compile(r"\s*(>=|<=|≥|≤|>|<)\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*(?:,.*)?")


def clean(text: str) -> str:
    """`text` with newlines kept, other white space as spaces, and every character that does not print replaced."""
    spaced = "".join(" " if unicodedata.category(char) == "Zs" else char for char in text)
    spaced = spaced.replace("\r\n", "\n").replace("\t", "    ")
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in spaced)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, the last one an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(text: str, limit: int = NAME_CHARS_MAX) -> str:
    """`text` cleaned, white space folded, at most `limit` characters."""
    return shorten(" ".join(clean(text[: 8 * limit]).split()), limit)


def measured(name: str) -> Measured:
    """What is known of a measure, with its argument: `oracle:1` is "oracle in round 1". Another one keeps its name."""
    this, difference, other = name.partition(_DIFFERENCE)
    stem, _, argument = this.partition(":")
    found = MEASURES.get(stem) or Measured(one_line(stem.replace("_", " ")) or DASH, 0, _OTHER)
    label = found.argued.format(found.label, one_line(argument)) if argument else found.label
    return replace(found, label=f"{label}{difference}{one_line(other)}")


def base_measure(name: str) -> str:
    """The measure that a difference is one of: "accuracy" of "accuracy − that of vote"."""
    return name.partition(_DIFFERENCE)[0]


def is_difference(name: str) -> bool:
    """Whether a measure is the difference of two arms, and so is shown with its sign."""
    return _DIFFERENCE in name


def known(value: float | None) -> float | None:
    """The value, or None where there is none: null, nan and infinity are the same to a reader."""
    return value if value is not None and math.isfinite(value) else None


def decimals_for(values: Iterable[float | None]) -> int:
    """How many decimals a column shows: 4 below 10, 2 below 1,000, else none; of the greatest absolute value."""
    greatest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0.0)
    return 4 if greatest < 10 else 2 if greatest < 1_000 else 0


def said(value: float | None, *, better: int = 0, decimals: int = 4, signed: bool = False) -> str:
    """A number as it is shown.

    Args:
        better: +1 (or 0): cut downwards; -1: upwards.
        decimals: digits after the point; signed: with a sign also where it is positive.
    """
    found = known(value)
    if found is None:
        return DASH
    exact = Decimal(repr(round(found, _DIGITS)))
    step = Decimal(1).scaleb(-decimals)
    cut = exact.quantize(step, rounding=ROUND_CEILING if better < 0 else ROUND_FLOOR)
    sign = "−" if cut < 0 else "+" if signed and cut > 0 else ""
    return f"{sign}{abs(cut):,f}"


def said_interval(low: float | None, high: float | None, *, decimals: int = 4, signed: bool = False) -> str:
    """`[low, high]`, widened outwards at the last digit, or nothing where there is no interval."""
    if known(low) is None or known(high) is None:
        return ""
    below = said(low, better=1, decimals=decimals, signed=signed)
    return f"[{below}, {said(high, better=-1, decimals=decimals, signed=signed)}]"


def threshold(target: str) -> tuple[int, float] | None:
    """(+1 for at least, -1 for at most; the number) of a target such as ">= 0.535"; None where it is said otherwise."""
    found = _TARGET.fullmatch(target)
    if found is None:
        return None
    return (1 if found[1] in (">=", "≥", ">") else -1), float(found[2])


def wanted(measure: str, target: str) -> str:
    """A target as it is read: "accuracy ≥ 0.535"."""
    plain = one_line(target).replace(">=", "≥").replace("<=", "≤").replace("-", "−")
    return f"{measured(measure).label} {plain}"


def hedge(target: str, low: float | None, high: float | None) -> str:
    """What a reader should know of a target whose value meets it while its interval does not, or nothing."""
    limit = threshold(target)
    if limit is None or known(low) is None or known(high) is None:
        return ""
    if limit[0] > 0:
        return "its interval reaches below" if (low or 0.0) < limit[1] else ""
    return "its interval reaches above" if (high or 0.0) > limit[1] else ""
