"""The commit layer: approved proposals become side effects, through one elected submitter and a write-ahead log.

    gate.py       may it be committed?            steps.py      an app's own steps
    api.py        commit, recover, resolve        receipt.py    what a commit came to
    session.py    lead, or wait for who leads     graph.py      the same as a LangGraph graph

The names below are loaded at their first use, as those of `madflow` are.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..core.gate import Admitted, Reason, Rejected
    from ..core.policy import Policy
    from .api import Committer, Ticket
    from .gate import Gate
    from .receipt import Receipt, StepReceipt
    from .session import Resolved
    from .steps import Step, StepContext

__all__ = [
    "Admitted",
    "Committer",
    "Gate",
    "Policy",
    "Reason",
    "Receipt",
    "Rejected",
    "Resolved",
    "Step",
    "StepContext",
    "StepReceipt",
    "Ticket",
]

_HOMES: Final = {
    "Admitted": "madflow.core.gate",
    "Committer": "madflow.commit.api",
    "Gate": "madflow.commit.gate",
    "Policy": "madflow.core.policy",
    "Reason": "madflow.core.gate",
    "Receipt": "madflow.commit.receipt",
    "Rejected": "madflow.core.gate",
    "Resolved": "madflow.commit.session",
    "Step": "madflow.commit.steps",
    "StepContext": "madflow.commit.steps",
    "StepReceipt": "madflow.commit.receipt",
    "Ticket": "madflow.commit.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
