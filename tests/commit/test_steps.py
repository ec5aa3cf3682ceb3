"""An app's own steps: every class, plain and async, and what comes of code that misbehaves."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from commit_bench import Bench, call, policy

from madflow.commit import Receipt, Step, StepContext
from madflow.errors import ConfigError, EffectError

CLASSES = ("none", "idempotent", "verifiable", "non_verifiable")


async def one(bench: Bench, step: Step, **fields: Any) -> Receipt:
    timeout = {"timeout_ms": fields.pop("timeout_ms")} if "timeout_ms" in fields else {}
    name = await bench.approved([{**call(step.name, n=3), **timeout}])
    return await bench.committer(step, **fields).commit(name)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_code_gets_and_what_is_recorded(bench: Bench, kind: Any, is_async: bool) -> None:
    """Would catch a key that changes, a term that is not passed on, or blocking code on the event loop."""
    seen: list[tuple[Mapping[str, Any], StepContext, int]] = []

    def plain(args: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        seen.append((args, ctx, threading.get_ident()))
        return {"n": args["n"] + 1}

    async def later(args: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        return plain(args, ctx)

    do: Callable[..., Any] = later if is_async else plain
    receipt = await one(bench, Step(name="s", do=do, probe=plain, effect_class=kind))
    ((args, ctx, thread),) = seen
    (step,) = receipt.steps
    assert (receipt.status, step.effect_class, step.result) == (
        "committed",
        kind,
        {"status": "done", "returned": {"n": 4}},
    )
    assert args == {"n": 3} and (ctx.key, ctx.attempt) == (step.idempotency_key, 1)
    assert ctx.term >= 1 and 0 < ctx.timeout_s <= 60
    assert (thread == threading.get_ident()) == is_async


async def test_a_transactional_step_is_in_the_ledger_or_not_at_all(bench: Bench) -> None:
    """Would catch an effect outside of the transaction that records its outcome."""

    def book(args: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        assert ctx.execute is not None
        ctx.execute("create table if not exists seats (name text)", ())
        ctx.execute("insert into seats values (?)", (args["name"],))
        if args["name"] == "bad":
            raise EffectError("taken", "the seat is taken")
        return {"rows": len(ctx.execute("select * from seats", ()))}

    step = Step(name="book", do=book, effect_class="transactional", nothing_to_undo=True)
    good, bad = await bench.approved([call("book", name="a")]), await bench.approved([call("book", name="bad")])
    committer = bench.committer(step)
    assert (await committer.commit(good)).steps[0].result == {"status": "done", "returned": {"rows": 1}}
    failed = await committer.commit(bad)
    assert (failed.status, failed.steps[0].error_code) == ("compensated", "taken")
    third = await committer.commit(await bench.approved([call("book", name="c")]))
    assert third.steps[0].result == {"status": "done", "returned": {"rows": 2}}, "the failed one left nothing"


FAILURES: list[tuple[str, Any, str, str, int]] = [
    # class, what it raises, the commit's end, its code, attempts
    ("idempotent", EffectError("busy", "later", transient=True, applied=False), "compensated", "busy", 3),
    ("idempotent", EffectError("gone", "no such thing", applied=False), "compensated", "gone", 1),
    ("idempotent", RuntimeError("bug"), "in_doubt", "raised", 1),
    ("non_verifiable", EffectError("busy", "later", transient=True, applied=False), "compensated", "busy", 1),
    ("non_verifiable", EffectError("half", "half of it", applied=None), "in_doubt", "half", 1),
    ("non_verifiable", RuntimeError("bug"), "in_doubt", "raised", 1),
    ("none", RuntimeError("bug"), "compensated", "raised", 1),
]


@pytest.mark.parametrize(("kind", "error", "ends", "code", "tries"), FAILURES)
async def test_how_a_step_fails_decides_what_comes_of_it(
    bench: Bench, kind: Any, error: Exception, ends: str, code: str, tries: int
) -> None:
    """Would catch a retry that may double an effect, and doubt where the code said that nothing happened."""
    calls: list[int] = []

    def do(args: Any, ctx: StepContext) -> None:
        calls.append(ctx.attempt)
        raise error

    receipt = await one(bench, Step(name="s", do=do, effect_class=kind), policy=policy(retry={"attempts": 3}))
    (step,) = receipt.steps
    assert (receipt.status, step.error_code, calls) == (ends, code, list(range(1, tries + 1)))
    assert str(error) in step.result["message"] if step.result else False


@pytest.mark.parametrize(
    ("answer", "ends"),
    [(True, "committed"), (False, "compensated"), (None, "in_doubt"), ("yes", "in_doubt"), (1, "in_doubt")],
)
async def test_a_probe_tells_what_code_that_raised_has_done(bench: Bench, answer: Any, ends: str) -> None:
    """Would catch a truthy answer that is taken for a yes, or doubt where the target can be asked."""
    calls: list[int] = []

    def do(args: Any, ctx: StepContext) -> None:
        calls.append(ctx.attempt)
        raise ConnectionError("lost")

    step = Step(name="s", do=do, probe=lambda args, ctx: answer, effect_class="verifiable")
    receipt = await one(bench, step, policy=policy(retry={"attempts": 2}))
    assert receipt.status == ends
    assert calls == ([1, 2] if answer is False else [1])


async def test_a_probe_that_raises_cannot_tell(bench: Bench) -> None:
    def broken(args: Any, ctx: StepContext) -> bool:
        raise OSError("no route")

    def do(args: Any, ctx: StepContext) -> None:
        raise ConnectionError("lost")

    receipt = await one(bench, Step(name="s", do=do, probe=broken, effect_class="verifiable"))
    assert (receipt.status, receipt.steps[0].error_code) == ("in_doubt", "probe_uncertain")
    assert "no route" in (receipt.steps[0].result or {})["message"]


@pytest.mark.parametrize("result", [7, "text", ["list"], {"big": "x" * 70_000}])
async def test_results_that_are_no_small_object_are_refused(bench: Bench, result: Any) -> None:
    """Would catch a record of any size, and a result that is dropped in silence."""
    receipt = await one(bench, Step(name="s", do=lambda args, ctx: result))
    assert (receipt.status, receipt.steps[0].error_code) == ("in_doubt", "bad_result"), "it ran, whatever it returned"


@pytest.mark.parametrize("result", [{"x": object()}, {"x": float("nan")}, {1: "x"}])
async def test_results_that_are_no_json_are_refused(bench: Bench, result: Any) -> None:
    """Would catch a value that breaks the submitter instead of its own step."""
    receipt = await one(bench, Step(name="s", do=lambda args, ctx: result))
    assert (receipt.status, receipt.steps[0].error_code) == ("in_doubt", "bad_result")
    assert (
        await bench.committer(Step(name="t", do=lambda args, ctx: None)).commit(await bench.approved([call("t")]))
    ).committed


@pytest.mark.parametrize(("kind", "tries"), [("idempotent", 2), ("non_verifiable", 1)])
async def test_a_step_that_takes_too_long_is_given_up_on(bench: Bench, kind: Any, tries: int) -> None:
    """Would catch a step without a bound, and a slow one that counts as failed although it may have happened."""
    calls: list[int] = []

    async def slow(args: Any, ctx: StepContext) -> None:
        calls.append(ctx.attempt)
        await asyncio.sleep(60)

    step = Step(name="s", do=slow, effect_class=kind)
    receipt = await one(bench, step, policy=policy(retry={"attempts": 2}), timeout_ms=50)
    assert (receipt.status, receipt.steps[0].error_code, len(calls)) == ("in_doubt", "timeout", tries)


async def test_undo_gets_what_do_returned_and_a_key_of_its_own(bench: Bench) -> None:
    """Would catch a compensation that cannot tell what to take back, or that deduplicates against its step."""
    seen: list[tuple[str, Any]] = []

    def undo(args: Any, ctx: StepContext) -> None:
        seen.append((ctx.key, ctx.result))

    made = Step(
        name="made",
        do=lambda args, ctx: {"id": 17, "key": ctx.key, "status": 200},
        undo=undo,
        effect_class="idempotent",
    )
    name = await bench.approved([call("made"), {"step": "test", "cmd": ["false"]}])
    receipt = await bench.committer(made).commit(name)
    assert receipt.status == "compensated"
    ((key, result),) = seen
    assert (result["id"], result["status"]) == (17, 200), "as it was returned, whatever its keys are"
    assert key != (receipt.steps[0].result or {})["returned"]["key"]
    undone = next(step for step in receipt.steps if step.direction == "undo")
    assert (undone.idempotency_key, undone.status) == (key, "done")


async def test_an_undo_that_fails_ends_with_a_human(bench: Bench) -> None:
    def undo(args: Any, ctx: StepContext) -> None:
        raise EffectError("locked", "it is locked", applied=False)

    made = Step(name="made", do=lambda args, ctx: None, undo=undo, effect_class="idempotent")
    name = await bench.approved([call("made"), {"step": "test", "cmd": ["false"]}])
    receipt = await bench.committer(made).commit(name)
    doubt = next(step for step in receipt.steps if step.direction == "undo")
    assert (receipt.status, doubt.status, doubt.error_code) == ("in_doubt", "in_doubt", "locked")


def test_steps_that_promise_what_they_cannot_keep() -> None:
    async def later(args: Any, ctx: StepContext) -> None:
        return None

    def plain(args: Any, ctx: StepContext) -> None:
        return None

    with pytest.raises(ConfigError, match="verifiable without a probe"):
        Step(name="s", do=plain, effect_class="verifiable")
    with pytest.raises(ConfigError, match="so it is not async"):
        Step(name="s", do=later, effect_class="transactional")
    with pytest.raises(ConfigError, match="so it is not async"):
        Step(name="s", do=plain, undo=later, effect_class="transactional")
    with pytest.raises(ConfigError, match="give one of the two"):
        Step(name="s", do=plain, undo=plain, nothing_to_undo=True)
