"""Debates that were held, as policies and measures see them, and what they say about the seats of a panel.

Reliabilities hold for one panel: the same models in the same seats, told apart by their agents' ids. Debates of another
panel teach nothing about this one, so they are refused rather than mixed in.

What a debate came to is folded from its stream, decision by decision, and that is most of what learning costs. A stream
whose debate has landed folds to the same rounds for ever: whoever learns again and again, as a run of many questions
does, keeps one `Past`, which folds each debate once. It is kept by its owner and nowhere else: the ledger holds what
happened, not what was made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..clock import SystemClock
from ..core.policies import Debated, Policy, Reliabilities, policy_named
from ..core.protocols.guided import debated_of
from ..core.state import State
from ..errors import ConfigError
from ..ports import Ledger
from .stream import DebateStream

__all__ = ["Past", "debated", "learn_from"]


class Past:
    """Debates of one ledger, each read at most once after it has landed; one that has not is read again each time.

    Holds the replies of all that it was asked for, until it is let go of.
    """

    def __init__(self, ledger: Ledger) -> None:
        if isinstance(ledger, str | Path):
            raise ConfigError(
                f"Past keeps a ledger that is open, not a path ({str(ledger)!r:.120}); give open_ledger(path)"
            )
        self._ledger = ledger
        self._known: dict[str, _Told] = {}

    def add(self, state: State) -> Debated:
        """A debate of this ledger whose state is at hand, as `debate.run.hold` returns it: it need not be read.

        That it is of this ledger is the caller's word, checked as far as it can be without reading: a debate that has
        landed says the same for ever, so another one under an id that is known is of another ledger.

        Raises:
            ConfigError: it has another protocol than `answer`, or a debate of its id is known and says something else.
        """
        told = _told(state)
        if state.phase == "landed":
            name = state.config.debate_id
            if self._known.setdefault(name, told) != told:
                raise ConfigError(
                    f"debate {name!r} is known and says something else: this one is of another ledger; keep one Past a "
                    "ledger, or give debates ids of their own"
                )
        return told.debated

    def debated(self, debate_id: str) -> Debated:
        """A debate of the protocol `answer`, as far as it was held, as policies see it. Raises as `debated`."""
        return self._of(debate_id).debated

    def learn(
        self, policy: str | Policy, debate_ids: Iterable[str], panel: Mapping[str, str] | None = None
    ) -> Reliabilities:
        """What a policy learns from these debates. Arguments and errors as for `learn_from`."""
        told = {debate_id: self._of(debate_id) for debate_id in debate_ids}
        if not told:
            raise ConfigError("reliabilities are learned from debates that were held; name at least one")
        first = next(iter(told))
        held = told[first].panel
        for name, other in told.items():
            if other.panel != held:
                raise ConfigError(
                    f"debates {first!r} and {name!r} had different panels ({_shown(held)}; {_shown(other.panel)}); "
                    "learn from debates of one panel"
                )
        if panel is not None and dict(panel) != held:
            raise ConfigError(
                f"debate {first!r} had another panel ({_shown(held)}) than this one ({_shown(panel)}); learn from "
                "debates of the same models in the same seats"
            )
        chosen = policy_named(policy) if isinstance(policy, str) else policy
        return chosen.learn([one.debated for one in told.values()])

    def _of(self, debate_id: str) -> _Told:
        if debate_id in self._known:
            return self._known[debate_id]
        state = DebateStream.load(self._ledger, debate_id, SystemClock()).state
        told = _told(state)
        if state.phase == "landed":
            self._known[debate_id] = told
        return told


def debated(ledger: str | Path | Ledger, debate_id: str) -> Debated:
    """A debate of the protocol `answer`, as far as it was held, as policies see it.

    Args:
        ledger: the path of one that is there, or an open one.

    Raises:
        LedgerError: there is no such debate.
        ConfigError: it has another protocol.
    """
    with _opened(ledger) as opened:
        return Past(opened).debated(debate_id)


def learn_from(
    ledger: str | Path | Ledger,
    policy: str | Policy,
    debate_ids: Iterable[str],
    panel: Mapping[str, str] | None = None,
) -> Reliabilities:
    """What a policy learns, without labels, from the first rounds of earlier debates of one panel.

    Give the result to `Debate(policy=…, learned=…)`. A handful of debates says little; ten move a seat. Who learns
    repeatedly keeps a `Past`, which reads each debate once.

    Args:
        ledger: the path of one that is there, or an open one.
        panel: agent to model of the debate to come; None: whatever the earlier ones had.

    Raises:
        LedgerError: there is no such debate, or no ledger at the path.
        ConfigError: no debate is named, one has another protocol than `answer`, or two had different panels.
    """
    with _opened(ledger) as opened:
        return Past(opened).learn(policy, debate_ids, panel)


@contextmanager
def _opened(ledger: str | Path | Ledger) -> Iterator[Ledger]:
    """A ledger by its path, opened to be read and closed again; an open one stays open."""
    if not isinstance(ledger, str | Path):
        yield ledger
        return
    from ..ledger.sqlite import open_ledger

    with open_ledger(Path(ledger), readonly=True) as opened:
        yield opened


@dataclass(frozen=True, slots=True)
class _Told:
    """What one debate says: its rounds, and agent to model of the seats that held it."""

    debated: Debated
    panel: Mapping[str, str]


def _told(state: State) -> _Told:
    config = state.config
    if config.protocol != "answer":
        raise ConfigError(
            f"debate {config.debate_id!r} has the protocol {config.protocol}; only answers can be counted"
        )
    return _Told(debated_of(state), {seat.agent: seat.model for seat in config.voters})


def _shown(panel: Mapping[str, str]) -> str:
    return ", ".join(f"{agent}: {model}" for agent, model in sorted(panel.items()))[:200]
