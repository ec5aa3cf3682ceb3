"""A proposal belongs to one scope: the first that admits it, for good.

Idempotency keys contain the scope, so two scopes that commit one proposal would each do its effects. The stream
`bound/<proposal_id>` has one record at most, written where the stream is still empty: whoever is first has it.
"""

from __future__ import annotations

from ..errors import LedgerConflict
from ..ports import Event, Ledger
from .streams import BOUND

__all__ = ["bind", "bound_scope"]


def bound_scope(ledger: Ledger, proposal_id: str) -> str:
    """The scope that has the proposal; empty while none has."""
    records = ledger.read(f"{BOUND}{proposal_id}")
    return str(records[0].payload["scope"]) if records else ""


async def bind(ledger: Ledger, proposal_id: str, scope: str) -> str:
    """Take the proposal for `scope`, unless another has it. The scope that has it; durable when it returns."""
    held = bound_scope(ledger, proposal_id)
    if held:
        return held
    try:
        await ledger.record(f"{BOUND}{proposal_id}", [Event("bound", {"scope": scope})], after=0)
    except LedgerConflict:
        return bound_scope(ledger, proposal_id)
    return scope
