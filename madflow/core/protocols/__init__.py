"""The three kinds of debate, by name."""

from __future__ import annotations

from functools import lru_cache

from .base import DebateProtocol

__all__ = ["DebateProtocol", "protocol_of"]


@lru_cache(maxsize=8)
def protocol_of(name: str) -> DebateProtocol:
    """The protocol called `name`: answer, proposal or review."""
    if name == "answer":
        from .answer import AnswerProtocol

        return AnswerProtocol()
    if name == "proposal":
        from .motion import MotionProtocol

        return MotionProtocol()
    from .review import ReviewProtocol

    return ReviewProtocol()
