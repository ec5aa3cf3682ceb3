"""A pool of processes for work that is all CPU: one function, many arguments, each result as it comes.

The workers are started afresh (`spawn`), ignore SIGINT, which is the parent's to handle, and end when the parent ends,
however it does: a worker of `concurrent.futures` alone would wait for the next call for ever.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Final, TypeVar

from ..errors import ConfigError, MadflowError

__all__ = ["WORKERS_MAX", "Progress", "cores", "each"]

WORKERS_MAX: Final = 256
_A = TypeVar("_A")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something is: `done` of `total` pieces, and what is done now."""

    done: int
    total: int
    doing: str


def cores() -> int:
    """The processors that this process may use, at most `WORKERS_MAX`."""
    return min(WORKERS_MAX, len(os.sched_getaffinity(0)))


def each(function: Callable[[_A], _R], arguments: Sequence[_A], workers: int) -> Generator[tuple[_A, _R]]:
    """Call a function on each argument, begun in their order; (argument, result) in the order they are done.

    Args:
        function: of a module, so that a worker finds it; with one worker or one argument it is called in this process.

    Raises:
        ConfigError: workers outside 1 to 256.
        MadflowError: a worker died. What the function raises. The workers are then ended, whatever they do, as they
            are when the caller stops.
    """
    if not 1 <= workers <= WORKERS_MAX:
        raise ConfigError(f"there are 1 to {WORKERS_MAX} workers (workers={workers}); use {cores()}")
    if workers == 1 or len(arguments) < 2:
        for argument in arguments:
            yield argument, function(argument)
        return
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(workers, len(arguments)), mp_context=multiprocessing.get_context("spawn"), initializer=_be_a_worker
    )
    finished = False
    try:
        yield from _fed(pool, function, arguments, 2 * workers)
        finished = True
    except BrokenProcessPool as error:
        raise MadflowError(
            "a worker process died (killed, or out of memory); what was finished is kept: "
            "run the same command again, with fewer --workers"
        ) from error
    finally:
        if not finished:
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
        pool.shutdown(cancel_futures=True)


def _fed(
    pool: ProcessPoolExecutor, function: Callable[[_A], _R], arguments: Sequence[_A], ahead: int
) -> Generator[tuple[_A, _R]]:
    """At most `ahead` arguments are in the pool at once: each is held there a second time."""
    waiting = list(reversed(arguments))
    running: dict[Future[_R], _A] = {}
    while waiting or running:
        while waiting and len(running) < ahead:
            argument = waiting.pop()
            running[pool.submit(function, argument)] = argument
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            yield running.pop(future), future.result()


def _be_a_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)  # nobody is left to take what this process makes

        threading.Thread(target=follow, daemon=True).start()
