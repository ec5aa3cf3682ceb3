"""The judge is judged: what it counts, what it does not, and that its file survives it."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run

import pytest

from madflow.testing.counter import CounterServer, hit


def test_what_counts(tmp_path: Path) -> None:
    """Catches a judge that forgives a duplicate, or charges a retry that deduplicates."""
    with CounterServer(tmp_path) as server:
        at = server.address
        assert hit(at, "GET", "/effect/plain") == 404
        assert [hit(at, "POST", "/effect/plain", "k") for _ in range(3)] == [201, 201, 201]
        assert [hit(at, "PUT", "/effect/put", "k") for _ in range(3)] == [201, 200, 200]
        keys = ("a", "a", "b")
        assert [hit(at, "POST", "/keyed/keyed", key) for key in keys] == [201, 200, 201]
        assert hit(at, "POST", "/keyed/keyed") == 400
        assert [hit(at, "GET", f"/effect/{name}") for name in ("plain", "put", "keyed")] == [200, 200, 200]
        assert [hit(at, "DELETE", "/effect/put", "u") for _ in range(2)] == [200, 200]
        assert hit(at, "GET", "/effect/put") == 404
        assert hit(at, "PUT", "/keyed/x", "k") == 405 and hit(at, "POST", "/", "k") == 404
        assert server.counts() == {"plain": 3, "put": 1, "keyed": 2}
        assert server.undone() == {"put": 1}
        assert server.counts_by_key() == {"k": 4, "a": 1, "b": 1, "u": 1}
        assert len(server.received()) == 3 + 3 + 3 + 2


def test_its_file_is_the_truth(tmp_path: Path) -> None:
    """Catches counts that die with the server, and a restart that forgets the keys it has seen."""
    with CounterServer(tmp_path) as server:
        hit(server.address, "POST", "/keyed/x", "k")
        os.kill(server._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        assert server.counts() == {"x": 1}
    with CounterServer(tmp_path) as server:
        assert hit(server.address, "POST", "/keyed/x", "k") == 200
        assert hit(server.address, "GET", "/effect/x") == 200
        assert server.counts() == {"x": 1}


def test_many_at_once(tmp_path: Path) -> None:
    """Catches a request that is answered and lost, or counted twice."""
    with CounterServer(tmp_path) as server, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(hit, server.address, "POST", "/keyed/x", f"k{n % 50}") for n in range(200)]
        assert sorted(one.result() for one in asked) == [200] * 150 + [201] * 50
        assert server.counts() == {"x": 50}


def test_as_a_program(tmp_path: Path) -> None:
    """Catches a command step that does not count, or a probe whose exit code says the wrong thing."""
    with CounterServer(tmp_path) as server:
        env = {"PATH": os.environ["PATH"], "MADFLOW_IDEMPOTENCY_KEY": "the-key"}
        codes = [
            run(server.command(method, path), env=env, check=False).returncode
            for method, path in (
                ("GET", "/effect/x"),
                ("POST", "/effect/x"),
                ("GET", "/effect/x"),
                ("PUT", "/keyed/x"),
            )
        ]
        assert codes == [1, 0, 0, 2]
        assert server.counts_by_key() == {"the-key": 1}


def test_nobody_there() -> None:
    """Catches a client that takes no answer for one."""
    with pytest.raises(OSError, match="refused"):
        hit("127.0.0.1:1", "POST", "/effect/x", "k")
