"""The ballot box: every ballot of every eligible seat is accounted for.

    eligible = valid + abstain + invalid + missing          in seats, and the same in weight, at any time

- A seat is *eligible* if it is in the electorate and not recused. A recused seat (it voted on its own finding, say)
  has no ballot here: what it casts is refused with the cause of its recusal.
- A seat has one ballot per subject, and it is never changed. The first one counts, whatever it was worth: a ballot that
  names an unknown option, names one twice or names none is spent as *invalid*, and so is a reply that did not parse
  (`spoil`). A seat that was not asked or did not answer is *missing* (`miss`), with the cause. While the box is
  open, a seat that nothing is known of yet counts as missing, with the cause "outstanding".
- Nothing but a valid ballot ever becomes a choice. Abstaining is not an option: no option may be named after it.
- `close` ends the vote. What comes later is refused, and stays on record in `refused`.

A box is a value: every method returns a new one. Seats and refusals are kept sorted by agent, so that two boxes that
hold the same ballots are equal, in whatever order they came. `refused` grows by one for each ballot that comes in
vain; ballots come from replies, and replies are bounded by the debate's budget.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from ..errors import ConfigError

__all__ = ["OPTIONS_MAX", "OUTSTANDING", "SEATS_MAX", "BallotBox", "Entry", "Status", "Tally"]

Status = Literal["valid", "abstain", "invalid", "missing"]

OUTSTANDING: Final = "outstanding"
OPTIONS_MAX: Final = 500
SEATS_MAX: Final = 1000
_CAUSE_CHARS: Final = 80
_RESERVED: Final = frozenset({"abstain", "invalid", "missing"})
_MOTION: Final = (("approve", "reject"), ("reject", "approve"))
_NOBODY: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one eligible seat's ballot.

    Attributes:
        weight: the seat's integer voting weight, at least 1.
        choices: options named, best first; empty unless `status` is "valid".
        confidence: in [0, 1] where the seat gave one; it is recorded and never counted.
        cause: why the ballot is invalid or missing, empty otherwise.
    """

    agent: str
    weight: int
    status: Status = "missing"
    choices: tuple[str, ...] = ()
    notes: str = ""
    confidence: float | None = None
    cause: str = OUTSTANDING

    @property
    def outstanding(self) -> bool:
        """Whether this seat may still vote."""
        return self.status == "missing" and self.cause == OUTSTANDING


