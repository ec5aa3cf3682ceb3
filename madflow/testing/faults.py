"""Fault points: end a run at an exact place, and count what it was billed outside of it.

A debate's places are its writes and its model calls, and both have two sides:

    KillingLedger    before=n: the n-th write is not made      after=n: it is durable, and nobody learns of it
    KillingModel     before=n: the n-th request is not sent    after=n: it is answered (or failed), and that is lost

A node of the debate graph ends with the write that closes its stage, so a kill after every write is also a kill after
every node. Fault points of one process share a `Life`. A death is real (`Life(kill=True)`: SIGKILL to this process)
or simulated: `Crash` is raised, and from then on every fault point of that life raises it again, so that nothing the
dead process would still do reaches the ledger or a provider. `Crash` is a BaseException: no handler for errors may
take it for a failure of a seat.

`GreedyModel` is the provider one has to budget for: it fills max_output_tokens on every call, bills when a request
arrives and not when it is answered, and drops some replies after billing. Its `Bill` is kept outside of the debate:
in memory, or in a file that a killed process leaves complete.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import PermanentModelError, TransientModelError
from ..models.scripted import as_text, chars_as_tokens
from ..ports import Event, Ledger, ModelClient, ModelReply, ModelRequest, Quote, Record, TurnView, Usage

__all__ = ["Bill", "Charge", "Crash", "GreedyModel", "KillingLedger", "KillingModel", "Life", "Moods"]


class Crash(BaseException):
    """The simulated end of a process."""


class Life:
    """Whether a process lives. Share one between the fault points of one process.

    Args:
        kill: end by SIGKILL, really; else by raising `Crash`.
    """

    def __init__(self, *, kill: bool = False) -> None:
        self._kill, self.alive = kill, True

    def end(self) -> None:
        """Die here. Raises Crash, or does not return."""
        self.alive = False
        if self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise Crash

    def check(self) -> None:
        """Raise Crash if this process is dead already."""
        if not self.alive:
            raise Crash


class KillingLedger:
    """A `Ledger` that ends its process at one write; a write is one call of `record`, of any number of events.

    Args:
        before, after: at which write, 1-based; 0 for none.

    Attributes:
        writes: how many were begun.
    """

    def __init__(self, inner: Ledger, *, before: int = 0, after: int = 0, life: Life | None = None) -> None:
        self.inner, self._before, self._after = inner, before, after
        self.life = life or Life()
        self.writes = 0

    async def record(self, stream: str, events: Sequence[Event], *, after: int) -> list[Record]:
        """As the inner ledger's. Raises Crash at the fault point and ever after."""
        self.life.check()
        self.writes += 1
        number = self.writes
        if number == self._before:
            self.life.end()
        records = await self.inner.record(stream, events, after=after)
        if number == self._after:
            self.life.end()
        self.life.check()
        return records

    def read(self, stream: str, *, after: int = 0, pruned: Literal["raise", "skip"] = "raise") -> list[Record]:
        """As the inner ledger's; so are the methods below."""
        return self.inner.read(stream, after=after, pruned=pruned)

    def scan(self, from_seq: int = 1, *, pruned: Literal["raise", "skip"] = "raise") -> Iterator[Record]:
        return self.inner.scan(from_seq, pruned=pruned)

    def streams(self) -> list[str]:
        return self.inner.streams()

    def verify(self) -> int:
        return self.inner.verify()

    def lock_stream(self, stream: str) -> AbstractContextManager[None]:
        """The inner ledger's lock, where it has one."""
        lock: Callable[[str], AbstractContextManager[None]] | None = getattr(self.inner, "lock_stream", None)
        return lock(stream) if lock is not None else nullcontext()

    def close(self) -> None:
        self.inner.close()


