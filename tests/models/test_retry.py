"""The retry layer: how often, after what wait, and when not. Time and chance are injected; nothing here sleeps."""

import asyncio
from collections.abc import Sequence

import pytest
from model_requests import request

from madflow.errors import ConfigError, ModelError, PermanentModelError, TransientModelError
from madflow.models.openai_wire import OpenAIWireClient
from madflow.models.retry import with_retries
from madflow.ports import ModelReply
from madflow.testing.openai_server import LoopbackServer

DONE = ModelReply("done")


class Script:
    """Attempts that end as told, on a clock that only sleeping (and `takes_s` per attempt) moves."""

    def __init__(self, ends: Sequence[ModelError | ModelReply], takes_s: float = 0.0) -> None:
        self._ends, self._takes_s = ends, takes_s
        self.now, self.slept, self.numbers = 100.0, list[float](), list[int]()

    async def attempt(self, number: int) -> ModelReply:
        self.numbers.append(number)
        self.now += self._takes_s
        end = self._ends[min(number, len(self._ends)) - 1]
        if isinstance(end, ModelError):
            raise end
        return end

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def run(self, deadline_s: float = 60.0, attempts_max: int = 4, jitter: float = 0.0) -> ModelReply:
        return await with_retries(
            self.attempt,
            sleep=self.sleep,
            deadline_s=deadline_s,
            monotonic=lambda: self.now,
            attempts_max=attempts_max,
            jitter=lambda: jitter,
        )


def busy(code: str = "rate_limited", after_s: float | None = None) -> TransientModelError:
    return TransientModelError(code, "busy", status=429, retry_after_s=after_s)


async def test_the_first_reply_ends_it() -> None:
    script = Script([DONE])
    assert await script.run() is DONE
    assert (script.numbers, script.slept) == ([1], [])


async def test_four_attempts_and_growing_waits() -> None:
    script = Script([busy()])
    with pytest.raises(TransientModelError, match=r"busy \(tried 4 times, the limit is 4\)") as caught:
        await script.run()
    assert script.numbers == [1, 2, 3, 4]
    assert script.slept == [0.25, 0.5, 1.0]  # the lower ends of 0.5, 1, 2 s
    assert (caught.value.code, caught.value.status) == ("rate_limited", 429)


async def test_jitter_spreads_up_to_the_whole_wait() -> None:
    script = Script([busy(), busy(), DONE])
    assert await script.run(jitter=0.999999) is DONE
    assert script.slept == pytest.approx([0.5, 1.0], rel=1e-5)


async def test_retry_after_is_honoured_not_shortened() -> None:
    script = Script([busy(after_s=3.0), DONE])
    assert await script.run(jitter=0.5) is DONE
    assert script.slept == pytest.approx([3.05])


async def test_retry_after_zero_is_at_once() -> None:
    """A learnt parameter (schema_rejected) must not cost a wait."""
    script = Script([busy("schema_rejected", after_s=0.0), DONE])
    assert await script.run(jitter=0.9) is DONE
    assert script.slept == [0.0]


async def test_retry_after_beyond_the_deadline_gives_up_at_once() -> None:
    script = Script([busy(after_s=120.0), DONE], takes_s=5.0)
    with pytest.raises(TransientModelError, match=r"wait 120.0 s, 55.0 s are left of the call's 60.0 s"):
        await script.run(deadline_s=60.0)
    assert (script.numbers, script.slept) == ([1], [])


async def test_the_deadline_counts_from_the_first_attempt() -> None:
    """Catches a deadline that starts anew, or only when something failed."""
    script = Script([busy()], takes_s=20.0)
    with pytest.raises(TransientModelError, match=r"left of the call's 60\.0 s"):
        await script.run(deadline_s=60.0)
    assert script.numbers == [1, 2, 3]


async def test_permanent_errors_are_never_retried() -> None:
    error = PermanentModelError("bad_key", "no such key")
    script = Script([busy(), error, DONE])
    with pytest.raises(PermanentModelError) as caught:
        await script.run()
    assert caught.value is error and script.numbers == [1, 2]


async def test_a_broken_body_is_retried_once() -> None:
    script = Script([busy("bad_body"), busy("bad_body"), DONE])
    with pytest.raises(TransientModelError, match="bad_body is retried once"):
        await script.run()
    assert script.numbers == [1, 2]


async def test_cancellation_passes_through_a_wait() -> None:
    async def forever(_: float) -> None:
        await asyncio.Event().wait()

    script = Script([busy()])
    task = asyncio.create_task(
        with_retries(script.attempt, sleep=forever, deadline_s=9.0, monotonic=lambda: 0.0, jitter=lambda: 0.0)
    )
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert script.numbers == [1]


@pytest.mark.parametrize("attempts_max", [0, 5])
async def test_the_number_of_attempts_is_bounded(attempts_max: int) -> None:
    with pytest.raises(ConfigError, match=f"attempts_max is {attempts_max}"):
        await Script([DONE]).run(attempts_max=attempts_max)


async def test_over_the_wire_a_second_attempt_comes_after_retry_after() -> None:
    async with LoopbackServer(
        "x", fault=lambda number, body: "rate_limit" if number == 0 else None, retry_after_s=0.05
    ) as server:
        client = OpenAIWireClient("m", server.base_url)
        loop = asyncio.get_running_loop()
        reply = await with_retries(
            lambda number: client.complete(request()), sleep=asyncio.sleep, deadline_s=5.0, monotonic=loop.time
        )
        first, second = server.served
    assert reply.text == "x" and second.at_s - first.at_s >= 0.05


async def test_a_prompt_that_always_fails_is_sent_four_times() -> None:
    async def no_wait(_: float) -> None:
        await asyncio.sleep(0)

    async with LoopbackServer("x", fault=lambda number, body: "server_error") as server:
        client = OpenAIWireClient("m", server.base_url)
        with pytest.raises(TransientModelError, match="tried 4 times"):
            await with_retries(
                lambda number: client.complete(request()), sleep=no_wait, deadline_s=60.0, monotonic=lambda: 0.0
            )
        assert len(server.served) == 4
