"""What a suite names, checked before anything is read: arms and measures that are there, and that go together."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from ..errors import ConfigError
from ..prompts import nearest
from .arms import ARMS
from .measuring import MEASURES, measure_named
from .scoring import check_measures
from .suites import RECORDED, SWAPS, Suite

__all__ = ["check_suite"]

_OF_ARMS: Final = ("adversary_loss", "detection", SWAPS)  # what Scorer itself makes, of arms' outcomes


def check_suite(suite: Suite) -> None:
    """Refuse a suite that names an arm or a measure that is not there, a measure of nothing (a round 0, a share of 7),
    or one where it cannot be taken.

    Raises:
        ConfigError: names the suite, the key, what is there and the nearest.
    """
    for arm in suite.arms:
        _known(suite, "arms", "arm", arm, ARMS)
    if suite.source not in ("recorded", "shipped"):
        return
    for key, name in _measures(suite):
        kind, colon, _ = name.partition(":")
        _known(suite, key, "measure", kind, (*MEASURES, *_OF_ARMS))
        if kind in _OF_ARMS:
            if bool(colon) != (kind == SWAPS):
                takes = f"an arm ({kind}:ARM)" if kind == SWAPS else "no argument"
                raise ConfigError(f"suite {suite.name}: {key}: measure {kind} takes {takes} ({name!r}); write it so")
            continue
        try:
            measure_named(name)
        except ConfigError as error:
            raise ConfigError(f"suite {suite.name}: {key}: {error}") from error
    check_measures(suite)
    said = [("recorded", name) for name in suite.recorded]
    said += [
        (f"[[target]] {target.name!r}", bound.measure)
        for target in suite.target
        if target.arm == RECORDED
        for bound in (target, *target.given)
    ]
    for key, name in said:
        if name.partition(":")[0] in _OF_ARMS or measure_named(name).of != "recordings":
            raise ConfigError(
                f"suite {suite.name}: {key}: measure {name} is of an arm, not of what was said; take it under measures"
            )
    compared = [("[[comparison]]", name) for one in suite.comparison for name in one.measures]
    compared += [
        (f"[[target]] {target.name!r}", bound.measure)
        for target in suite.target
        for bound in (target, *target.given)
        if bound.against
    ]
    for key, name in compared:
        if measure_named(name).of == "recordings":
            raise ConfigError(
                f"suite {suite.name}: {key}: measure {name} is of what was said, the same for every arm: it cannot be "
                "compared; leave it out"
            )


def _measures(suite: Suite) -> Iterator[tuple[str, str]]:
    """(key, measure) of all that a suite names."""
    for name in suite.measures:
        yield "measures", name
    for name in suite.recorded:
        yield "recorded", name
    for one in suite.comparison:
        for name in one.measures:
            yield "[[comparison]]", name
    for target in suite.target:
        for bound in (target, *target.given):
            yield f"[[target]] {target.name!r}", bound.measure


def _known(suite: Suite, key: str, kind: str, name: str, there: Collection[str]) -> None:
    if name not in there:
        near, names = nearest(name, there), ", ".join(there)
        raise ConfigError(f"suite {suite.name}: {key}: there is no {kind} {name!r}{near}; there are {names}")
