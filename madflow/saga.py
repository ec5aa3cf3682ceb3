"""`Saga`: an app's own steps, all done or taken back, without a debate.

The app gives the steps and their arguments. They are frozen as a plan of `call` steps, which the app proposes to a
panel of one seat, its own, and approves; the plan then goes through the gate and the one submitter like any other. So
the ledger says of it, too, who proposed, who approved, who executed, and what happened, and a crash changes nothing:

    Saga(steps).run("order-7", {…})  ─▶  propose ─▶ approve ─▶ gate ─▶ submitter ─▶ receipt

The same name with the same arguments is the same saga: running it again returns its receipt and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .clock import SystemClock
from .commit.api import WAIT_S, Committer
from .commit.binding import bind
from .commit.gate import ledger_place, opened
from .commit.receipt import Receipt
from .commit.steps import Step
from .core.policy import Policy, parse_policy
from .errors import ConfigError
from .panel.api import EXPIRES_S, propose, read_panel, vote
from .ports import Clock, FencedLedger

__all__ = ["Saga"]

SCOPE: Final = "saga"
_RULE: Final = "unanimity"


class Saga:
    """Steps that are all done, in their order, or taken back in reverse.

    Args:
        steps: what is done. Give them to every `Saga` and `Committer` of this root: a recovery needs their code.
        root: a folder of the app's; the ledger defaults to `.madflow/ledger.db` beneath it.
        ledger: a path, or an open ledger that the caller closes.
        policy: what may be done; by default steps that are registered, and nothing else.
        scope: what its submitter serves; not the root's, whose policy is another.
        approved_by: who approves, by name, in the records: the app itself.
        expires_s: a saga that has not begun by then is not begun any more.
        clock: replaces the system's.

    Attributes:
        committer: what carries it out: `await saga.committer.recover()` finishes what a dead process left, and
            `saga.committer.resolve` takes a human's word on a step in doubt.

    Raises:
        ConfigError: no steps, two of one name, or the root is no folder.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        root: str | Path = ".",
        ledger: str | Path | FencedLedger | None = None,
        policy: Policy | str | Path | None = None,
        approved_by: str = "app",
        expires_s: int = EXPIRES_S,
        scope: str = SCOPE,
        clock: Clock | None = None,
    ) -> None:
        if not steps:
            raise ConfigError("a saga needs steps; give Step(name=…, do=…, undo=…)")
        self.steps = tuple(steps)
        self._place, self._clock = ledger_place(root, ledger), clock or SystemClock()
        self._by, self._expires_s = approved_by, expires_s
        # Any registered step: another saga's leader may come first, and what it has no code for it leaves to others.
        own = parse_policy({"allow": [{"step": ["call"], "names": ["*"]}]}, "the saga's own policy")
        self.committer = Committer(
            root,
            ledger=self._place,
            policy=own if policy is None else policy,
            steps=self.steps,
            scope=scope,
            clock=self._clock,
        )

    async def run(
        self, name: str, args: Mapping[str, Mapping[str, Any]] | None = None, *, wait_s: float = WAIT_S
    ) -> Receipt:
        """Run the saga, once for each name.

        Args:
            name: names this run, e.g. "order-7"; letters, digits, `.`, `_` and `-`.
            args: for each step, by name, the JSON object that its code gets.
            wait_s: as for `Committer.commit`.

        Raises:
            ConfigError: a name that cannot be one or is taken by other arguments, or arguments for an unknown step.
            PlanError: arguments that are no JSON. LedgerError, CommitError: as `Committer.commit`.
        """
        if not name.strip():
            raise ConfigError("a saga is run under a name, which makes it happen once; give one, e.g. 'order-7'")
        given = args or {}
        unknown = sorted(set(given) - {step.name for step in self.steps})
        if unknown:
            known = ", ".join(step.name for step in self.steps)
            raise ConfigError(f"the saga has no step {unknown[0]!r}; its steps: {known}")
        plan = [{"step": "call", "name": step.name, "args": dict(given.get(step.name, {}))} for step in self.steps]
        with opened(self._place, self._clock) as ledger:
            asked = await propose(
                ledger,
                plan,
                panel=[self._by],
                proposer=self._by,
                rule=_RULE,
                expires_s=self._expires_s,
                proposal_id=name,
                clock=self._clock,
            )
            # Before it is approved: a worker of another scope, which drains what is approved, must not take it.
            holder = await bind(ledger, asked, self.committer.scope)
            if holder != self.committer.scope:
                raise ConfigError(f"{name!r} belongs to scope {holder!r}; give the saga another name")
            if self._by in read_panel(ledger, asked).box.outstanding:
                await vote(ledger, asked, agent=self._by, decision="approve", clock=self._clock)
        return await self.committer.commit(asked, wait_s=wait_s)
