"""Debates that were held, as policies and measures see them, and what they say about the seats of a panel.

Reliabilities hold for one panel: the same models in the same seats, told apart by their agents' ids. Debates of another
panel teach nothing about this one, so they are refused rather than mixed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..clock import SystemClock
from ..core.policies import Debated, Policy, Reliabilities, policy_named
from ..core.protocols.guided import debated_of
from ..core.state import State
from ..errors import ConfigError
from ..ports import Ledger
from .stream import DebateStream

__all__ = ["debated", "learn_from"]


def debated(ledger: Ledger, debate_id: str) -> Debated:
    """A debate of the protocol `answer`, as far as it was held, as policies see it.

    Raises:
        LedgerError: there is no such debate.
        ConfigError: it has another protocol.
    """
    return debated_of(_loaded(ledger, debate_id))


def learn_from(
    ledger: Ledger, policy: str | Policy, debate_ids: Iterable[str], panel: Mapping[str, str] | None = None
) -> Reliabilities:
    """What a policy learns, without labels, from the first rounds of earlier debates of one panel.

    Give the result to `Debate(policy=…, learned=…)`. A handful of debates says little; ten move a seat.

    Args:
        panel: agent to model of the debate to come; None: whatever the earlier ones had.

    Raises:
        LedgerError: there is no such debate.
        ConfigError: no debate is named, one has another protocol than `answer`, or two had different panels.
    """
    states = {debate_id: _loaded(ledger, debate_id) for debate_id in debate_ids}
    if not states:
        raise ConfigError("reliabilities are learned from debates that were held; name at least one")
    panels = {name: {seat.agent: seat.model for seat in state.config.voters} for name, state in states.items()}
    first = next(iter(panels))
    for name, held in panels.items():
        if held != panels[first]:
            raise ConfigError(
                f"debates {first!r} and {name!r} had different panels ({_shown(panels[first])}; {_shown(held)}); "
                "learn from debates of one panel"
            )
    if panel is not None and dict(panel) != panels[first]:
        raise ConfigError(
            f"debate {first!r} had another panel ({_shown(panels[first])}) than this one ({_shown(panel)}); learn from "
            "debates of the same models in the same seats"
        )
    chosen = policy_named(policy) if isinstance(policy, str) else policy
    return chosen.learn([debated_of(state) for state in states.values()])


def _loaded(ledger: Ledger, debate_id: str) -> State:
    state = DebateStream.load(ledger, debate_id, SystemClock()).state
    if state.config.protocol != "answer":
        raise ConfigError(f"debate {debate_id!r} has the protocol {state.config.protocol}; only answers can be counted")
    return state


def _shown(panel: Mapping[str, str]) -> str:
    return ", ".join(f"{agent}: {model}" for agent, model in sorted(panel.items()))[:200]
