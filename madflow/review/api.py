"""A review as a debate: a diff in, a `Debate` out, ready to run.

Without a model the reviewers are code (the crew `analysers`). Language models get the diff in parts that fit the
budget; what no part holds is left out with its reason, and the proposal's coverage says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.limits import Budget
from ..core.messages import Task
from ..crews import Crew, load_crew
from ..debate.setup import Debate
from ..errors import ConfigError
from ..prompts import find_prompts, nearest, read_beneath
from .diff import read_diff
from .parts import PART_CHARS_MIN, split

__all__ = ["CODE_CREW", "MODEL_CREW", "PART_CHARS_MAX", "review_debate", "review_parts"]

CODE_CREW = "analysers"
MODEL_CREW = "review"
PART_CHARS_MAX = 48_000
"""A part of a diff that one call reads, in characters: about 12,000 tokens, within every current context window."""

_FIND_SHARE = (3, 5)  # of the token budget goes to reading; the rest is for replies, votes and repairs
_PARTS_MAX = 64


def review_debate(
    diff: str | bytes,
    *,
    root: str | Path | None = None,
    crew: str | Path | Crew | None = None,
    models: Sequence[str] = (),
    question: str = "",
    **options: Any,
) -> Debate:
    """The debate that reviews `diff`.

    Args:
        root: the tree after the change; without it only the diff is read, and no patch is suggested.
        crew: reviewers; without it the analysers, or the crew `review` where models are given.
        models: dealt to the crew's agents that have none.
        question: what the seats are asked; the shipped question where empty.
        options: any other field of `Debate`; `review_file`, `fix` and `test` say what the review's plan does, `merge`
            and `same_judge` how claims become findings.

    Raises:
        TaskError: the diff cannot be reviewed; ConfigError: the crew, a model or an option cannot be used.
    """
    if not isinstance(crew, Crew):
        crew = load_crew(crew or (MODEL_CREW if models else CODE_CREW), models=models)
    elif models:
        raise ConfigError("models are dealt when a crew is loaded; give them to load_crew, or give the crew's name")
    agents = options.get("agents") or crew.agents
    judge = options.get("same_judge", "")
    if judge and judge not in {agent.id for agent in agents}:
        seats = [agent.id for agent in agents]
        raise ConfigError(
            f"no seat {judge!r} to judge which claims are the same{nearest(judge, seats)}; there are "
            f"{', '.join(sorted(seats))}"
        )
    text = question or read_beneath(find_prompts() / "protocols" / "review", "question.md")
    tree = None if root is None else Path(root)
    task = read_diff(diff, question=text, root=tree)
    readers = [agent for agent in agents if isinstance(agent.model, str) and not agent.model.startswith("analyser:")]
    parts: tuple[tuple[str, ...], ...] = ()
    if readers:
        budget: Budget = options.get("budget") or Budget()
        task, parts = review_parts(task, budget.tokens, len(readers))
    reviewers = replace(crew, protocol="review")
    return Debate(task=task, crew=reviewers, protocol="review", parts=parts, root=tree, **options)


def review_parts(task: Task, tokens: int, readers: int) -> tuple[Task, tuple[tuple[str, ...], ...]]:
    """The task in parts that `readers` seats can all read within three fifths of `tokens`, counting a byte a token:
    the worst case of a model whose tokenizer is unknown. One part is no part at all: everything is read in one call."""
    room = tokens * _FIND_SHARE[0] // (_FIND_SHARE[1] * max(1, readers))
    size = max(PART_CHARS_MIN, min(PART_CHARS_MAX, room))
    made = split(task, size, max(1, min(_PARTS_MAX, room // size)))
    return made.task, made.paths if len(made.paths) > 1 else ()
