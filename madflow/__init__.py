"""madflow: multi-agent debate that always ends in a checked proposal, and one submitter that carries it out.

The public names are loaded at their first use: `import madflow` costs next to nothing, and reaches neither litellm nor
langgraph before a debate needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .commit.api import Committer
    from .commit.gate import Gate
    from .commit.receipt import Receipt
    from .commit.steps import Step
    from .core import rules
    from .core.limits import Budget
    from .core.messages import Agent
    from .core.policy import Policy
    from .core.proposal import Proposal
    from .crews import Crew, load_crew
    from .debate.run import replay, run, run_sync, stream
    from .debate.setup import Debate
    from .errors import MadflowError
    from .ports import TurnView
    from .review.api import review_debate
    from .saga import Saga

__all__ = [
    "Agent",
    "Budget",
    "Committer",
    "Crew",
    "Debate",
    "Gate",
    "MadflowError",
    "Policy",
    "Proposal",
    "Receipt",
    "Saga",
    "Step",
    "TurnView",
    "load_crew",
    "replay",
    "review_debate",
    "rules",
    "run",
    "run_sync",
    "stream",
]

__version__ = "0.1.0"

_HOMES: Final = {
    "Agent": "core.messages",
    "Budget": "core.limits",
    "Committer": "commit.api",
    "Crew": "crews",
    "Debate": "debate.setup",
    "Gate": "commit.gate",
    "MadflowError": "errors",
    "Policy": "core.policy",
    "Proposal": "core.proposal",
    "Receipt": "commit.receipt",
    "Saga": "saga",
    "Step": "commit.steps",
    "TurnView": "ports",
    "load_crew": "crews",
    "replay": "debate.run",
    "review_debate": "review.api",
    "rules": "core",
    "run": "debate.run",
    "run_sync": "debate.run",
    "stream": "debate.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names: {', '.join(__all__)}")
    if name == "rules":
        value: Any = importlib.import_module(".core.rules", __name__)
    else:
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
