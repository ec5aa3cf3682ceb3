"""Time as a value: a clock that moves only when it is told to, or when somebody sleeps on it."""

from __future__ import annotations

import asyncio

__all__ = ["ManualClock"]


class ManualClock:
    """A `Clock` for tests: no test waits, and the same run has the same timestamps.

    `sleep` moves the clock forward by its duration at once and lets other tasks run, so concurrent sleepers add up:
    time is then an upper bound of what it would have been.

    Args:
        at_ms: the wall clock at the start, milliseconds since the epoch.
        step_ms: how far each reading of the wall clock moves it, so that records can be told apart; 0: not at all.

    Attributes:
        slept: what was slept, in seconds, in order.
    """

    def __init__(self, at_ms: int = 1_760_000_000_000, *, step_ms: int = 0) -> None:
        self._start_ms, self._at_ms, self._step_ms = at_ms, at_ms, step_ms
        self.slept: list[float] = []

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch."""
        self._at_ms += self._step_ms
        return self._at_ms

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return (self._at_ms - self._start_ms) / 1000

    def advance(self, seconds: float) -> None:
        """Move both clocks forward. Raises ValueError for a negative duration."""
        if seconds < 0:
            raise ValueError(f"a clock cannot go back (seconds={seconds})")
        self._at_ms += round(seconds * 1000)

    async def sleep(self, seconds: float) -> None:
        """Move the clock forward by `seconds` and yield once."""
        self.slept.append(seconds)
        self.advance(max(0.0, seconds))
        await asyncio.sleep(0)
