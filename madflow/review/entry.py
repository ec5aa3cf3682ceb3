"""A review as LangGraph's own tools start it: from a request that is plain JSON.

    {"diff": "diff --git …", "root": "tree", "crew": "review", "models": ["openai/gpt-5-mini"], "id": "r1"}

Without `models` and `crew` the analysers review. Without `root` only the diff is read, and the ledger is
`.madflow/ledger.db` here. `review_file`, `fix` and `test` say what the review's plan does, `merge` and `same_judge` how
claims become findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..debate.entry import crew_and_fields, opener_of
from ..debate.graph import build_debate_graph
from ..debate.setup import Debate
from ..errors import ConfigError
from .api import review_debate

__all__ = ["build_review_graph", "review_from"]


def build_review_graph(*, checkpointer: Any = None) -> Any:
    """The debate graph, driven by requests for a review. `checkpointer`: LangGraph's tools bring their own."""
    return build_debate_graph(opener_of(review_from), checkpointer=checkpointer)


def review_from(request: Mapping[str, Any]) -> Debate:
    """The review a request asks for. Raises ConfigError naming a key that is unknown or absent, TaskError."""
    if "diff" not in request:
        raise ConfigError('the request has no diff; give {"diff": "the text of a unified diff"}')
    fields = crew_and_fields(request, others=("diff", *_REVIEW_KEYS))
    root = Path(request["root"]) if request.get("root") else None
    models = tuple(request.get("models") or ())
    fields.update({key: request[key] for key in _REVIEW_KEYS if key in request})
    return review_debate(str(request["diff"]), root=root, crew=request.get("crew"), models=models, **fields)


_REVIEW_KEYS = ("review_file", "fix", "test", "merge", "same_judge")
