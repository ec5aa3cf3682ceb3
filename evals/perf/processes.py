"""What the benchmark starts: arms, servers, commands whose start-up is timed; each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from arm import REPLY

from madflow.testing.openai_server import loopback_process

__all__ = ["COMMIT_ARM", "arm", "requests", "server", "start_up_s", "stats"]

ARM = Path(__file__).with_name("arm.py")
COMMIT_ARM = Path(__file__).with_name("commit_arm.py")
ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 600


def environment(**more: str) -> dict[str, str]:
    """No proxy between the arms and their server, no tracing, no key, and this checkout before any installed one."""
    dropped = ("_PROXY", "_API_KEY", "_API_BASE", "_BASE_URL")
    kept = {name: value for name, value in os.environ.items() if not name.upper().endswith(dropped)}
    return {**kept, "LANGSMITH_TRACING": "false", "PYTHONPATH": str(ROOT), **more}


def arm(name: str, folder: Path, jobs: list[dict[str, Any]], *, script: Path = ARM) -> list[dict[str, Any]]:
    """Run one arm's jobs in a fresh process; their results in order. RuntimeError with what a failed one said."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(script), name, str(folder)],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the arm {name} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


@contextmanager
def server(latency_ms: float = 0, *options: str) -> Iterator[str]:
    """A loopback server with this latency while the block runs; yields its base URL."""
    with loopback_process("--latency-ms", str(latency_ms), "--reply", REPLY, *options) as url:
        yield url


def _ask(url: str, method: str) -> dict[str, Any]:
    opener = build_opener(ProxyHandler({}))
    with opener.open(Request(url, method=method, data=b"" if method == "POST" else None), timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def stats(url: str) -> Mapping[str, Any]:
    """What the server at `url` served and billed since it was last asked, which empties its books."""
    found = _ask(f"{url}/stats", "GET")
    _ask(f"{url}/reset", "POST")
    return found


def requests(url: str) -> int:
    """How many requests the server at `url` served since it was last asked."""
    return int(stats(url)["requests"])


def start_up_s(command: list[str], folder: Path, times: int) -> list[float]:
    """Wall seconds of `times` runs of a command, after one that compiles its bytecode."""
    env = environment(PYTHONPYCACHEPREFIX=str(folder / "bytecode"), PYTHONDONTWRITEBYTECODE="")
    walls = []
    for _ in range(times + 1):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
        walls.append(time.perf_counter() - began)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return walls[1:]
