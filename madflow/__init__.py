"""madflow: multi-agent debate that always ends in a checked proposal.

The public names are loaded at their first use: `import madflow` costs next to nothing, and reaches neither litellm nor
langgraph before a debate needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .core import rules
    from .core.limits import Budget
    from .core.messages import Agent, Task
    from .core.proposal import Proposal
    from .crews import Crew, generic_crew, load_crew
    from .debate.run import Pending, Progress, replay, run, run_sync, stream
    from .debate.setup import Debate
    from .errors import MadflowError
    from .models.scripted import ScriptedModel
    from .ports import TurnView
    from .review.api import review_debate

__all__ = [
    "Agent",
    "Budget",
    "Crew",
    "Debate",
    "MadflowError",
    "Pending",
    "Progress",
    "Proposal",
    "ScriptedModel",
    "Task",
    "TurnView",
    "generic_crew",
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
    "Crew": "crews",
    "Debate": "debate.setup",
    "MadflowError": "errors",
    "Pending": "debate.run",
    "Progress": "debate.run",
    "Proposal": "core.proposal",
    "ScriptedModel": "models.scripted",
    "Task": "core.messages",
    "TurnView": "ports",
    "generic_crew": "crews",
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
