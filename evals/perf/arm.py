"""One arm of the benchmark, in a process of its own: jobs come in on stdin as JSON, measurements go out on stdout.

    madflow   debates as a user writes them, each recorded in one SQLite ledger in the folder that the jobs name
    baseline  the same calls by hand: one AsyncOpenAI client as it comes, the same bytes, replies parsed and counted
    capture   one madflow debate against a server in this process; hands out the bodies that went over the wire
    profile   madflow debates under a sampler; hands out the event loop's CPU by component and function

A job is a mapping of `url`, `agents`, `rounds`, `debates`, `at_once`, `warm_up` (debates made first, not measured, at
`warm_up_url`), and for some arms `warm_first`, `bodies`. CPU is that of all threads of this process.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

Job = Mapping[str, Any]
Result = dict[str, Any]
Once = Callable[[Job, str], Awaitable[float]]

ANSWER = "B"
REPLY = json.dumps(
    {
        "reasoning": "Retries belong where the intent is known. A client knows whether its request may be repeated and "
        "how long its own caller still waits; a queue knows neither, and redelivers what has already taken effect. The "
        "queue's redelivery covers a consumer that died, which is another failure than a call that was refused. Both "
        "together multiply: three attempts in each make nine, and they arrive when the service can bear them least.",
        "claims": [
            "Only the client knows whether a request may be repeated",
            "A deadline has to be passed on from the caller, and a queue ends it",
            "Retries in two layers multiply, so one layer has to own them",
            "Redelivery after a crash is needed in the queue in any case",
        ],
        "answer": ANSWER,
        "confidence": 0.8,
    }
)
"""What the server always says: about 200 tokens."""

QUESTION = (
    "A service calls another through a queue, and the second one fails now and then. Where should retries live, so "
    "that an outage of a few seconds is survived and a longer one is not made worse?"
)
OPTIONS = (
    ("A", "In the queue: it redelivers until the consumer acknowledges"),
    ("B", "In the client: it retries within its deadline, and the queue only redelivers after a crash"),
    ("C", "In both, each with its own limit"),
)


def madflow_debates(ledger: Any) -> Once:
    """A function that runs one debate against a job's server, and returns its wall time in seconds."""
    from madflow.core.limits import Budget
    from madflow.core.messages import Agent
    from madflow.debate.run import run
    from madflow.debate.setup import Debate

    task = {"question": QUESTION, "options": OPTIONS}

    async def once(job: Job, url: str) -> float:
        debate = Debate(
            task=task,
            agents=[Agent(id=f"seat-{number + 1}", model="openai/bench") for number in range(job["agents"])],
            protocol="answer",
            rule="majority",
            rounds=job["rounds"],
            stop="max_rounds",
            budget=Budget(tokens=10_000_000),
            ledger=ledger,
            api_base=url,
            warm_first=job.get("warm_first", False),
        )
        began = time.perf_counter()
        outcome: Any = await run(debate)
        wall_s = time.perf_counter() - began
        decision = outcome.decision
        if (decision.result, decision.rounds, decision.stop_reason) != ("approved", job["rounds"], "max_rounds"):
            raise SystemExit(f"not the debate that was to be measured: {decision!r}")
        return wall_s

    return once


def baseline_debates(bodies: list[list[dict[str, Any]]]) -> Once:
    """The loop by hand. `bodies`: by round, the bodies of its requests."""
    from openai import AsyncOpenAI

    clients: dict[str, AsyncOpenAI] = {}

    async def once(job: Job, url: str) -> float:
        client = clients.get(url) or clients.setdefault(url, AsyncOpenAI(base_url=url, api_key="none"))
        began = time.perf_counter()
        votes: Counter[str] = Counter()
        for seats in bodies:
            replies = await asyncio.gather(*(client.chat.completions.create(**body) for body in seats))
            votes = Counter(json.loads(reply.choices[0].message.content or "")["answer"] for reply in replies)
        winner, count = votes.most_common(1)[0]
        wall_s = time.perf_counter() - began
        if (winner, count, len(bodies)) != (ANSWER, job["agents"], job["rounds"]):
            raise SystemExit(f"not the debate that was to be measured: {votes!r} after {len(bodies)} rounds")
        return wall_s

    return once


async def measure(once: Once, job: Job) -> Result:
    """Run a job's debates, at most `at_once` at a time; times in seconds."""
    for _ in range(job.get("warm_up", 0)):
        await once(job, job.get("warm_up_url") or job["url"])
    gate = asyncio.Semaphore(job["at_once"])

    async def gated() -> float:
        async with gate:
            return await once(job, job["url"])

    began, cpu, own_cpu = time.perf_counter(), time.process_time(), time.thread_time()
    if job["at_once"] == 1:
        walls = [await once(job, job["url"]) for _ in range(job["debates"])]
    else:
        walls = list(await asyncio.gather(*(gated() for _ in range(job["debates"]))))
    return {
        "wall_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "loop_cpu_s": time.thread_time() - own_cpu,
        "walls_s": walls,
        "rss_mb": peak_rss_mb(),
    }


def peak_rss_mb() -> float:
    """The most memory this process ever held, in MB of 10⁶ bytes.

    Linux carries ru_maxrss over from the process that started this one, so its own high-water mark is read there.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak * 1024) / 1e6


async def capture(once: Once, job: Job) -> Result:
    """The bodies of one debate's requests by round, as the server got them."""
    from madflow.testing.openai_server import LoopbackServer

    bodies: list[dict[str, Any]] = []

    def answer(body: Mapping[str, Any]) -> str:
        bodies.append(dict(body))
        return REPLY

    async with LoopbackServer(answer) as server:
        await once(job, server.base_url)
    agents = job["agents"]
    return {"bodies": [bodies[start : start + agents] for start in range(0, len(bodies), agents)]}


async def profile(once: Once, job: Job) -> Result:
    """CPU by component: measured without the sampler, then split by what it saw."""
    from components import Sampler

    plain = await measure(once, job)
    with Sampler() as sampler:
        await measure(once, {**job, "warm_up": 0})
    return {**plain, "components": sampler.components(), "within": sampler.dearest_within(), "own": sampler.dearest()}


async def perform(arm: str, folder: Path, jobs: list[Job]) -> list[Result]:
    if arm == "baseline":
        return [await measure(baseline_debates(job["bodies"]), job) for job in jobs]
    from madflow.ledger.sqlite import open_ledger
    from madflow.models.http_pool import aclose_all

    does = {"madflow": measure, "capture": capture, "profile": profile}[arm]
    with open_ledger(folder / f"{arm}.db") as ledger:
        once = madflow_debates(ledger)
        try:
            return [await does(once, job) for job in jobs]
        finally:
            await aclose_all()


def main() -> None:
    arm, folder = sys.argv[1:]
    print(json.dumps(asyncio.run(perform(arm, Path(folder), json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
