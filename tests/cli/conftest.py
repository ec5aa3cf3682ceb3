"""The command line in this process, and a loopback server whose models say what their names tell them to."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from madflow.cli import main
from madflow.testing.openai_server import LoopbackServer

DRAFT = {"summary": "Move the retries", "plan": [{"step": "write", "target": "file:a.txt", "content": "x"}]}


def reply(body: Mapping[str, Any]) -> str:
    """`says-X` answers X; `approves` and `rejects` draft one plan and vote so; `hostile` answers a control sequence."""
    model, schema = str(body["model"]), json.dumps(body.get("response_format") or {})
    if model.startswith("says-"):
        return json.dumps({"answer": model.removeprefix("says-")})
    if model == "hostile":
        return json.dumps({"answer": "A", "reasoning": "\x9b31m\x1b]0;title\x07[bold]\u202eevil"})
    if '"plan"' in schema:
        return json.dumps(DRAFT)
    return json.dumps({"decision": model.removesuffix("s") if model == "rejects" else "approve", "objections": ["no"]})


@pytest.fixture(scope="session")
def api_base() -> Iterator[str]:
    """A server in a thread of its own: `main` runs its own event loop in this one."""
    loop, started, stopping = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[str] = []

    async def serve() -> None:
        async with LoopbackServer(reply) as server:
            found.append(server.base_url)
            started.set()
            await stopping.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(stopping.set)
    thread.join(10)
    loop.close()


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ran]


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run one command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> Ran:
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as exited:
            main(list(args))
        out, err = capfdbinary.readouterr()
        return Ran(int(exited.value.code or 0), out.decode(), err.decode())

    return run
