"""The caps of one debate, exactly: whole tokens, calls and seconds, and money in nano-dollars.

Money is never a float: 0.1 is not ten cents. Dollars come in as decimal text and are kept as 10⁻⁹ dollars, fine enough
for the price of one token, and whole, so that sums are exact.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Self

from pydantic import Field

from ..errors import ConfigError, ResumeRefused
from .messages import Frozen

__all__ = ["USD_NANOS_MAX", "Budget", "Limits", "usd_text"]

NANOS_DIGITS = 9
USD_NANOS_MAX = 10**18
"""A thousand million dollars: no cap is higher."""

_MAX = {"tokens": 10**12, "calls": 10**7, "seconds": 10**7, "call_seconds": 10**5}
_USD_CHARACTERS_MAX = 60


class Limits(Frozen):
    """The caps of one debate; `Budget` is its public name. All are at least 1, none is unlimited but money.

    Attributes:
        tokens: prompt and output tokens of all calls together.
        usd_nanos: money in 10⁻⁹ US dollars; None caps no money.
        calls: attempts at model calls, retries and repairs included.
        seconds: wall-clock time of the debate, over all its runs.
        call_seconds: deadline of one call (or what is left of `seconds`, if that is less).
    """

    tokens: int = Field(default=250_000, strict=True, ge=1, le=_MAX["tokens"])
    usd_nanos: int | None = Field(default=None, strict=True, ge=1, le=USD_NANOS_MAX)
    calls: int = Field(default=200, strict=True, ge=1, le=_MAX["calls"])
    seconds: int = Field(default=900, strict=True, ge=1, le=_MAX["seconds"])
    call_seconds: int = Field(default=60, strict=True, ge=1, le=_MAX["call_seconds"])

    @classmethod
    def of(
        cls,
        *,
        tokens: int = 250_000,
        usd: str | int | Decimal | None = None,
        calls: int = 200,
        seconds: int = 900,
        call_seconds: int = 60,
    ) -> Self:
        """Limits with the money in dollars, as text ("0.50"), a Decimal or whole dollars.

        Raises:
            ConfigError: a value is out of bounds; `usd` is a float (0.1 is not ten cents) or finer than 10⁻⁹ dollars.
        """
        nanos = None if usd is None else _usd_nanos(usd)
        given = {"tokens": tokens, "calls": calls, "seconds": seconds, "call_seconds": call_seconds}
        for name, value in given.items():
            _whole(name, value, _MAX[name])
        return cls(usd_nanos=nanos, **given)

    def raised_over(self, old: Limits) -> list[str]:
        """The names of the limits that are higher here than in `old`, as a resumed debate records them.

        Raises:
            ResumeRefused: a limit is lower than it was; a resumed debate may raise its budget, never lower it.
        """
        raised, lowered = [], []
        for name in type(self).model_fields:
            was, now = getattr(old, name), getattr(self, name)
            if was == now:
                continue
            if now is None or (was is not None and now > was):
                raised.append(name)
            else:
                lowered.append(f"{name} from {'no limit' if was is None else was} to {now}")
        if lowered:
            raise ResumeRefused(
                f"a resumed debate cannot lower its budget ({', '.join(lowered)}); keep those limits or raise them"
            )
        return raised


Budget = Limits


def _whole(name: str, value: object, upper: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"budget {name}={value!r} is {type(value).__name__}; give a whole number from 1 to {upper}")
    if not 1 <= value <= upper:
        raise ConfigError(f"budget {name}={value} is out of bounds; give a whole number from 1 to {upper}")


def _usd_nanos(usd: str | int | Decimal) -> int:
    if isinstance(usd, bool) or not isinstance(usd, str | int | Decimal):
        raise ConfigError(
            f'budget usd={usd!r} is {type(usd).__name__}, which does not hold cents exactly; give text, e.g. usd="0.50"'
        )
    if len(str(usd)) > _USD_CHARACTERS_MAX:
        raise ConfigError(f"budget usd is {len(str(usd))} characters long; give at most {_USD_CHARACTERS_MAX}")
    try:
        amount = Decimal(usd)
    except InvalidOperation as error:
        raise ConfigError(f'budget usd={usd!r} is not a decimal number; give dollars, e.g. usd="0.50"') from error
    if not amount.is_finite() or amount <= 0 or amount.adjusted() > len(str(USD_NANOS_MAX)) - NANOS_DIGITS:
        raise ConfigError(
            f"budget usd={usd} is out of bounds; give more than 0, at most {USD_NANOS_MAX // 10**NANOS_DIGITS} dollars"
        )
    if amount.adjusted() < -NANOS_DIGITS:
        raise ConfigError(f"budget usd={usd} is finer than 10⁻⁹ dollars; round it")
    # By digits, not by Decimal arithmetic: that rounds by a context which the host application may have changed.
    _, digits, exponent = amount.as_tuple()
    number = int("".join(map(str, digits)))
    shift = int(exponent) + NANOS_DIGITS
    nanos: int
    nanos, rest = (number * 10**shift, 0) if shift >= 0 else divmod(number, 10**-shift)
    if rest:
        raise ConfigError(f"budget usd={usd} is finer than 10⁻⁹ dollars; round it")
    _whole("usd_nanos", nanos, USD_NANOS_MAX)
    return nanos


def usd_text(nanos: int) -> str:
    """Nano-dollars as a decimal string of dollars, exact, with at least two decimals: `"0.50"`, `"0.000123"`."""
    whole, rest = divmod(abs(nanos), 10**NANOS_DIGITS)
    decimals = f"{rest:0{NANOS_DIGITS}d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nanos < 0 else ''}{whole}.{decimals}"
