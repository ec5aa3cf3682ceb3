"""Which proposal a name means: its own id, its debate's, its commit's, or an idempotency key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ..core.panel import DEBATES_PROPOSAL
from ..errors import UnknownProposal
from ..ports import Ledger, Record
from .streams import COMMITS, DEBATES, PANELS

__all__ = ["KEY_PREFIX_MIN", "is_about", "proposal_named", "scopes_of", "subject_named"]

KEY_PREFIX_MIN: Final = 8
"""Of a commit's id or a key, so many first characters are enough."""


def scopes_of(ledger: Ledger) -> dict[str, list[Record]]:
    """The commit records of every scope, by its name."""
    return {name.removeprefix(COMMITS): ledger.read(name) for name in ledger.streams() if name.startswith(COMMITS)}


def is_about(proposal_id: str, subject: str) -> bool:
    """Whether a proposal is the subject, or a version of the subject's plan, where that is a debate."""
    return proposal_id == subject or DEBATES_PROPOSAL.sub("", proposal_id) == subject


def subject_named(ledger: Ledger, asked: str) -> str:
    """The proposal that is meant, or the debate, where it is asked for itself. Raises as `proposal_named`."""
    found = proposal_named(ledger, asked, scopes_of(ledger))
    return asked if found == f"{asked}-p1" else found


def proposal_named(ledger: Ledger, asked: str, scopes: Mapping[str, Sequence[Record]]) -> str:
    """The id of the proposal that is meant; of a debate, that of its first plan.

    Args:
        scopes: as `scopes_of` gives them.

    Raises:
        UnknownProposal: the ledger knows nothing of that name, or several things.
    """
    streams = set(ledger.streams())
    debate = DEBATES_PROPOSAL.sub("", asked)
    if f"{PANELS}{asked}" in streams:
        return asked
    if f"{DEBATES}{debate}" in streams:
        return asked if debate != asked else f"{asked}-p1"
    found = set()
    for records in scopes.values():
        for record in records:
            names = [str(record.payload.get(field) or "") for field in ("commit_id", "idempotency_key")]
            close = any(name.startswith(asked) for name in names) and len(asked) >= KEY_PREFIX_MIN
            if close or record.payload.get("proposal_id") == asked:
                found.add(str(record.payload["proposal_id"]))
    if len(found) != 1:
        raise UnknownProposal(
            f"the ledger knows {len(found) or 'no'} proposals, debates, commits or keys by {asked[:100]!r}; "
            "`madflow history` lists proposals, `madflow ledger log` keys; of a commit's id or a key the first "
            f"{KEY_PREFIX_MIN} characters are enough where they name one"
        )
    return found.pop()
