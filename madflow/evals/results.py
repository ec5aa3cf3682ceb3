"""`results.json`: what a suite measured, on what data, with which code, as one document that the report renders.

A number that was not measured is null, never 0: a measure of nothing, an interval of one question, a measure that a
recording does not allow. Everything that decides a number is in the document: the digests of the data and of the code,
the suite's own digest, seeds and draws, the command. Two runs of one command on one state differ in `created_at` and
`elapsed_s` and in nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ConfigError
from .bootstrap import Interval

__all__ = [
    "BYTES_MAX",
    "RESULTS",
    "SCHEMA",
    "ArmMade",
    "Code",
    "Comparison",
    "DataFile",
    "Failed",
    "Figures",
    "Measured",
    "Results",
    "RoundMeasured",
    "TargetMeasured",
    "cut",
    "figures",
    "read_results",
    "shown",
]

SCHEMA: Final = "madflow.results/1"
RESULTS: Final = "results.json"
_DIGITS: Final = 12  # what is behind is rounding of the machine
BYTES_MAX: Final = 64 * 1024 * 1024


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Figures(_Part):
    """A value and its 95 % interval; null where there is none."""

    value: float | None
    low: float | None
    high: float | None


class DataFile(_Part):
    """A file that was read: its name without folder, the digest of its bytes, how many debates it holds."""

    file: str
    sha256: str
    rows: int


class Code(_Part):
    """The digest over every module of madflow, and the commit of the checkout where it is one."""

    digest: str
    commit: str | None = None


class ArmMade(_Part):
    """An arm; `policy`: its settings, where it is one."""

    arm: str
    title: str
    policy: dict[str, Any] | None = None


class Measured(Figures):
    """One measure of one arm on one group; `arm` is "recorded" for what no arm decides.

    Attributes:
        n: debates it is taken over; questions: how many clusters they form.
    """

    group: dict[str, str]
    arm: str
    measure: str
    n: int
    questions: int


class Comparison(Figures):
    """`arm` − `against`, the same questions drawn for both."""

    group: dict[str, str]
    arm: str
    against: str
    measure: str


class RoundMeasured(Figures):
    """A measure of the recordings in a round; of the step from `round` to the next for the two flip rates."""

    group: dict[str, str]
    round: int
    measure: str


class TargetMeasured(Figures):
    """A target, what came out, and whether it is met; `note` says which conditions were looked at beside the value.

    Attributes:
        n: debates that it was measured on; None where that is not known.
        met: None where it is not judged: its data is not there, or only a part of it was read.
        why: in a few words, why it is not judged, or what failed beside the value.
    """

    name: str
    measure: str
    group: dict[str, str]
    arm: str
    target: str
    known: str = ""
    n: int | None = None
    met: bool | None
    why: str = ""
    note: str = ""


class Failed(_Part):
    """A piece of work that failed; its debates stay in every denominator, without an answer."""

    key: str
    error: str


class Results(_Part):
    """What one suite measured."""

    schema_: Literal["madflow.results/1"] = Field(default=SCHEMA, alias="schema")
    suite: str
    title: str
    created_at: str
    madflow: str
    code: Code
    command: str
    config: dict[str, Any]
    data: tuple[DataFile, ...]
    seeds: dict[str, int]
    elapsed_s: float
    arms: tuple[ArmMade, ...] = ()
    measures: tuple[Measured, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    rounds: tuple[RoundMeasured, ...] = ()
    targets: tuple[TargetMeasured, ...] = ()
    failed: tuple[Failed, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON data, in the order of the fields."""
        return self.model_dump(mode="json", by_alias=True)


def figures(interval: Interval) -> dict[str, float | None]:
    """`value`, `low` and `high` of an interval; what is no number is None."""
    return {name: _known(getattr(interval, name)) for name in ("value", "low", "high")}


def cut(value: float, up: bool, decimals: int = 4) -> str:
    """A number with its last digit cut, downwards or upwards, never rounded to the nearer side."""
    exact = Decimal(repr(round(value, _DIGITS)))
    return format(exact.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_CEILING if up else ROUND_FLOOR), "f")


def shown(found: Figures, costs: bool = False) -> str:
    """`value [low, high]`, the value cut against what is measured (`costs`: less is better), the interval widened."""
    if found.value is None:
        return "not measured"
    around = "" if found.low is None or found.high is None else f" [{cut(found.low, False)}, {cut(found.high, True)}]"
    return f"{cut(found.value, costs)}{around}"


def read_results(path: Path) -> Results:
    """A `results.json`, or the one in a suite's folder.

    Raises:
        ConfigError: it is absent, larger than 64 MiB, or no such document; names the field.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        size = file.stat().st_size
        if size > BYTES_MAX:
            raise ConfigError(f"{file}: {size} bytes, the limit is {BYTES_MAX}; is it a results.json?")
        return Results.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({error.strerror or error}); `madflow eval run` writes it"
        ) from error
    except ValidationError as error:
        first: Mapping[str, Any] = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise ConfigError(
            f"{file}: no results of this version ({where}: {first['msg']}); run the suite again"
        ) from error


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None
