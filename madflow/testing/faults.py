"""Fault points: end a run at an exact place, and count what it was billed outside of it.

A debate's places are its writes and its model calls, a commit's are its writes and what its effects do:

    KillingLedger    before=n: the n-th write is not made      after=n: it is durable, and nobody learns of it
    KillingModel     before=n: the n-th request is not sent    after=n: it is answered (or failed), and that is lost
    KillingEffect    before: the n-th prepare, do, probe or settled is not begun    after: it is over, its answer lost
                     midway: it is under way, `delay_s` after it began
    LosingEffect     the n-th do happens, its answer is lost, and the process lives

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
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, cast

from ..core.saga import Absent, Done, Failed, Uncertain
from ..errors import PermanentModelError, TransientModelError
from ..models.scripted import as_text, chars_as_tokens
from ..ports import (
    AppendResult,
    Effect,
    EffectContext,
    Entry,
    Event,
    Execute,
    FencedLedger,
    Ledger,
    ModelClient,
    ModelReply,
    ModelRequest,
    Quote,
    Record,
    Sealed,
    Stale,
    TransactionalEffect,
    TurnView,
    Usage,
)

__all__ = [
    "Bill",
    "Charge",
    "Crash",
    "GreedyModel",
    "KillingEffect",
    "KillingLedger",
    "KillingModel",
    "Life",
    "LosingEffect",
    "Method",
    "Moods",
    "Side",
]

Method: TypeAlias = Literal["prepare", "do", "probe", "settled"]
Side: TypeAlias = Literal["before", "midway", "after"]
_T = TypeVar("_T")


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
    """A `Ledger`, or a `FencedLedger`, that ends its process at one write.

    A write is one call of `record`, `seal`, `append` or `transact`, of any number of records.

    Args:
        before, after: at which write, 1-based; 0 for none.

    Attributes:
        writes: how many were begun. path: the inner ledger's file, where it has one.
    """

    def __init__(
        self, inner: Ledger | FencedLedger, *, before: int = 0, after: int = 0, life: Life | None = None
    ) -> None:
        self.inner, self._before, self._after = inner, before, after
        self.life = life or Life()
        self.writes = 0
        self.path: Path | None = getattr(inner, "path", None)

    async def record(self, stream: str, events: Sequence[Event], *, after: int) -> list[Record]:
        """As the inner ledger's. Raises Crash at the fault point and ever after; so do the three below."""
        return await self._write(lambda: self.inner.record(stream, events, after=after))

    async def seal(self, scope: str, term: int, event: Event) -> Sealed | Stale:
        """As the inner ledger's."""
        return await self._write(lambda: self._fenced.seal(scope, term, event))

    async def append(self, scope: str, term: int, entries: Sequence[Entry]) -> AppendResult:
        """As the inner ledger's."""
        return await self._write(lambda: self._fenced.append(scope, term, entries))

    async def transact(
        self, scope: str, term: int, slot: str, work: Callable[[Execute], Event], *, timeout_s: float
    ) -> AppendResult:
        """As the inner ledger's. Inside the transaction a process is ended by the `KillingEffect` of its work."""
        return await self._write(lambda: self._fenced.transact(scope, term, slot, work, timeout_s=timeout_s))

    async def _write(self, make: Callable[[], Awaitable[_T]]) -> _T:
        self.life.check()
        self.writes += 1
        number = self.writes
        if number == self._before:
            self.life.end()
        made = await make()
        if number == self._after:
            self.life.end()
        self.life.check()
        return made

    @property
    def _fenced(self) -> FencedLedger:
        return cast("FencedLedger", self.inner)

    def find(self, scope: str, slot: str) -> Record | None:
        """As the inner ledger's; so are the methods below."""
        return self._fenced.find(scope, slot)

    def read(self, stream: str, *, after: int = 0, pruned: Literal["raise", "skip"] = "raise") -> list[Record]:
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