@dataclass(frozen=True, slots=True)
class Tally:
    """Seats and weights by status, and the weight of first choices by option, in the box's option order."""

    eligible: int
    valid: int
    abstain: int
    invalid: int
    missing: int
    eligible_weight: int
    valid_weight: int
    abstain_weight: int
    invalid_weight: int
    missing_weight: int
    first: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class BallotBox:
    """One vote on one subject. Make it with `BallotBox.open`.

    Attributes:
        subject: what is voted on, e.g. a digest.
        options: what may be chosen; their order is the order of "earliest".
        seats: one entry per eligible seat, sorted by agent.
        recused: (agent, cause) of seats that may not vote on this subject, sorted.
        refused: (agent, cause) of ballots that were not taken, sorted.
        closed: why the vote ended, empty while it is open.
    """

    subject: str
    options: tuple[str, ...]
    seats: tuple[Entry, ...]
    recused: tuple[tuple[str, str], ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    closed: str = ""

    @classmethod
    def open(
        cls,
        subject: str,
        options: Sequence[str],
        electorate: Mapping[str, int],
        recused: Mapping[str, str] = _NOBODY,
    ) -> BallotBox:
        """Open a vote.

        Args:
            options: distinct, at most 500; none may be called abstain, invalid or missing. Without any (nobody proposed
                one) no ballot can be valid.
            electorate: agent to integer weight, at least 1; may be empty (then nothing can be decided).
            recused: agent to cause, e.g. "self_vote"; these agents are not eligible.

        Raises:
            ConfigError: names what is wrong with the options, the electorate or a recusal.
        """
        _check_options(subject, options)
        if len(electorate) > SEATS_MAX:
            raise ConfigError(f"a vote has at most {SEATS_MAX} seats (seats={len(electorate)}); seat fewer agents")
        for agent, weight in electorate.items():
            if not agent or type(weight) is not int or weight < 1:
                raise ConfigError(
                    f"the weight of seat {agent!r} must be a whole number of at least 1 (weight={weight!r}); fix it"
                )
        for agent, cause in recused.items():
            if not cause:
                raise ConfigError(f"the recusal of {agent!r} has no cause; name one, e.g. 'self_vote'")
        seats = tuple(Entry(agent, electorate[agent]) for agent in sorted(electorate) if agent not in recused)
        return cls(subject, tuple(options), seats, tuple(sorted(recused.items())))

    @property
    def is_motion(self) -> bool:
        """Whether this is a yes-or-no vote: its options are approve and reject, nothing else."""
        return self.options in _MOTION

    @property
    def entries(self) -> dict[str, Entry]:
        """Every eligible seat's entry by agent, in the order of ids; seats that may still vote are in it too."""
        return {entry.agent: entry for entry in self.seats}

    @property
    def outstanding(self) -> tuple[str, ...]:
        """Agents that may still vote, sorted."""
        return tuple(entry.agent for entry in self.seats if entry.outstanding)

    def cast(
        self,
        agent: str,
        choices: Sequence[str],
        *,
        subject: str,
        notes: str = "",
        confidence: float | None = None,
    ) -> tuple[BallotBox, str]:
        """Take a seat's ballot: options by preference, best first (rules of a single choice read the first).

        Returns the new box and why the ballot was refused, or "" if it was taken. A refused ballot changes nothing but
        `refused`; its cause is the seat's recusal, "not_eligible", "closed" (too late for this box or this seat),
        "wrong_subject" or "duplicate". A ballot that was taken may still be *invalid*: see the entry's `cause`
        ("empty", "unknown_option: X", "repeated_option: X", "bad_confidence: X").
        """
        if isinstance(choices, str):
            raise TypeError(f"choices must be a sequence of options, not the text {choices!r}")
        place, refusal = self._place(agent)
        if not refusal and subject != self.subject:
            refusal = "wrong_subject"
        if refusal:
            return self._refuse(agent, refusal), refusal
        weight = self.seats[place].weight
        cause = self._flaw(choices, confidence)
        if cause:
            return self._put(place, Entry(agent, weight, "invalid", (), notes, None, cause)), ""
        return self._put(place, Entry(agent, weight, "valid", tuple(choices), notes, confidence, "")), ""

    def abstain(self, agent: str, notes: str = "") -> BallotBox:
        """Take a seat's abstention. A refusal is recorded in `refused`, as for `cast`; so do `spoil` and `miss`."""
        return self._set(agent, "abstain", notes, "")

    def spoil(self, agent: str, cause: str) -> BallotBox:
        """Spend a seat's ballot as invalid: its reply could not be read."""
        return self._set(agent, "invalid", "", _named(cause))

    def miss(self, agent: str, cause: str) -> BallotBox:
        """Give up on a seat: it was not asked, or did not answer."""
        return self._set(agent, "missing", "", _named(cause))

    def close(self, cause: str) -> BallotBox:
        """End the vote: outstanding seats become missing with `cause`, and later ballots are refused as "closed".

        Closing a closed box changes nothing: the first cause stands.
        """
        cause = _named(cause)
        if self.closed:
            return self
        seats = tuple(
            Entry(entry.agent, entry.weight, cause=cause) if entry.outstanding else entry for entry in self.seats
        )
        return BallotBox(self.subject, self.options, seats, self.recused, self.refused, cause)

    def tally(self) -> Tally:
        """Count seats and weights by status. Outstanding seats count as missing."""
        first = dict.fromkeys(self.options, 0)
        seats: dict[Status, int] = {"valid": 0, "abstain": 0, "invalid": 0, "missing": 0}
        weights = seats.copy()
        for entry in self.seats:
            seats[entry.status] += 1
            weights[entry.status] += entry.weight
            if entry.status == "valid":
                first[entry.choices[0]] += entry.weight
        return Tally(
            eligible=len(self.seats),
            valid=seats["valid"],
            abstain=seats["abstain"],
            invalid=seats["invalid"],
            missing=seats["missing"],
            eligible_weight=sum(weights.values()),
            valid_weight=weights["valid"],
            abstain_weight=weights["abstain"],
            invalid_weight=weights["invalid"],
            missing_weight=weights["missing"],
            first=first,
        )

    def _place(self, agent: str) -> tuple[int, str]:
        """Where a seat stands in `seats`, and why it may not vote now ("" if it may)."""
        for place, entry in enumerate(self.seats):
            if entry.agent == agent:
                if entry.outstanding:
                    return place, ""
                return place, "closed" if self.closed or entry.status == "missing" else "duplicate"
        return -1, dict(self.recused).get(agent, "not_eligible")

    def _flaw(self, choices: Sequence[str], confidence: float | None) -> str:
        """What makes a ballot invalid, or ""."""
        if not choices:
            return "empty"
        for place, choice in enumerate(choices):
            if choice not in self.options:
                return f"unknown_option: {_shown(choice)}"
            if choice in choices[:place]:
                return f"repeated_option: {_shown(choice)}"
        if confidence is not None and not (isinstance(confidence, int | float) and 0 <= confidence <= 1):
            return f"bad_confidence: {_shown(confidence)}"
        return ""

    def _set(self, agent: str, status: Status, notes: str, cause: str) -> BallotBox:
        place, refusal = self._place(agent)
        if refusal:
            return self._refuse(agent, refusal)
        return self._put(place, Entry(agent, self.seats[place].weight, status, (), notes, None, cause))

    def _put(self, place: int, entry: Entry) -> BallotBox:
        seats = (*self.seats[:place], entry, *self.seats[place + 1 :])
        return BallotBox(self.subject, self.options, seats, self.recused, self.refused, self.closed)

    def _refuse(self, agent: str, cause: str) -> BallotBox:
        refused = list(self.refused)
        insort(refused, (agent, cause))
        return BallotBox(self.subject, self.options, self.seats, self.recused, tuple(refused), self.closed)


def _check_options(subject: str, options: Sequence[str]) -> None:
    if not subject:
        raise ConfigError("a vote needs a subject; name what is voted on, e.g. its digest")
    if isinstance(options, str) or len(options) > OPTIONS_MAX:
        raise ConfigError(f"a vote has a list of at most {OPTIONS_MAX} options (options={len(options)}); offer fewer")
    if len(set(options)) != len(options):
        raise ConfigError(f"the options of a vote must differ (options={list(options)}); drop the repeated one")
    for option in options:
        if not option.strip() or option.strip().casefold() in _RESERVED:
            raise ConfigError(
                f"an option cannot be called {option!r}: abstain, invalid and missing are what becomes of ballots, "
                "never choices; rename it"
            )


def _named(cause: str) -> str:
    if not cause or cause == OUTSTANDING:
        raise ValueError(f"name why the ballot is lost, e.g. 'timeout' (cause={cause!r})")
    return cause


def _shown(choice: object) -> str:
    """A hostile choice, fit for a record: bounded, and free of lone surrogates, which canonical JSON cannot hold."""
    text = str(choice)
    if len(text) > _CAUSE_CHARS:
        text = text[: _CAUSE_CHARS - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
