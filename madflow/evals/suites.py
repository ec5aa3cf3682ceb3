"""Suites: which recordings, which arms, which measures, which targets; TOML files that ship in the wheel.

    name = "flips"                       # also the file's name, and the folder of its results
    title = "Who changes an answer, and to what"
    about = "One sentence more."
    source = "recorded"                  # or "shipped", "reviews", "simulator", "live"
    answers = "number"                   # live: what an open question asks for (answers.py)
    arms = ["vote", "debate", "robust"]
    measures = ["accuracy", "collapses"]         # of every arm
    recorded = ["right_to_wrong"]                # of what was said, which no arm decides
    rounds = 3                                   # curves by round, up to this one; 0: none

    [[data]]
    label = "attack"
    files = ["attack-*"]                 # patterns over file names, without .jsonl.gz
    conditions = ["clean", "adversary"]  # a group each; none: all rows are one group
    each = true                          # and each file as a group of its own
    rows_per_run = 20                    # runs are cut into pieces of at most so many rows, in order
    arms = ["vote", "robust"]            # only these of the suite's; none: all of them

    [[comparison]]
    against = "debate"
    measures = ["accuracy"]

    [[target]]
    name = "clean, cheap"
    data = "attack"
    condition = "clean"
    arm = "robust"
    measure = "accuracy"
    against = "vote"                     # then the value is the difference
    target = ">= 0.006"
    known = "…"
    [[target.given]]                     # what must hold as well for the target to be met
    measure = "token_share"
    target = "<= 0.15"

A measure may have an argument after a colon: `oracle:1`, `interception:0.216`. docs/reference/suites.md lists them.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ..errors import ConfigError
from ..prompts import nearest
from .answers import Kind
from .suite_words import first_wrong

__all__ = [
    "ENDINGS",
    "RECORDED",
    "SWAPS",
    "Bound",
    "Compared",
    "Data",
    "Group",
    "Suite",
    "Target",
    "find_suites",
    "list_suites",
    "load_suite",
    "shipped_data",
]

RECORDED: Final = "recorded"
"""In place of an arm: what was said, whatever an arm makes of it."""

ENDINGS: Final = (".jsonl.gz", ".jsonl")
_BYTES_MAX: Final = 256 * 1024
SWAPS: Final = "swap_consistency"
"""The measure whose argument is an arm."""

_NAME: Final = r"^[a-z0-9][a-z0-9-]{0,59}$"
_ARM: Final = r"^[a-z][a-z0-9_+.-]{0,59}$"
_MEASURE: Final = r"^[a-z0-9_]{1,60}(:[a-z0-9_.+-]{1,60})?$"
_BOUND: Final = re.compile(r"(>=|<=|>|<) (-?[0-9]+(?:\.[0-9]+)?)", re.ASCII)

_Name = Annotated[str, StringConstraints(pattern=_NAME)]
_Label = Annotated[str, StringConstraints(min_length=1, max_length=80)]
_Arm = Annotated[str, StringConstraints(pattern=_ARM)]
_Measure = Annotated[str, StringConstraints(pattern=_MEASURE)]
_Bound = Annotated[str, StringConstraints(pattern=rf"^{_BOUND.pattern}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bound(_Part):
    """A measure, or its difference to that of another arm, and where it has to lie.

    Attributes:
        target: e.g. ">= 0.006".
        significant: the whole 95 % interval has to lie there, not only the value.
    """

    measure: _Measure
    target: _Bound
    against: _Arm | Literal[""] = ""
    significant: bool = False

    def holds(self, value: float | None, low: float | None, high: float | None) -> bool:
        """Whether a value with its interval meets it; what was not measured does not."""
        match = _BOUND.fullmatch(self.target)
        if match is None or value is None:
            return False
        sign, limit = match[1], float(match[2])
        worst = (low if sign[0] == ">" else high) if self.significant else value
        if worst is None:
            return False
        return {">=": worst >= limit, "<=": worst <= limit, ">": worst > limit, "<": worst < limit}[sign]


class Target(Bound):
    """A bound with a name, on one arm and group; met if `given` hold as well."""

    name: _Label
    data: _Label
    condition: str = ""
    arm: _Arm
    given: tuple[Bound, ...] = ()
    known: str = ""
    note: str = ""


class Compared(_Part):
    """Differences of `arms` (none: all others) to `against`."""

    against: _Arm
    arms: tuple[_Arm, ...] = ()
    measures: tuple[_Measure, ...] = ("accuracy",)


class Group(_Part):
    """A set of debates that is measured together: those of some files, of one condition ("": of any)."""

    label: str
    files: tuple[str, ...]
    condition: str
    rows_per_run: int | None
    arms: tuple[str, ...]

    @property
    def key(self) -> dict[str, str]:
        """How results name it."""
        return {"data": self.label, "condition": self.condition or "all"}


class Data(_Part):
    """Recordings by file name. See the module."""

    label: _Label
    files: tuple[_Label, ...] = Field(min_length=1)
    conditions: tuple[str, ...] = ()
    each: bool = False
    rows_per_run: int | None = Field(default=None, ge=1)
    arms: tuple[_Arm, ...] = ()

    def matching(self, stems: Mapping[str, Any]) -> tuple[str, ...]:
        """Those of `stems` that its patterns name, in order."""
        return tuple(stem for stem in sorted(stems) if any(fnmatch.fnmatchcase(stem, one) for one in self.files))

    def groups(self, stems: Mapping[str, Any], arms: tuple[str, ...]) -> list[Group]:
        """The groups these recordings form, the whole first. `arms`: the suite's."""
        found = self.matching(stems)
        sets = [(self.label, found)]
        if self.each:
            suffix = f"/{self.rows_per_run}" if self.rows_per_run else ""
            each = [(f"{stem}{suffix}", (stem,)) for stem in found]
            sets += [one for one in each if one != sets[0]]
        return [
            Group(label=label, files=files, condition=condition, rows_per_run=self.rows_per_run, arms=self.arms or arms)
            for label, files in sets
            for condition in self.conditions or ("",)
        ]