class KillingEffect:
    """An `Effect` that ends its process at one call of one of its methods, counted over all that share `count`.

    The `do` of a transactional step is its work in the ledger's transaction: it ends there, before COMMIT, and only
    by SIGKILL (`Life(kill=True)`), because it runs in the ledger's own thread.

    Args:
        at, side, nth: at which call (1-based; 0 for none) of which method, and where in it. Midway: `delay_s` seconds
            after the call began, or when it is over, whichever is first: a request on the wire, a file half written.
        count: how many calls of `at` were begun, in its only item; share a list to count several effects together.
    """

    def __init__(
        self,
        inner: Effect,
        *,
        at: Method,
        side: Side,
        nth: int,
        delay_s: float = 0.0,
        life: Life | None = None,
        count: list[int] | None = None,
    ) -> None:
        self.inner, self._at, self._side, self._nth, self._delay_s = inner, at, side, nth, delay_s
        self.life = life or Life()
        self.count = count if count is not None else [0]

    async def prepare(self, step: Mapping[str, Any], ctx: EffectContext) -> Mapping[str, Any] | Failed:
        """As the inner effect's. Raises Crash at the fault point and ever after; so do the methods below."""
        return await self._call("prepare", lambda: self.inner.prepare(step, ctx))

    async def do(self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext) -> Done | Failed:
        return await self._call("do", lambda: self.inner.do(step, facts, ctx))

    async def probe(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Done | Absent | Uncertain:
        return await self._call("probe", lambda: self.inner.probe(step, facts, ctx))

    async def settled(self, step: Mapping[str, Any], ctx: EffectContext) -> bool:
        return await self._call("settled", lambda: self.inner.settled(step, ctx))

    def work(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Callable[[Execute], Mapping[str, Any]]:
        """The inner effect's work, which must be a `TransactionalEffect`."""
        run = cast("TransactionalEffect", self.inner).work(step, facts, ctx)

        def killing(execute: Execute) -> Mapping[str, Any]:
            mine = self._is_it("do")
            if mine and self._side == "before":
                self.life.end()
            result = run(execute)
            if mine:
                self.life.end()
            return result

        return killing

    def _is_it(self, method: Method) -> bool:
        """Count a call; whether it is the one."""
        self.life.check()
        self.count[0] += method == self._at
        return method == self._at and self.count[0] == self._nth

    async def _call(self, method: Method, call: Callable[[], Awaitable[_T]]) -> _T:
        mine = self._is_it(method)
        if mine and self._side == "before":
            self.life.end()
        if mine and self._side == "midway":
            under_way = asyncio.ensure_future(call())
            await asyncio.wait([under_way], timeout=self._delay_s)
            self.life.end()
        answer = await call()
        if mine:
            self.life.end()
        self.life.check()
        return answer


class LosingEffect:
    """An `Effect` whose n-th `do` happens, and whose answer is lost on the way back: nobody knows whether it did.

    Args:
        nth: which call, 1-based, over all effects that share `count`.
        code: of the `Failed` that comes instead of the answer; transient, as a lost connection is.
    """

    def __init__(
        self, inner: Effect, *, nth: int, code: str = "connection_lost", count: list[int] | None = None
    ) -> None:
        self.inner, self._nth, self._code = inner, nth, code
        self.count = count if count is not None else [0]

    async def prepare(self, step: Mapping[str, Any], ctx: EffectContext) -> Mapping[str, Any] | Failed:
        """The inner effect's, as are `probe` and `settled`."""
        return await self.inner.prepare(step, ctx)

    async def do(self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext) -> Done | Failed:
        """As the inner effect's, but for the n-th answer."""
        self.count[0] += 1
        number = self.count[0]
        answer = await self.inner.do(step, facts, ctx)
        return answer if number != self._nth else Failed(self._code, "the answer was lost (planted)", transient=True)

    async def probe(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Done | Absent | Uncertain:
        return await self.inner.probe(step, facts, ctx)

    async def settled(self, step: Mapping[str, Any], ctx: EffectContext) -> bool:
        return await self.inner.settled(step, ctx)


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
