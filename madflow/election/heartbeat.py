"""Renewing a lease from a thread of its own, so that a blocked event loop does not look like a dead process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from ..ports import Lost, Renewed, Term

__all__ = ["BEATS_PER_LEASE", "Heartbeat"]

BEATS_PER_LEASE: Final = 4
_JOIN_S: Final = 5.0


class Heartbeat:
    """Renews `term` every quarter of a lease until it is stopped or the term is lost.

        with Heartbeat(elector.beat, term, ttl_s=5.0, on_lost=tell):
            ...

    The thread is a daemon: it never keeps a process from ending. A forked child has none, and does not renew.

    Args:
        beat: renews once, from any thread, without an event loop (`LocalElector.beat`).
        ttl_s: the lease.
        on_lost: called once, from the thread, with the reason; it must return soon and raise nothing.

    Attributes:
        lost: why the term was lost; "" while it is not.
    """

    def __init__(
        self,
        beat: Callable[[Term], Renewed | Lost],
        term: Term,
        *,
        ttl_s: float,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        self.lost = ""
        self._beat, self._term, self._on_lost = beat, term, on_lost
        self._interval_s = ttl_s / BEATS_PER_LEASE
        self._stop = threading.Event()
        name = f"madflow-heartbeat-{term.scope}"[:64]
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing, and wait for the thread, a bounded time. May be called again, or before `start`."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                found = self._beat(self._term)
            except Exception as error:  # a beat that cannot be made is a lease that ends
                found = Lost(f"the renewal failed: {type(error).__name__}: {error}")
            if isinstance(found, Lost):
                self.lost = found.why
                if self._on_lost is not None:
                    self._on_lost(found.why)
                return
