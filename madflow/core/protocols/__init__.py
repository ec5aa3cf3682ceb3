"""The kinds of debate: answer (by its rule, or guided by a policy), proposal, review."""

from __future__ import annotations

from functools import lru_cache

from ..config import Config
from .base import DebateProtocol

__all__ = ["DebateProtocol", "protocol_of"]


def protocol_of(config: Config) -> DebateProtocol:
    """The protocol of a debate: the one it names, or the guided one where a policy decides whom to ask."""
    return _named("guided" if config.policy is not None else config.protocol)


@lru_cache(maxsize=8)
def _named(name: str) -> DebateProtocol:
    if name == "guided":
        from .guided import GuidedProtocol

        return GuidedProtocol()
    if name == "answer":
        from .answer import AnswerProtocol

        return AnswerProtocol()
    if name == "proposal":
        from .motion import MotionProtocol

        return MotionProtocol()
    from .review import ReviewProtocol

    return ReviewProtocol()
