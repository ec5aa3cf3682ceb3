"""`Gate`: whether a proposal may be committed now, asked by an app without committing anything.

The rules are in `core.gate`, a pure function; here it gets what it is asked about: the proposal and its ballots from
the ledger, the policy from its file, and what is in the tree now. The submitter asks again when it commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..clock import SystemClock
from ..core.gate import Admitted, Rejected
from ..core.policy import Policy
from ..core.proposal import Proposal
from ..errors import ConfigError
from ..ports import Clock, FencedLedger
from .gating import Gatekeeper, proposal_of
from .requests import CommitRequest
from .steps import Step, registry

__all__ = ["Gate", "default_ledger", "ledger_place", "opened"]


def default_ledger(root: str | Path) -> Path:
    """Where the ledger of a root lies, where none is named."""
    return Path(root) / ".madflow" / "ledger.db"


def ledger_place(root: str | Path, ledger: str | Path | FencedLedger | None) -> str | Path | FencedLedger:
    """The ledger that is meant: by default `.madflow/ledger.db` beneath the root."""
    return default_ledger(root) if ledger is None or ledger == "" else ledger


@contextmanager
def opened(place: str | Path | FencedLedger, clock: Clock) -> Iterator[FencedLedger]:
    """The ledger at a path, closed afterwards; an open one is left open."""
    if not isinstance(place, str | Path):
        yield place
        return
    from ..ledger.sqlite import open_ledger

    ledger = open_ledger(Path(place), clock=clock)
    try:
        yield ledger
    finally:
        ledger.close()


class Gate:
    """The gate of one root.

    Args:
        root: the tree that plans are about; the ledger defaults to `.madflow/ledger.db` beneath it.
        ledger: a path, or an open ledger that the caller closes.
        policy: a policy, or the path of a policy.toml; by default `<root>/policy.toml`, read anew each time.
        steps: the app's own steps.
        clock: replaces the system's.

    Raises:
        ConfigError: the root is no folder, or two steps have one name.
    """

    def __init__(
        self,
        root: str | Path = ".",
        *,
        ledger: str | Path | FencedLedger | None = None,
        policy: Policy | str | Path | None = None,
        steps: Sequence[Step] = (),
        clock: Clock | None = None,
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise ConfigError(f"the root {self.root} is no folder; give the tree that the plan's steps touch")
        self._place, self._policy = ledger_place(root, ledger), policy
        self._steps, self._clock = registry(steps), clock or SystemClock()

    def check(self, proposal: Proposal | Mapping[str, Any] | str, *, confirmed_by: str = "") -> Admitted | Rejected:
        """`Admitted`, with the steps and their classes, or `Rejected` with every reason at once. Records nothing.

        It is judged as if for the first time: of what was committed already the tree is no more what the plan expects
        (`Committer.receipt` tells).

        Args:
            proposal: the proposal, its JSON data, or its id. What is judged is what the ledger knows under the id; how
                the data differs from that is among the reasons.
            confirmed_by: the human who confirms a proposal that asks for one.

        Raises:
            UsageError: the data names no proposal. PolicyError: the policy file cannot be used. LedgerError.
        """
        with opened(self._place, self._clock) as ledger:
            asked = proposal_of(ledger, proposal, self._clock)
            keeper = Gatekeeper(ledger, self.root, self._policy, steps=self._steps, clock=self._clock)
            return keeper.ask(CommitRequest(0, asked.proposal_id, asked.refusals, confirmed_by))
