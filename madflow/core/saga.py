"""stub for types"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Absent", "Done", "Failed", "Uncertain"]


@dataclass(frozen=True, slots=True)
class Done:
    """The effect has happened. `result`: plain JSON for the record, bounded by the effect."""

    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed.

    Attributes:
        code: short machine-readable cause, e.g. "exit_code", "timeout", "precondition_failed", "permission_denied".
        message: for people; bounded.
        transient: whether another attempt may succeed.
        applied: False: the effect certainly did not happen; True: it ran and failed, as a command that exits with 1;
            None: not known.
    """

    code: str
    message: str
    transient: bool = False
    applied: bool | None = None
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Absent:
    """A probe found that the effect has not happened."""


@dataclass(frozen=True, slots=True)
class Uncertain:
    """A probe cannot tell."""

    why: str
