"""The budget: a hard cap on tokens, money, calls and time.

Theory of operation. What a call costs is known only after it, and a call that was dropped, timed out or killed may
have been billed without anyone saying so. So the worst case of a call is *reserved* before it is made (prompt tokens
plus the most it may answer), and recorded durably; afterwards the reservation is *settled* by what the provider
reports. Where nothing is reported, the reservation stays charged for good. Hence, at every moment,

    billed ≤ committed = spent (settled, unreported) + open (reserved)   and   committed ≤ cap

as long as no report exceeds its reservation. One that does is an *overshoot*: an estimate was wrong; it is charged in
full and reported, never hidden.

One end without a report is taken to be free: a request that the server *refused* to take up, because of a parameter it
has no use for. That is an assumption about providers, the only one that `billed ≤ committed` rests on beside reports.
Its tokens and money come back; its call was made and stays counted.

The landing. A debate that runs out must still be able to vote. Every reservation names the amount to *hold* back:
it is admitted only if `committed + amount + hold ≤ cap`. So after any admitted call that is not part of the landing,
the landing still fits. The landing's own calls pass what of the landing is left after them (in the end, nothing).

The account is a fold over its entries, `Reservation` and `Settlement`. `reserve` and `settle` return the entry to
record; `Account.fold` rebuilds the identical state from the recorded entries. A reservation that a killed process left
open stays charged at its worst case: `abandon_open` closes it for good, and no key is ever used twice.

Calls are counted when they are reserved and never come back. Time is not reserved: the caller, who has the clock,
says how long the debate ran, and asks whether it is over.

Where no tokenizer is known for a model, its prompt is reserved by its UTF-8 bytes, and settled calls calibrate later
estimates (`Calibration`); the account folds this too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..errors import BudgetExceeded, MadflowError, UnknownModel
from .calibration import CALIBRATION_BYTES_MIN, FRAMING_TOKENS, Calibration
from .limits import Budget, Limits, usd_text

__all__ = [
    "CALIBRATION_BYTES_MIN",
    "FRAMING_TOKENS",
    "Account",
    "Amount",
    "Budget",
    "Calibration",
    "Entry",
    "Limits",
    "Reservation",
    "Resource",
    "Settlement",
    "elapsed_ms",
    "require_prices",
    "usd_text",
]

Resource = Literal["tokens", "usd_nanos", "calls"]
_RESOURCES: tuple[Resource, ...] = ("tokens", "usd_nanos", "calls")


@dataclass(frozen=True, slots=True)
class Amount:
    """What one call, or several, may use or did use. Whole numbers, none below 0.

    Attributes:
        usd_nanos: 10⁻⁹ US dollars; None where the price is not known. A sum with an unknown price is unknown.
    """

    prompt_tokens: int = 0
    output_tokens: int = 0
    usd_nanos: int | None = 0
    calls: int = 0

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "output_tokens", "usd_nanos", "calls"):
            value = getattr(self, name)
            if value is None and name == "usd_nanos":
                continue
            if type(value) is not int or value < 0:
                raise MadflowError(f"an amount's {name} is {value!r}; it must be a whole number, at least 0")

    @property
    def tokens(self) -> int:
        """Prompt and output tokens together: what `Limits.tokens` caps."""
        return self.prompt_tokens + self.output_tokens

    def __add__(self, other: Amount) -> Amount:
        priced = self.usd_nanos is not None and other.usd_nanos is not None
        return Amount(
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
            (self.usd_nanos or 0) + (other.usd_nanos or 0) if priced else None,
            self.calls + other.calls,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, as entries carry it."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Amount:
        """The amount of `to_json`."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Reservation:
    """The worst case of one call, charged before it is made. Record it durably before the call.

    Attributes:
        key: names this one attempt; never used twice in a debate.
        landing: whether the call belongs to the landing.
        agent, purpose: whom and what for, as `report` splits by them; may be empty.
        model, utf8_bytes: where the prompt was estimated by its bytes: the model and how many; else 0 bytes.
    """

    key: str
    amount: Amount
    landing: bool = False
    agent: str = ""
    purpose: str = ""
    model: str = ""
    utf8_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, for a recorded event's payload."""
        data = {name: getattr(self, name) for name in self.__slots__}
        return {**data, "amount": self.amount.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reservation:
        """The reservation of `to_json`."""
        return cls(**{**data, "amount": Amount.from_json(data["amount"])})


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a reserved call used; `usage` None where nobody reported it, and the reservation stays.

    `refused`: the server did not take the request up, and its reservation goes, but for the call.
    """

    key: str
    usage: Amount | None
    refused: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, for a recorded event's payload."""
        data = {"key": self.key, "usage": None if self.usage is None else self.usage.to_json()}
        return {**data, "refused": True} if self.refused else data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Settlement:
        """The settlement of `to_json`."""
        usage = None if data["usage"] is None else Amount.from_json(data["usage"])
        return cls(data["key"], usage, data.get("refused", False))


Entry = Reservation | Settlement


class Account:
    """The running state of one debate's budget. Mutable; a fold over its entries.

    Attributes:
        limits: the caps in force.
        calibration: what settled calls taught about models without a tokenizer.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.calibration = Calibration()
        self._open: dict[str, Reservation] = {}
        self._keys: set[str] = set()
        self._committed = _Tally()
        self._unreported = _Tally()
        self._overshoot = _Tally()
        self._split: dict[tuple[str, str], _Tally] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Account) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def fold(cls, limits: Limits, entries: Iterable[Entry]) -> Account:
        """The account after `entries`, in the order in which they were recorded. Caps are not checked again."""
        account = cls(limits)
        for entry in entries:
            account.apply(entry)
        return account

    def apply(self, entry: Entry) -> None:
        """Take over one recorded entry.

        Raises:
            MadflowError: a key was reserved before, or settled without an open reservation.
        """
        if isinstance(entry, Reservation):
            self._check_new(entry.key)
            self._keys.add(entry.key)
            self._open[entry.key] = entry
            self._charge(entry)
        else:
            self._settle(entry)

    def raise_limits(self, limits: Limits) -> list[str]:
        """Put higher limits in force; the names of those that changed.

        Raises:
            ResumeRefused: a limit would be lowered.
        """
        raised = limits.raised_over(self.limits)
        self.limits = limits
        return raised

    @property
    def committed(self) -> Amount:
        """Spent and reserved so far: an upper bound of what was billed, unless `overshoot` says otherwise."""
        return self._committed.amount

    @property
    def unreported(self) -> Amount:
        """The part of `committed` that stays at its reservation because no usage was reported."""
        return self._unreported.amount

    @property
    def overshoot(self) -> Amount:
        """By how much reports exceeded their reservations, in sum; `calls` counts those calls."""
        return self._overshoot.amount

    @property
    def open_keys(self) -> tuple[str, ...]:
        """Keys that are reserved and not settled, oldest first."""
        return tuple(self._open)

    def seen(self, key: str) -> bool:
        """Whether `key` was ever reserved, so that a repeated attempt needs another key."""
        return key in self._keys

    def remaining(self, resource: Resource) -> int | None:
        """What is left under the cap, at least 0; None for money that has no cap."""
        cap = self._cap(resource)
        return None if cap is None else max(0, cap - _of(self.committed, resource))

    def affordable(self, amount: Amount, hold: Amount) -> BudgetExceeded | None:
        """None if `committed + amount + hold` fits under every cap, else the first cap that it breaks (not raised).

        Raises:
            UnknownModel: money is capped and a price is not known.
        """
        committed = self.committed
        for resource in _RESOURCES:
            cap = self._cap(resource)
            if cap is None:
                continue
            actual, held = _of(committed, resource) + _of(amount, resource), _of(hold, resource)
            if actual + held > cap:
                return BudgetExceeded(resource, cap, actual, held)
        return None

    def reserve(
        self,
        key: str,
        amount: Amount,
        *,
        hold: Amount,
        landing: bool = False,
        agent: str = "",
        purpose: str = "",
        model: str = "",
        utf8_bytes: int = 0,
    ) -> Reservation:
        """Charge the worst case of a call that is about to be made, and return the entry to record before it is.

        Args:
            amount: the worst case; `calls` is 1 for one attempt.
            hold: what the landing still needs after this call.

        Raises:
            BudgetExceeded: `committed + amount + hold` is above a cap. Nothing is charged.
            UnknownModel: money is capped and a price is not known. Nothing is charged.
            MadflowError: the key was used before.
        """
        self._check_new(key)
        exceeded = self.affordable(amount, hold)
        if exceeded is not None:
            raise exceeded
        entry = Reservation(key, amount, landing, agent, purpose, model, utf8_bytes)
        self.apply(entry)
        return entry

    def settle(self, key: str, usage: Amount | None, *, refused: bool = False) -> Settlement:
        """Replace a reservation by what the call used, and return the entry to record.

        A `usage` of None leaves the reservation charged for good. The reserved calls stay charged whatever
        `usage.calls` says, and so does the reserved money where the usage has no price. With `refused`, without a
        usage, nothing stays charged but the calls.

        Raises:
            MadflowError: the key has no open reservation: never reserved, or settled already.
        """
        entry = Settlement(key, usage, refused)
        self._settle(entry)
        return entry

    def abandon_open(self) -> list[Settlement]:
        """Close what a killed process left open, each at its worst case; the entries to record."""
        return [self.settle(key, None) for key in self.open_keys]

    def expired(self, elapsed_ms: int) -> bool:
        """Whether a debate that ran for `elapsed_ms`, over all its runs, is out of time."""
        return self.time_exceeded(elapsed_ms) is not None

    def time_exceeded(self, elapsed_ms: int) -> BudgetExceeded | None:
        """The exceeded time limit, as a value with its numbers (whole seconds), or None."""
        if elapsed_ms < self.limits.seconds * 1000:
            return None
        return BudgetExceeded("seconds", self.limits.seconds, elapsed_ms // 1000)

    def call_timeout_ms(self, elapsed_ms: int) -> int:
        """The deadline of a call that starts now: `call_seconds`, or what is left of `seconds` if that is less."""
        return max(0, min(self.limits.call_seconds * 1000, self.limits.seconds * 1000 - elapsed_ms))

    def report(self) -> dict[str, Any]:
        """The account as JSON data. Tokens and calls are what is charged; `unreported` and `open` are the parts of it
        that nobody reported; `overshoot` is what reports exceeded their reservations by. Money is a decimal string of
        dollars, null where a price is not known.
        """
        still_open = sum((entry.amount for entry in self._open.values()), Amount())
        caps = self.limits.model_dump()
        nanos = caps.pop("usd_nanos")
        return {
            "caps": {**caps, "usd": None if nanos is None else usd_text(nanos)},
            **_amount_report(self.committed),
            "unreported": _amount_report(self.unreported),
            "open": _amount_report(still_open),
            "overshoot": _amount_report(self.overshoot),
            "by_agent": self._split_report(0),
            "by_purpose": self._split_report(1),
        }

    def _split_report(self, part: int) -> dict[str, Any]:
        sums: dict[str, Amount] = {}
        for names, tally in self._split.items():
            if names[part]:
                sums[names[part]] = sums.get(names[part], Amount()) + tally.amount
        return {name: _amount_report(sums[name]) for name in sorted(sums)}

    def _cap(self, resource: Resource) -> int | None:
        if resource == "tokens":
            return self.limits.tokens
        return self.limits.usd_nanos if resource == "usd_nanos" else self.limits.calls

    def _check_new(self, key: str) -> None:
        if key in self._keys:
            raise MadflowError(f"the budget key {key!r} is already used; every attempt reserves under a key of its own")

    def _settle(self, entry: Settlement) -> None:
        reserved = self._open.get(entry.key)
        if reserved is None:
            what = "settled already" if entry.key in self._keys else "never reserved"
            raise MadflowError(f"the budget key {entry.key!r} was {what}; only an open reservation can be settled")
        del self._open[entry.key]
        worst, usage = reserved.amount, entry.usage
        if usage is None and entry.refused:
            free = Amount(usd_nanos=None if worst.usd_nanos is None else 0, calls=worst.calls)
            self._charge(reserved, -1)
            self._charge(replace(reserved, amount=free))
            return
        if usage is None:
            self._unreported.add(worst)
            return
        usd = worst.usd_nanos if usage.usd_nanos is None else usage.usd_nanos
        actual = Amount(usage.prompt_tokens, usage.output_tokens, usd, worst.calls)
        self._charge(reserved, -1)
        self._charge(replace(reserved, amount=actual))
        self._overshoot.add(_excess(actual, worst))
        if reserved.utf8_bytes:
            self.calibration = self.calibration.observe(reserved.model, reserved.utf8_bytes, usage.prompt_tokens)

    def _charge(self, entry: Reservation, sign: int = 1) -> None:
        self._committed.add(entry.amount, sign)
        self._split.setdefault((entry.agent, entry.purpose), _Tally()).add(entry.amount, sign)


def require_prices(limits: Limits, prices: Mapping[str, int | None]) -> None:
    """Check, before the first call, that a money cap can be kept.

    Args:
        prices: per model, any of its prices (e.g. the worst case of one call in nano-dollars); None where not known.

    Raises:
        UnknownModel: money is capped and a model has no known price; the message names every such model.
    """
    unknown = sorted(model for model, price in prices.items() if price is None)
    if limits.usd_nanos is not None and unknown:
        raise UnknownModel(
            f"the budget caps money at {usd_text(limits.usd_nanos)} US dollars, but the price of {', '.join(unknown)} "
            "is not known; cap tokens instead, or use a model with a known price"
        )


def elapsed_ms(segments: Iterable[tuple[int, int]]) -> int:
    """How long a debate ran over all its runs: the sum of (start_ms, end_ms), of which none counts below 0 where a
    wall clock was set back."""
    return sum(max(0, end - start) for start, end in segments)


@dataclass(slots=True)
class _Tally:
    """A running sum of amounts that can also be taken out again, which a sum with an unknown price cannot."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    usd_nanos: int = 0
    calls: int = 0
    unpriced: int = 0

    def add(self, amount: Amount, sign: int = 1) -> None:
        self.prompt_tokens += sign * amount.prompt_tokens
        self.output_tokens += sign * amount.output_tokens
        self.calls += sign * amount.calls
        if amount.usd_nanos is None:
            self.unpriced += sign
        else:
            self.usd_nanos += sign * amount.usd_nanos

    @property
    def amount(self) -> Amount:
        usd = None if self.unpriced else self.usd_nanos
        return Amount(self.prompt_tokens, self.output_tokens, usd, self.calls)


def _of(amount: Amount, resource: Resource) -> int:
    if resource == "tokens":
        return amount.tokens
    if resource == "calls":
        return amount.calls
    if amount.usd_nanos is None:
        raise UnknownModel("the budget caps money, but the price of a call is not known; cap tokens instead")
    return amount.usd_nanos


def _excess(actual: Amount, worst: Amount) -> Amount:
    """What `actual` uses beyond `worst`, tokens as a sum of both kinds; `calls` is 1 if it does, else all is 0."""
    tokens = max(0, actual.tokens - worst.tokens)
    prompt = min(tokens, max(0, actual.prompt_tokens - worst.prompt_tokens))
    known = actual.usd_nanos is not None and worst.usd_nanos is not None
    usd = max(0, (actual.usd_nanos or 0) - (worst.usd_nanos or 0)) if known else 0
    return Amount(prompt, tokens - prompt, usd, 1 if tokens or usd else 0)


def _amount_report(amount: Amount) -> dict[str, Any]:
    usd = None if amount.usd_nanos is None else usd_text(amount.usd_nanos)
    return {
        "prompt_tokens": amount.prompt_tokens,
        "output_tokens": amount.output_tokens,
        "usd": usd,
        "calls": amount.calls,
    }