class Suite(_Part):
    """A suite, as its file says. See the module."""

    name: _Name
    title: _Label
    about: str = ""
    source: Literal["recorded", "shipped", "reviews", "simulator", "live"] = "recorded"
    answers: Kind = "number"
    arms: tuple[_Arm, ...] = ()
    measures: tuple[_Measure, ...] = ()
    recorded: tuple[_Measure, ...] = ()
    rounds: int = Field(default=0, ge=0, le=50)
    data: tuple[Data, ...] = ()
    comparison: tuple[Compared, ...] = ()
    target: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()


_TABLES: Final[Mapping[str, type[BaseModel]]] = {
    "": Suite,
    "data": Data,
    "comparison": Compared,
    "target": Target,
    "given": Bound,
}
_WORDS: Final[Mapping[str, str]] = {
    _NAME: "small letters, digits and -, at most 60 of them",
    _ARM: "an arm's name (`vote`, `robust`, …)",
    _MEASURE: "a measure's name, with its argument behind a colon where it takes one (`accuracy`, `oracle:1`)",
    rf"^{_BOUND.pattern}$": "a sign and a number, such as '>= 0.006'",
}


def find_suites() -> Path:
    """The folder with the shipped suites: inside an installed wheel, else at the root of a checkout.

    Raises:
        ConfigError: neither is there; names both places.
    """
    return _find("suites", "*.toml")


def shipped_data() -> Path:
    """The folder with the recordings that ship. Raises as `find_suites`."""
    return _find("shipped", "*.jsonl*")


def list_suites(folder: Path | None = None) -> dict[str, Path]:
    """Suite name to its file, by names in order."""
    return {path.stem: path for path in sorted((folder or find_suites()).glob("*.toml"))}


