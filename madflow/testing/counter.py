"""The judge outside: a server in a process of its own that counts the effects it receives, in a file of its own.

Whether an effect happened twice can only be told by somebody who is not part of the system under test. Each effect
that arrives becomes one line of JSON, on the disk before it is answered:

    POST   /effect/NAME    counts every time: the effect that nobody deduplicates
    PUT    /effect/NAME    counts once while it is there: doing it twice is doing it once
    POST   /keyed/NAME     counts once per Idempotency-Key (draft-ietf-httpapi-idempotency-key-header)
    DELETE /effect/NAME    takes it back: counts once while it is there
    GET    /effect/NAME    200 if it is there, 404 if not: the probe; leaves no line

In a test, `with CounterServer(folder) as server:` and send requests to `server.url("/effect/x")`; `server.counts()`
reads the file, so that it tells the truth after any number of kills. `hit` sends one request over a plain socket. For
steps that are commands the file is a program that starts quickly, because it imports only what it needs:

    python3 -I -S counter.py hit HOST:PORT METHOD PATH [KEY]    exit 0 for a 2xx, 1 for 404, 2 for anything else

KEY defaults to the variable MADFLOW_IDEMPOTENCY_KEY. `python -m madflow.testing.counter serve FILE` is the server.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:  # the rest is imported where it is used: `hit` starts thousands of times
    import asyncio
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from subprocess import Popen
    from types import TracebackType

__all__ = ["CounterServer", "Received", "hit", "main"]

_LINE_MAX: Final = 64 * 1024
_BODY_MAX: Final = 16 * 1024 * 1024
_TIMEOUT_S: Final = 10.0
_REASONS: Final = {200: "OK", 201: "Created", 404: "Not Found", 405: "Method Not Allowed", 400: "Bad Request"}

Received = dict[str, Any]
"""One line: name, key, term, method, and whether it counted."""


def hit(address: str, method: str, path: str, key: str = "", *, timeout_s: float = _TIMEOUT_S) -> int:
    """Send one request to `HOST:PORT`; the status of its answer. Raises OSError where there is none."""
    host, _, port = address.rpartition(":")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address}", "Connection: close", "Content-Length: 0"]
    if key:
        lines.append(f"Idempotency-Key: {key}")
    with socket.create_connection((host, int(port)), timeout_s) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while b"\r\n" not in answer:
            part = connection.recv(_LINE_MAX)
            if not part:
                raise ConnectionResetError(f"{address} closed the connection without an answer")
            answer += part
    return int(answer.split(b" ", 2)[1])


class CounterServer:
    """The server as a process, and what its file says.

    Args:
        folder: where its file `effects.jsonl` is kept; a second server on the same folder goes on counting in it.

    Attributes:
        address: "127.0.0.1:PORT", while it runs.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "effects.jsonl"
        self.address = ""
        self._process: Popen[bytes] | None = None
        self._received: list[Received] = []
        self._read_to = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process; returns when it listens."""
        from subprocess import PIPE, Popen

        self.file.parent.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-I", "-S", __file__, "serve", str(self.file)]
        self._process = Popen(argv, stdin=PIPE, stdout=PIPE)
        said = self._process.stdout
        self.address = said.readline().decode().strip() if said is not None else ""
        if not self.address:
            raise RuntimeError(f"the counter did not start: it exited with {self._process.wait(_TIMEOUT_S)}")

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=_TIMEOUT_S)
            self._process = None

    def url(self, path: str) -> str:
        """The whole URL of a path."""
        return f"http://{self.address}{path}"

    def command(self, method: str, path: str) -> list[str]:
        """A step's `cmd` that sends this request, with the attempt's key."""
        return ["python3", "-I", "-S", __file__, "hit", self.address, method, path]

    def received(self) -> list[Received]:
        """Everything that arrived, in order, counted or not."""
        import json

        if self.file.exists():
            with self.file.open("rb") as file:
                file.seek(self._read_to)
                new = file.read()
            new = new[: new.rfind(b"\n") + 1]
            self._read_to += len(new)
            self._received += [json.loads(line) for line in new.splitlines()]
        return list(self._received)

    def counts(self) -> dict[str, int]:
        """How often each effect happened, by name."""
        return self._count(lambda line: line["method"] != "DELETE")

    def undone(self) -> dict[str, int]:
        """How often each effect was taken back, by name."""
        return self._count(lambda line: line["method"] == "DELETE")

    def counts_by_key(self) -> dict[str, int]:
        """How often each idempotency key had an effect, do and undo alike."""
        return _tally(line["key"] for line in self.received() if line["counted"])

    def _count(self, wanted: Callable[[Received], bool]) -> dict[str, int]:
        return _tally(line["name"] for line in self.received() if line["counted"] and wanted(line))


def _tally(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


class _Book:
    """What has happened; read back from the file at the start."""

    def __init__(self, path: str) -> None:
        import json

        self._encode = json.dumps
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._there: set[str] = set()
        self._keys: set[tuple[str, str]] = set()
        with open(path, "rb") as file:  # noqa: PTH123
            for line in file:
                self._take(json.loads(line))

    def _take(self, line: Received) -> None:
        if line["method"] == "DELETE":
            self._there.discard(line["name"])
        else:
            self._there.add(line["name"])
        if line["keyed"]:
            self._keys.add((line["name"], line["key"]))

    def answer(self, method: str, path: str, headers: dict[str, str]) -> int:
        """Count a request; its status."""
        kind, _, name = path.lstrip("/").partition("/")
        key, keyed = headers.get("idempotency-key", ""), kind == "keyed"
        if kind not in ("effect", "keyed") or not name:
            return 404
        if method in ("GET", "HEAD"):
            return 200 if name in self._there else 404
        if method not in (("POST",) if keyed else ("POST", "PUT", "DELETE")):
            return 405
        if keyed and not key:
            return 400
        counted = {
            "POST": not keyed or (name, key) not in self._keys,
            "PUT": name not in self._there,
            "DELETE": name in self._there,
        }[method]
        line = {"name": name, "key": key, "term": headers.get("x-madflow-term", ""), "method": method}
        self._write({**line, "keyed": keyed, "counted": counted})
        return 201 if counted and method != "DELETE" else 200

    def _write(self, line: Received) -> None:
        os.write(self._descriptor, self._encode(line).encode() + b"\n")
        os.fdatasync(self._descriptor)
        self._take(line)


async def _talk(book: _Book, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve the requests of one connection. Whoever breaks off is forgotten."""
    import asyncio

    try:
        while (head := await reader.readuntil(b"\r\n\r\n")).strip():
            first, *lines = head.decode("latin-1").split("\r\n")
            method, path, _ = first.split(" ", 2)
            pairs = (line.partition(":") for line in lines if line)
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            await reader.readexactly(min(int(headers.get("content-length", "0")), _BODY_MAX))
            status = book.answer(method, path, headers)
            body = b"" if method == "HEAD" else b'{"counted": "see the file"}'
            said = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
            writer.write(f"{said}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            if headers.get("connection", "").lower() == "close":
                break
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
        return
    finally:
        writer.close()


async def _serve(path: str) -> None:
    """Serve until SIGTERM, or until the parent has closed our stdin: a judge does not outlive its test."""
    import asyncio
    import signal

    book, ended = _Book(path), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_reader(0, lambda: ended.set() if not os.read(0, 512) else None)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _talk(book, reader, writer)

    server = await asyncio.start_server(talk, "127.0.0.1", 0, limit=_LINE_MAX, backlog=512)
    host, port = server.sockets[0].getsockname()
    sys.stdout.write(f"{host}:{port}\n")
    sys.stdout.flush()
    await ended.wait()
    server.close()


def main(argv: list[str]) -> int:
    """`serve FILE` or `hit ADDRESS METHOD PATH [KEY]`; the exit code."""
    if len(argv) == 2 and argv[0] == "serve":
        import asyncio

        asyncio.run(_serve(argv[1]))
        return 0
    if len(argv) in (4, 5) and argv[0] == "hit":
        key = argv[4] if len(argv) == 5 else os.environ.get("MADFLOW_IDEMPOTENCY_KEY", "")
        status = hit(argv[1], argv[2], argv[3], key)
        return 0 if 200 <= status < 300 else 1 if status == 404 else 2
    sys.stderr.write(f"{(__doc__ or '').strip().splitlines()[-1]}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
