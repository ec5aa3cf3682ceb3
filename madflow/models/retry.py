"""The one retry layer: at most four attempts a call, bounded waiting, and no second opinion on what is final.

Transports never retry by themselves (litellm's and the SDKs' retries are switched off): stacked retries multiply
calls that nobody reserved. Every attempt here is a call of its own for the budget, which is why the attempt's number
is handed to the caller's function.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Final

from tenacity import AsyncRetrying, RetryCallState

from ..errors import ConfigError, ModelError, TransientModelError
from ..ports import ModelReply

__all__ = ["ATTEMPTS_MAX", "with_retries"]

ATTEMPTS_MAX: Final = 4
_BACKOFF_FIRST_S: Final = 0.5
_BACKOFF_MAX_S: Final = 8.0
_SPREAD_S: Final = 0.1  # behind a Retry-After, so that seats told the same do not return in the same instant
_ONCE: Final = frozenset({"bad_body"})  # a broken body was probably billed: one more try, not three


async def with_retries(
    attempt: Callable[[int], Awaitable[ModelReply]],
    *,
    sleep: Callable[[float], Awaitable[None]],
    deadline_s: float,
    monotonic: Callable[[], float],
    attempts_max: int = ATTEMPTS_MAX,
    jitter: Callable[[], float] = random.random,
) -> ModelReply:
    """The first reply of `attempt(1)`, `attempt(2)`, …, each of which is one request.

    Waits 0.5, 1, 2 s (at most 8 s), scaled by 0.5 to 1 at random, or what the server asked for with Retry-After and
    up to 0.1 s more. A wait that would end behind the deadline is not begun: the call fails at once and says so.

    Args:
        attempt: makes one request; gets the attempt's number, from 1. How long one attempt may take is its own matter.
        deadline_s: seconds from now in which the last attempt must have *begun*.
        attempts_max: 1 to 4.
        jitter: a number in [0, 1) per wait.

    Raises:
        PermanentModelError: as `attempt` raised it, never retried.
        TransientModelError: the last one, when attempts or time ran out; its message says which.
    """
    if not 1 <= attempts_max <= ATTEMPTS_MAX:
        raise ConfigError(f"attempts_max is {attempts_max}; a call is tried 1 to {ATTEMPTS_MAX} times")
    policy = _Policy(attempts_max, monotonic() + deadline_s, deadline_s, monotonic, jitter)
    # The machinery is entered only once something failed: it costs more CPU than the rest of a call.
    try:
        return await attempt(1)
    except TransientModelError as error:
        first: TransientModelError | None = error
    numbers = itertools.count(2)

    async def one() -> ModelReply:
        nonlocal first
        if first is not None:
            failed, first = first, None
            raise failed
        return await attempt(next(numbers))

    retrying = AsyncRetrying(
        sleep=sleep, stop=policy.stop, wait=policy.wait, retry=policy.retry, retry_error_callback=policy.give_up
    )
    return await retrying(one)


class _Policy:
    """When to try again, after what wait, and what to say when not."""

    def __init__(
        self,
        attempts_max: int,
        ends: float,
        deadline_s: float,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._attempts_max, self._ends, self._deadline_s = attempts_max, ends, deadline_s
        self._monotonic, self._jitter = monotonic, jitter
        self._why = ""
        self._seen: list[str] = []

    def retry(self, state: RetryCallState) -> bool:
        error = _error(state)
        if not isinstance(error, TransientModelError):
            return False
        self._seen.append(error.code)
        return True

    def wait(self, state: RetryCallState) -> float:
        error = _error(state)
        asked = error.retry_after_s if isinstance(error, ModelError) else None
        if asked is not None:
            return asked + self._jitter() * _SPREAD_S if asked > 0 else 0.0
        grown = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** (state.attempt_number - 1))
        return float(grown * (0.5 + 0.5 * self._jitter()))

    def stop(self, state: RetryCallState) -> bool:
        if state.attempt_number >= self._attempts_max:
            self._why = f"tried {state.attempt_number} times, the limit is {self._attempts_max}"
        elif any(self._seen.count(code) > 1 for code in _ONCE):
            self._why = f"tried {state.attempt_number} times; {self._seen[-1]} is retried once"
        elif state.upcoming_sleep > (left := max(0.0, self._ends - self._monotonic())):
            self._why = (
                f"the next attempt would have to wait {state.upcoming_sleep:.1f} s, "
                f"{left:.1f} s are left of the call's {self._deadline_s:.1f} s"
            )
        return bool(self._why)

    def give_up(self, state: RetryCallState) -> ModelReply:
        error = _error(state)
        if not isinstance(error, TransientModelError):
            raise AssertionError(f"gave up on {error!r}")
        raise TransientModelError(
            error.code, f"{error} ({self._why})", status=error.status, retry_after_s=error.retry_after_s
        ) from error


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None