class KillingModel:
    """A `ModelClient` that ends its process at one call, counted over all clients that share `count`.

    Args:
        before, after: at which call, 1-based; 0 for none.
        count: how many calls were begun, in its only item; share a list to count several clients together.
    """

    def __init__(
        self,
        inner: ModelClient,
        *,
        before: int = 0,
        after: int = 0,
        life: Life | None = None,
        count: list[int] | None = None,
    ) -> None:
        self.inner, self._before, self._after = inner, before, after
        self.life = life or Life()
        self.count = count if count is not None else [0]
        self.name = str(getattr(inner, "name", "") or type(inner).__name__)

    def quote(self, request: ModelRequest) -> Quote:
        """The inner client's."""
        return self.inner.quote(request)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """As the inner client's. Raises Crash at the fault point and ever after."""
        self.life.check()
        self.count[0] += 1
        number = self.count[0]
        if number == self._before:
            self.life.end()
        try:
            return await self.inner.complete(request)
        finally:
            if number == self._after:
                self.life.end()
            self.life.check()


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request was billed, in tokens and 10⁻⁹ US dollars."""

    call_id: str
    model: str
    prompt_tokens: int
    output_tokens: int
    usd_nanos: int

    @property
    def tokens(self) -> int:
        """Prompt and output tokens together."""
        return self.prompt_tokens + self.output_tokens


class Bill:
    """A provider's own account of what it served, kept outside of the debate.

    Args:
        path: append each charge to this file, a JSON line in one write, so that SIGKILL loses none; None: in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._charges = path, list[Charge]()

    def charge(self, charge: Charge) -> None:
        """Enter one charge."""
        if self._path is None:
            self._charges.append(charge)
            return
        fields = {name: getattr(charge, name) for name in Charge.__slots__}
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, (json.dumps(fields) + "\n").encode())
        finally:
            os.close(descriptor)

    @property
    def charges(self) -> list[Charge]:
        """Every charge so far, oldest first."""
        if self._path is None:
            return list(self._charges)
        if not self._path.exists():
            return []
        return [Charge(**json.loads(line)) for line in self._path.read_text("utf-8").splitlines()]


@dataclass(frozen=True, slots=True)
class Moods:
    """How often, 0 to 1, a `GreedyModel` does what; the rest are good replies.

    Attributes:
        drop: the connection is lost after billing. refuse: 429 before billing. fail: 500 after billing.
        final: an error that is not retried, after billing. silent: a good reply without reported usage.
        garble: a reply that does not parse, billed in full. turns: how many times others run before a reply, at most.
    """

    drop: float = 0.0
    refuse: float = 0.0
    fail: float = 0.0
    final: float = 0.0
    silent: float = 0.0
    garble: float = 0.0
    turns: int = 3


_CALM = Moods()


@dataclass(slots=True)
class GreedyModel:
    """A `ModelClient` that uses all it may on every call. Tokens are characters / 4, so that its quotes are exact.

    Args:
        replies: from a `TurnView` to a reply (text or a mapping).
        bill: where charges go, when a request arrives.
        price_nanos: per token, prompt and output alike.
        seed: with the call's id and its number, decides what becomes of it.
        exact: False quotes a prompt by its UTF-8 bytes, as for a model without a known tokenizer.

    Attributes:
        served: requests so far, the refused among them.
    """

    replies: Callable[[TurnView], str | Mapping[str, Any]]
    bill: Bill
    moods: Moods = _CALM
    price_nanos: int = 0
    seed: int = 0
    exact: bool = True
    name: str = "greedy"
    served: int = field(default=0, init=False)

    def quote(self, request: ModelRequest) -> Quote:
        """The worst case, which is what `complete` bills (for `exact` False: at most that)."""
        text = request.system + request.prompt
        prompt = chars_as_tokens(text) if self.exact else len(text.encode())
        price = (prompt + request.max_output_tokens) * self.price_nanos
        return Quote(prompt, request.max_output_tokens, price, exact=self.exact)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Bill the worst case, then answer, drop, fail or garble. Raises Transient- and PermanentModelError."""
        self.served += 1
        drawn = random.Random(f"{self.seed}/{request.call_id}/{self.served}")  # noqa: S311  repeatable, not secret
        mood, m = drawn.random(), self.moods
        if mood < m.refuse:
            raise TransientModelError("rate_limited", "slow down (greedy)", status=429, retry_after_s=0.01)
        mood -= m.refuse
        prompt, output = chars_as_tokens(request.system + request.prompt), request.max_output_tokens
        usd = (prompt + output) * self.price_nanos
        self.bill.charge(Charge(request.call_id, request.model, prompt, output, usd))
        if request.on_first_token is not None:
            request.on_first_token()
        for _ in range(drawn.randint(0, m.turns)):
            await asyncio.sleep(0)
        if mood < m.drop:
            raise TransientModelError("connection", "dropped after billing (greedy)")
        if mood < m.drop + m.fail:
            raise TransientModelError("server_error", "failed after billing (greedy)", status=500)
        if mood < m.drop + m.fail + m.final:
            raise PermanentModelError("content_filter", "refused after billing (greedy)")
        used: Usage | None = Usage(prompt, output, usd_nanos=usd)
        if mood < m.drop + m.fail + m.final + m.garble:
            return ModelReply('{"decision": "appr', used, finish_reason="length", model=self.name)
        if mood < m.drop + m.fail + m.final + m.garble + m.silent:
            used = None
        if request.view is None:
            raise PermanentModelError("not_scripted", "the request carries no view to answer from")
        return ModelReply(as_text(self.replies(request.view)), used, model=self.name)
