"""One measured value beside its target, and its line."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Figure", "line"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `target` is None where the figure has none.

    Attributes:
        equal: met only by exactly the target. least: met from the target on; else met up to it.
    """

    section: str
    name: str
    value: float
    unit: str
    target: float | None = None
    detail: str = ""
    equal: bool = False
    least: bool = False

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        if self.equal:
            return self.value == self.target
        return self.value >= self.target if self.least else self.value <= self.target


def line(figure: Figure, quick: bool = False) -> str:
    """One figure beside its target."""
    sign = "=" if figure.equal else "≥" if figure.least else "≤"
    target = "" if figure.target is None else f"{sign} {figure.target:g}"
    verdict = "" if quick and not figure.equal else {None: "", True: "met", False: "NOT MET"}[figure.met]
    number = f"{figure.value:.0f}" if figure.equal or figure.unit in ("MB", "ms") else f"{figure.value:.3f}"
    value = f"{number} {figure.unit}".strip()
    return f"{figure.section:8} {figure.name:35} {value:>18}  {target:8} {verdict:8} {figure.detail}".rstrip()
