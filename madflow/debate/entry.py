"""A debate as LangGraph's own tools start it: from a request that is plain JSON, and nothing else.

    {"task": "Where do retries live?", "crew": "generic", "models": ["openai/gpt-5-mini"], "id": "d1",
     "root": ".", "rounds": 3, "fallback": ["human"], "budget": {"tokens": 40000, "usd": "0.50"}}

A plan is checked against the tree at `root`, where it is given.

`task` is a question or a task's fields. `crew` names a shipped crew or a folder; `agents`, a number, makes a generic
one. The other keys are fields of `Debate`. The ledger is `ledger`, or `.madflow/ledger.db` under `root`. Give an `id`:
a run that crashes before its first checkpoint then finds its debate again.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..clock import SystemClock
from ..core.limits import Budget
from ..crews import generic_crew, load_crew
from ..errors import ConfigError
from ..ledger.sqlite import open_ledger
from .graph import Opener, build_debate_graph
from .run import open_session
from .session import Session
from .setup import Debate
from .stream import stream_name

__all__ = ["DEBATE_KEYS", "build_graph", "crew_and_fields", "debate_from", "opener_of"]

DEBATE_KEYS = (
    *(
        "api_base",
        "expires_s",
        "fallback",
        "faulty",
        "id",
        "protocol",
        "reader_order",
        "rounds",
        "rule",
        "seed",
        "stop",
    ),
    *("tie", "topology", "warm_first"),
)
"""Fields of `Debate` that a request may set as they are."""


def build_graph(*, checkpointer: Any = None) -> Any:
    """The debate graph, driven by requests. `checkpointer`: LangGraph's tools bring their own."""
    return build_debate_graph(opener_of(debate_from), checkpointer=checkpointer)


def debate_from(request: Mapping[str, Any]) -> Debate:
    """The debate a request asks for. Raises ConfigError naming a key that is unknown or absent."""
    if not request.get("task"):
        raise ConfigError('the request has no task; give {"task": "the question", "crew": "generic", "models": […]}')
    fields = crew_and_fields(request, others=("task", "agents"))
    count, crew = request.get("agents"), request.get("crew")
    if count is not None and crew:
        raise ConfigError("the request has both agents and crew; a number of agents makes a generic crew")
    models = tuple(request.get("models") or ())
    loaded = generic_crew(count or 3, models) if not crew else load_crew(crew, models=models)
    root = Path(request["root"]) if request.get("root") else None
    return Debate(task=request["task"], crew=loaded, root=root, **fields)


def crew_and_fields(request: Mapping[str, Any], *, others: tuple[str, ...]) -> dict[str, Any]:
    """The fields of `Debate` in a request, with its budget and ledger. Raises ConfigError for an unknown key."""
    known = {*DEBATE_KEYS, *others, "crew", "models", "root", "ledger", "budget"}
    strange = sorted(set(request) - known)
    if strange:
        raise ConfigError(f"the request has unknown keys: {', '.join(strange)}; known: {', '.join(sorted(known))}")
    root = Path(request.get("root") or ".")
    fields = {key: request[key] for key in DEBATE_KEYS if key in request}
    fields["ledger"] = request.get("ledger") or str(root / ".madflow" / "ledger.db")
    if request.get("budget"):
        try:
            fields["budget"] = Budget.of(**request["budget"])
        except TypeError as error:
            raise ConfigError(f"the request's budget: {error}; it may have {', '.join(_BUDGET)}") from error
    return fields


_BUDGET = ("tokens", "usd", "calls", "seconds", "call_seconds")


def opener_of(debate_of: Callable[[Mapping[str, Any]], Debate]) -> Opener:
    """An opener for `build_debate_graph`: opens or resumes the debate that `debate_of` makes of the request.

    The session holds the debate's lock and its own handle of the ledger until it is closed.
    """

    @asynccontextmanager
    async def opened(request: Mapping[str, Any]) -> AsyncIterator[Session]:
        debate, clock = debate_of(request), SystemClock()
        debate_id = debate.id or f"d-{clock.now_ms():x}-{secrets.token_hex(3)}"
        ledger = open_ledger(Path(debate.ledger))
        try:
            with ledger.lock_stream(stream_name(debate_id)):
                known = replace(debate, id=debate_id)
                yield await open_session(known, ledger, debate_id=debate_id, clock=clock)
        finally:
            ledger.close()

    return opened