def load_suite(path: Path) -> Suite:
    """A suite from its file.

    Raises:
        ConfigError: it cannot be read, is no TOML, has a field that is unknown or wrong, or names what it does not
            have (an arm, a group).
    """
    content: dict[str, Any] = {}
    try:
        with path.open("rb") as file:
            raw = file.read(_BYTES_MAX + 1)
        if len(raw) > _BYTES_MAX:
            raise ConfigError(f"{path}: is longer than {_BYTES_MAX} bytes; split the suite")
        content = tomllib.loads(raw.decode())
        suite = Suite.model_validate(content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); name a suite's file") from error
    except (UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: is no TOML in UTF-8 ({error}); mend it") from error
    except ValidationError as error:
        said = first_wrong(error, content, _TABLES, _WORDS)
        raise ConfigError(f"{path}: {said}; see docs/reference/suites.md") from error
    _check(path, suite)
    return suite


def _check(path: Path, suite: Suite) -> None:
    """What the fields say of each other. Suites that run no arm on debates name what their figures are of as arms."""
    if suite.name != path.stem:
        raise ConfigError(f"{path}: the suite is called {suite.name!r} and its file {path.stem!r}; use one name")
    labels = [data.label for data in suite.data]
    if len(set(labels)) != len(labels) or len(set(suite.arms)) != len(suite.arms):
        raise ConfigError(f"{path}: labels and arms are distinct (labels={labels}, arms={list(suite.arms)}); fix them")
    strangers = sorted({arm for data in suite.data for arm in data.arms}.difference(suite.arms))
    if strangers:
        near = nearest(strangers[0], suite.arms)
        raise ConfigError(f"{path}: data names {', '.join(strangers)}, which is no arm of the suite{near}; add it")
    for target in suite.target:
        named = [target.arm, target.against, *(bound.against for bound in target.given)]
        unknown = sorted({arm for arm in named if arm and arm not in (*suite.arms, RECORDED)})
        known = target.data in labels or any(fnmatch.fnmatchcase(target.data, p) for d in suite.data for p in d.files)
        if not known or (unknown and suite.source in ("recorded", "shipped")):
            name, there = (unknown[0], suite.arms) if unknown else (target.data, labels)
            raise ConfigError(
                f"{path}: target {target.name!r} names an arm or data that the suite lacks "
                f"({', '.join(unknown) or target.data}){nearest(name, there)}; add it"
            )
        _check_condition(path, suite, target)
        _check_target_arms(path, suite, target)
    _check_swaps(path, suite)
    for one in suite.comparison:
        unknown = sorted({one.against, *one.arms}.difference(suite.arms))
        if unknown:
            near = nearest(unknown[0], suite.arms)
            raise ConfigError(
                f"{path}: a comparison names {', '.join(unknown)}, which is no arm of the suite{near}; add it"
            )


def _check_condition(path: Path, suite: Suite, target: Target) -> None:
    """A target on a condition that its data is not grouped by would be left unmeasured."""
    if suite.source not in ("recorded", "shipped", "simulator"):
        return
    any_of = ("",) if suite.source == "simulator" else ()
    there = {condition for data in _data_of(suite, target) for condition in data.conditions or ("",)}
    if target.condition not in {*there, *any_of}:
        raise ConfigError(
            f"{path}: target {target.name!r} names the condition {target.condition!r}, but data {target.data!r} has "
            f"{', '.join(repr(one) for one in sorted(there))}; fix the target, or the data's conditions"
        )


def _data_of(suite: Suite, target: Target) -> list[Data]:
    """The data a target names, by its label, else by a file of it."""
    named = [data for data in suite.data if data.label == target.data]
    return named or [data for data in suite.data if any(fnmatch.fnmatchcase(target.data, p) for p in data.files)]


def _check_target_arms(path: Path, suite: Suite, target: Target) -> None:
    """A target on an arm that its data leaves out would be left unmeasured."""
    if suite.source not in ("recorded", "shipped"):
        return
    bounds = (target, *target.given)
    named = {target.arm, *(bound.against for bound in bounds)} - {"", RECORDED}
    named |= {bound.measure.partition(":")[2] for bound in bounds if bound.measure.partition(":")[0] == SWAPS}
    for data in _data_of(suite, target):
        missing = sorted(named.intersection(suite.arms).difference(data.arms or suite.arms))
        if missing:
            raise ConfigError(
                f"{path}: target {target.name!r} names {', '.join(missing)}, which data {data.label!r} leaves out "
                f"(arms: {', '.join(data.arms)}); add it there"
            )


def _check_swaps(path: Path, suite: Suite) -> None:
    """Arms that measures name are arms of the suite."""
    if suite.source not in ("recorded", "shipped"):
        return
    bounds = (bound for target in suite.target for bound in (target, *target.given))
    for name in (*suite.measures, *(bound.measure for bound in bounds)):
        kind, _, arm = name.partition(":")
        if kind == SWAPS and arm not in suite.arms:
            raise ConfigError(
                f"{path}: measure {name!r} names {arm or 'nothing'}, which is no arm of the suite; add it"
            )


def _find(folder: str, pattern: str) -> Path:
    package = Path(__file__).resolve().parent.parent
    shipped, checkout = package / "_data" / "evals" / folder, package.parent / "evals" / folder
    if any(shipped.glob(pattern)):
        return shipped
    if (package.parent / "pyproject.toml").is_file() and any(checkout.glob(pattern)):
        return checkout
    raise ConfigError(f"no {pattern} in {shipped} nor {checkout}; the installation is incomplete, reinstall madflow")
