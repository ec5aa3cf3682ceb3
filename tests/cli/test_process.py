"""The command line as a real process: signals, closed pipes, a terminal, and what `--help` loads."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from madflow.testing.openai_server import loopback_process

MADFLOW = (sys.executable, "-c", "from madflow.cli import main; main()")
HEAVY = ("aiohttp", "apsw", "langgraph", "litellm", "pydantic", "rich", "tiktoken")


@pytest.fixture(scope="module")
def slow() -> Iterator[str]:
    with loopback_process("--latency-ms", "60000") as url:
        yield url


def start(slow: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    """A debate that waits for its first reply: all three calls are out when this returns."""
    command = [*MADFLOW, "debate", "Q?", "--model", "m", "--api-base", slow, "--id", "d1", *more]
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "3 seats" in process.stderr.readline()  # the opening is recorded, and the signal handlers are in place
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lands_a_valid_proposal(slow: str, tmp_path: Path, number: signal.Signals) -> None:
    """Would catch a signal that kills, hangs, or leaves a debate without its proposal."""
    process = start(slow, tmp_path, "--json")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 3, err
    proposal = json.loads(out)
    assert proposal["decision"]["stop_reason"] == "cancelled"
    assert {vote["decision"] for vote in proposal["votes"]} == {"missing"}
    assert f"{number.name}: landing the debate as cancelled; a second one ends it at once" in err
    again = subprocess.run(
        [*MADFLOW, "replay", "d1", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert again.stdout == out


@pytest.mark.parametrize("moment", ["madflow.models.http_pool", "langgraph.graph"])
def test_a_signal_before_the_first_call_lands_too(slow: str, tmp_path: Path, moment: str) -> None:
    """Would catch handlers that come with the event loop: asyncio's own ends an opened debate without a proposal."""
    script = (
        "import os, signal, sys\nfrom madflow.cli import main\nsent = []\n"
        "def hook(event, args):\n"
        f"    if event == 'import' and args[0] == {moment!r} and not sent:\n"
        "        sent.append(1)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.addaudithook(hook)\nmain()"
    )
    command = [sys.executable, "-c", script, "debate", "Q?", "--model", "m", "--api-base", slow, "--id", "d1", "--json"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20)
    assert ran.returncode == 3, ran.stderr
    assert json.loads(ran.stdout)["decision"]["stop_reason"] == "cancelled"
    assert "never awaited" not in ran.stderr


def test_a_second_signal_ends_it_at_once(slow: str, tmp_path: Path) -> None:
    """Would catch a process that cannot be stopped; the ledger must then still verify and resume."""
    process = start(slow, tmp_path)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=10) == -signal.SIGKILL
    process = start_resumed(slow, tmp_path)
    os.kill(process.pid, signal.SIGSTOP)  # so that both signals are there before either is handled
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(timeout=10) in (3, -signal.SIGINT, -signal.SIGTERM)
    report = subprocess.run([*MADFLOW, "doctor", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    ledger = next(check for check in json.loads(report.stdout)["checks"] if check["name"] == "ledger")
    assert ledger["state"] == "ok"


def start_resumed(slow: str, folder: Path) -> subprocess.Popen[str]:
    command = [*MADFLOW, "debate", "Q?", "--model", "m", "--api-base", slow, "--id", "d1"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "resumed" in process.stderr.readline()
    return process


@pytest.mark.parametrize("verb", [("schema", "proposal"), ("init", "--json")])
def test_a_reader_that_leaves(tmp_path: Path, verb: tuple[str, ...]) -> None:
    """Would catch a traceback, or Python's own complaint at exit, when `| head` has seen enough."""
    read, write = os.pipe()
    os.close(read)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # as a user runs it
    ran = subprocess.run(
        [*MADFLOW, *verb], cwd=tmp_path, env=env, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (ran.returncode, ran.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("verb", [("schema", "proposal"), ("init", "--json")])
def test_a_full_disk(tmp_path: Path, verb: tuple[str, ...]) -> None:
    """Would catch a traceback, a success that nobody can read, or Python's own complaint at exit about what is still
    buffered. One text is longer than the buffer, one shorter."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [*MADFLOW, *verb], cwd=tmp_path, env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ran.returncode == 1
    assert ran.stderr == (
        "madflow: standard output cannot be written (No space left on device); write to another place\n"
    )


def test_a_listener_that_leaves_costs_the_debate_nothing(tmp_path: Path) -> None:
    with loopback_process("--latency-ms", "150", "--reply", '{"answer": "yes"}') as url:
        command = [*MADFLOW, "debate", "Q?", "--model", "m", "--api-base", url, "--json"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        assert json.loads(process.stdout.read())["decision"]["result"] == "approved"
        assert process.wait(timeout=10) == 0
        process.stdout.close()


@pytest.mark.parametrize("no_color", [False, True])
def test_a_table_on_a_terminal(tmp_path: Path, no_color: bool) -> None:
    """Would catch a reply that styles the table, colour despite NO_COLOR, a cursor that stays hidden."""
    with loopback_process("--latency-ms", "400", "--reply", '{"answer": "[red]yes[/red]"}') as url:
        pid, descriptor = pty.fork()
        if pid == 0:
            os.chdir(tmp_path)
            os.environ.update({"TERM": "xterm-256color", "COLUMNS": "100"})
            os.environ.pop("NO_COLOR", None)
            if no_color:
                os.environ["NO_COLOR"] = "1"
            os.execv(sys.executable, [*MADFLOW, "debate", "Q?", "--model", "m", "--api-base", url])
        text = everything(descriptor)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert "[red]yes[/red]" in text
    assert "round 1 of 3" in text
    assert ("\x1b[32m" in text) is not no_color
    assert text.replace("\x1b[?25l\x1b[?25h", "").count("\x1b[?25l") == 0  # never hidden while the debate runs
    assert "approved: [red]yes[/red]" in text


def everything(descriptor: int) -> str:
    """All output of a pseudo-terminal until its process closes it."""
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65_536)
        except OSError:  # Linux: the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode()


@pytest.mark.parametrize("code", ["import madflow", "from madflow.cli import main\nmain(['--help'])"])
def test_what_is_not_loaded(code: str) -> None:
    """Would catch an import at the top of a module that makes every command wait for seconds."""
    script = f"import sys\ntry:\n    exec({code!r})\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(HEAVY) & set(ran.stderr.split()) == set()
