"""One line of a recorded file, checked field by field: what is missing gets its default, what is wrong gets named.

Only what the loader uses is checked; other fields pass. The schema stands in docs/reference/eval-data.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any, Final, NoReturn

from ..core.config import BALLOTS_MAX
from ..errors import ConfigError

__all__ = ["PROMPT_CHARS_MAX", "ROUNDS_MAX", "SEATS_MAX", "Agent", "Line", "checked"]

SEATS_MAX: Final = BALLOTS_MAX
ROUNDS_MAX: Final = 64
PROMPT_CHARS_MAX: Final = 10**8


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent of a row. `identity`: which seat of the run it is; `votes_only`: its rounds have no texts."""

    id: str
    identity: str
    rounds: tuple[str | None, ...]
    answers: tuple[str | None, ...] = ()
    adversary: bool = False
    prompt_chars: tuple[int | None, ...] = ()
    latency_ms: tuple[int | None, ...] = ()
    tokens: tuple[tuple[int, int] | None, ...] = ()
    votes_only: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A checked row. `option_count`: where the row says how many options there are and not which."""

    task_id: str
    run: str
    dataset: str
    question: str
    options: tuple[tuple[str, str], ...]
    option_count: int
    gold: str | None
    condition: str
    agents: tuple[Agent, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)


def checked(value: Any, where: str, stem: str, models: Sequence[str] | None) -> Line:
    """A row from its JSON.

    Args:
        where: "file:line", for messages; stem: the run of a row that names none; models: of a file of votes, else None.

    Raises:
        ConfigError: a field that is missing or does not fit.
    """
    row = _Fields(value, where)
    if models is None and "agents" not in row:
        row.refuse(
            "agents",
            "missing",
            'every row lists its agents with their "rounds"; a file of votes opens with {"models": [..]}',
        )
    agents = _agents(row) if "agents" in row else _voters(row, models or ())
    _check_seats(row, agents)
    count = row.number("n_options")
    return Line(
        task_id=row.words("task_id") or where,
        run=row.text("run") or stem,
        dataset=row.text("dataset"),
        question=row.words("question"),
        options=_options(row),
        option_count=count if 2 <= count <= len(ascii_uppercase) else 0,
        gold=row.text("gold") or None,
        condition=row.text("condition"),
        agents=agents,
        meta=row.get("meta", dict, {}),
    )


def _check_seats(row: _Fields, agents: Sequence[Agent]) -> None:
    name = "agents" if "agents" in row else "votes"
    if not 1 <= len(agents) <= SEATS_MAX:
        row.refuse(name, f"{len(agents)} seats", f"there are 1 to {SEATS_MAX}; leave some out, or split the row")
    counts = Counter(agent.identity for agent in agents)
    identity, count = counts.most_common(1)[0]
    if count > 1:
        named = " of model ".join(filter(None, identity.split("\x00")))
        row.refuse(name, f"{count} are called {named[:60]}", "give each its own id")


class _Fields:
    """A JSON object that names itself in its errors."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} is no JSON object ({str(value)[:40]!r}); a row is one object a line")
        self.value, self.where = value, where

    def __contains__(self, name: str) -> bool:
        return self.value.get(name) is not None

    def refuse(self, name: str, found: str, fix: str) -> NoReturn:
        raise ConfigError(f"{self.where} field {name}: {found[:120]}; {fix}")

    def get(self, name: str, kind: type[Any], default: Any) -> Any:
        value = self.value.get(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            self.refuse(name, f"found {str(value)[:60]!r}", f"it must be a JSON {_NAMES[kind]}")
        return value

    def text(self, name: str) -> str:
        """A string; numbers are written out."""
        value = self.value.get(name)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.refuse(name, f"found {str(value)[:60]!r}", "it must be a JSON string or number")
        try:
            return _whole(str(value))
        except ValueError as error:
            self.refuse(name, str(error), "fix the text")

    def words(self, name: str) -> str:
        """A string as it is, "" where it is blank."""
        text = self.text(name)
        return text if text.strip() else ""

    def number(self, name: str) -> int:
        value = self.get(name, int, 0)
        return int(value)

    def items(self, name: str, make: Callable[[Any], Any]) -> tuple[Any, ...]:
        """A list, null where an entry is; `make` raises ValueError for an entry that does not fit."""
        values = self.get(name, list, [])
        try:
            return tuple(None if value is None else make(value) for value in values)
        except ValueError as error:
            self.refuse(name, str(error), "fix the entry, or write null where nothing was recorded")


_NAMES: Final[Mapping[type[Any], str]] = {dict: "object", list: "array", int: "whole number", bool: "true or false"}


def _options(row: _Fields) -> tuple[tuple[str, str], ...]:
    """Words get the letters A, B, C, …; an object maps letters to words."""
    value = row.value.get("options")
    if value is None:
        return ()
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or not 2 <= len(pairs) <= len(ascii_uppercase):
        row.refuse(
            "options",
            f"found {str(value)[:60]!r}",
            f"there are 2 to {len(ascii_uppercase)}, as a JSON array of strings",
        )
    if not isinstance(value, dict):
        pairs = list(zip(ascii_uppercase, pairs, strict=False))
    if not all(letter in ascii_uppercase and len(letter) == 1 and isinstance(words, str) for letter, words in pairs):
        row.refuse("options", f"found {str(value)[:60]!r}", "options are strings, their letters A to Z")
    try:
        return tuple((letter, _whole(words)) for letter, words in pairs)
    except ValueError as error:
        row.refuse("options", str(error), "fix the text")


def _agents(row: _Fields) -> tuple[Agent, ...]:
    return tuple(
        _agent(_Fields(value, f"{row.where} field agents[{place}]"), place)
        for place, value in enumerate(row.get("agents", list, []))
    )


def _agent(one: _Fields, place: int) -> Agent:
    rounds = one.items("rounds", _said)
    if "rounds" not in one:
        one.refuse("rounds", "missing", "it lists what the agent said, a string or null a round")
    if len(rounds) > ROUNDS_MAX:
        one.refuse("rounds", f"{len(rounds)} rounds", f"the limit is {ROUNDS_MAX}; split the row")
    name = one.text("id")
    return Agent(
        id=name or str(place),
        identity="\x00".join((name or f"#{place}", one.text("model"))),
        rounds=rounds,
        answers=one.items("answers", _answered),
        adversary=bool(one.get("adversary", bool, False)),
        prompt_chars=one.items("prompt_chars", _chars),
        latency_ms=one.items("latency_ms", _count),
        tokens=one.items("tokens", _pair),
    )


def _voters(row: _Fields, models: Sequence[str]) -> tuple[Agent, ...]:
    votes = row.items("votes", _answered)
    if len(votes) != len(models):
        row.refuse(
            "votes", f"{len(votes)} votes", f"there is one, or null, for each of the {len(models)} models of line 1"
        )
    return tuple(
        Agent(model, model, rounds=(None,), answers=(vote,), votes_only=True)
        for model, vote in zip(models, votes, strict=True)
    )


def _said(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"found {str(value)[:60]!r}, not a string")
    return _whole(value)


def _answered(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"found {str(value)[:60]!r}, not a string or number")
    return _whole(str(value))


def _whole(text: str) -> str:
    """The text, where it can be written: half of a surrogate pair, which JSON can hold, is in no UTF-8 file."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a surrogate pair at character {error.start + 1} ({text[error.start]!a})") from error
    return text


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise ValueError(f"found {str(value)[:60]!r}, not a number from 0")
    return round(value)


def _chars(value: Any) -> int:
    """A prompt's length. A debate's budget has to be above all that its prompts come to, so each has a limit."""
    count = _count(value)
    if count > PROMPT_CHARS_MAX:
        raise ValueError(f"found {count}, the limit is {PROMPT_CHARS_MAX} characters a prompt")
    return count


def _pair(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"found {str(value)[:60]!r}, not [prompt, completion]")
    return _count(value[0]), _count(value[1])
