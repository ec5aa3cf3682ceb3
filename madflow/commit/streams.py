"""The streams of a ledger, by name: whose records stand where."""

from __future__ import annotations

from typing import Final

__all__ = ["BOUND", "COMMITS", "DEBATES", "ELECTIONS", "PANELS", "REQUESTS", "ROOT_SCOPE", "SNAPSHOTS", "stream_of"]

BOUND: Final = "bound/"
COMMITS: Final = "commit/"
DEBATES: Final = "debate/"
ELECTIONS: Final = "election/"
PANELS: Final = "proposal/"
REQUESTS: Final = "requests/"
SNAPSHOTS: Final = "snapshot/"

ROOT_SCOPE: Final = "root"
"""The scope of a root whose ledger lies in it or in its `.madflow`: its name does not change when the tree is moved."""


def stream_of(scope: str) -> str:
    """The stream of a scope's commit records."""
    return f"{COMMITS}{scope}"
