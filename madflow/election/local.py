"""The elector of one machine: the ledger votes, a kernel lock keeps two submitters from even trying.

    campaign:  kernel lock ─▶ the ledger's vote for the next term ─▶ leading, with a sign of life beside the lock
    renew:     the sign of life moves on
    takeover:  the sign of life stands still for a lease ─▶ the holder is stopped, if it is madflow's own ─▶ campaign

Processes of one machine share one disk and one fate, so a majority of several would promise nothing more: the ledger is
the only voter (`register`), and decides by core/election.py's rule. Terms are records, so they outlive everybody.

The lock is an flock on `<lock_dir>/<sha256 of the scope>.leader`. It ends with its holder, however that ends; it is
close-on-exec, and a forked child closes it. It does *not* end while its holder is stopped or stuck, and then waiting is
not enough: a process that holds SQLite's write lock while it is stopped stops everybody. So whoever has not renewed
for a lease of the observer's own running time (`heart.Watch`) is killed, if it said that it may be (madflow's own
submitter process), and if the kernel confirms that it is who it said and holds this lock (`process.stop`). A host
application that embeds madflow is never killed: the others wait for it, and say so.

None of this is authority. Whoever was elected seals the scope, and the ledger refuses what a smaller term appends.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

from ..core.election import Voter
from ..errors import ConfigError
from ..ports import Clock, Held, Leader, Ledger, Lost, Renewed, Term
from .heart import NAME_CHARS_MAX, TTL_S_MAX, TTL_S_MIN, Heart, Watch, read_heart, write_heart
from .process import Identity, has_ended, identity_of_this_process, stop
from .register import Register, Transfer

__all__ = ["LocalElector"]

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_POLL_S_MIN, _POLL_S_MAX, _POLLS_PER_LEASE = 0.005, 0.1, 10


@dataclass(slots=True, eq=False)
class _Holding:
    """A lock that this process has, and its sign of life."""

    lock: int
    heart_file: int
    heart: Heart
    ttl_s: float
    path: Path
    term: Term | None = None

    def move(self, **fields: Any) -> None:
        """Write the next sign of life. Raises OSError."""
        self.heart = self.heart.model_copy(update={**fields, "counter": self.heart.counter + 1})
        write_heart(self.heart_file, self.heart)

    def is_in_place(self) -> bool:
        """Whether the lock file is still the one that others find by its name."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        own = os.fstat(self.lock)
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)

    def close(self, *, unlock: bool) -> None:
        """Give the lock up. A forked child only closes its copies: the lock is its parent's."""
        if unlock:
            # Not by close alone: a subprocess that is just being started still has the descriptor until it execs.
            fcntl.flock(self.lock, fcntl.LOCK_UN)
        os.close(self.lock)
        os.close(self.heart_file)


@dataclass(slots=True)
class _Scope:
    """What this elector knows of one scope."""

    register: Register
    lock: Path
    heart: Path
    holder: Watch = field(default_factory=Watch)
    transfer: Watch = field(default_factory=Watch)


class LocalElector:
    """`ports.Elector` on one machine; the processes share `ledger`'s file and `lock_dir`.

    One object belongs to one event loop at a time, but for `beat`, which any thread may call. After a fork the child
    leads nothing; it makes an elector and a ledger of its own. Wall clocks are never read. Contenders of a scope should
    ask for the same `ttl_s`; a holder that promised to renew less often than that is given what it promised.

    Args:
        lock_dir: folder for the locks and signs of life, on a local disk, created if missing.
        clock: its monotonic part decides how long a holder has been silent.
        may_be_killed: whether this process is madflow's own, and is to be killed when it leads and has not renewed for
            a lease. False for an application that embeds madflow.
        voter: the rule by which the ledger votes.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        lock_dir: Path,
        clock: Clock,
        may_be_killed: bool = False,
        voter: Voter | None = None,
    ) -> None:
        self._ledger, self._lock_dir, self._clock = ledger, Path(lock_dir), clock
        self._may_be_killed, self._voter = may_be_killed, voter or Voter()
        self._guard = threading.Lock()
        self._held: dict[str, _Holding] = {}
        self._open: set[_Holding] = set()
        self._scopes: dict[str, _Scope] = {}
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forgetter(weakref.ref(self)))

    async def campaign(self, scope: str, node: str, *, ttl_s: float, timeout_s: float) -> Term | Held:
        """Try for at most `timeout_s` of this process's monotonic clock (0: once) to be elected.

        What is learnt of a silent holder is kept for the next call, so trying once, again and again, takes over too.

        Raises:
            ConfigError: a scope or node without a usable name, a lease out of bounds. LedgerError: no vote was had.
            OSError: the lock folder cannot be used.
        """
        _check(scope, node, ttl_s)
        known, deadline = self._scope(scope), self._clock.monotonic() + timeout_s
        poll_s = _poll_s(ttl_s)
        while True:
            found = await self._once(known, scope, node, ttl_s)
            left_s = deadline - self._clock.monotonic()
            if isinstance(found, Term) or left_s <= 0:
                return found
            await self._clock.sleep(min(poll_s, left_s))

    async def renew(self, term: Term) -> Renewed | Lost:
        """`beat`, after a look whether the ledger has given a later term."""
        known = self._scope(term.scope)
        with self._guard:
            is_held = self._holding(term) is not None
        if is_held:
            known.register.catch_up()
            if known.register.hard.term > term.number:
                later = known.register.hard
                self._let_go(term, "resigned")
                return Lost(f"term {later.term} was given to node {later.voted_for!r}, and {term.number} is over")
        return self.beat(term)

    def beat(self, term: Term) -> Renewed | Lost:
        """Move the sign of life on. For any thread; reads no ledger and waits for nobody (`Heartbeat` calls it)."""
        with self._guard:
            holding = self._holding(term)
            if holding is None:
                return Lost(f"this process does not hold scope {term.scope!r} in term {term.number}")
            why = ""
            try:
                if holding.is_in_place():
                    holding.move()
                else:
                    why = f"the lock file {holding.path} was removed or replaced; leave the lock folder alone"
            except OSError as error:
                why = f"the sign of life beside {holding.path} cannot be written: {error}"
            if why:
                self._close(holding)
                return Lost(why)
            return Renewed(self._clock.monotonic() + holding.ttl_s)

    async def resign(self, term: Term) -> None:
        """Give the scope back; the next may have it at once. A term that is lost already is no error."""
        self._let_go(term, "resigned")

    async def transfer(self, term: Term, to: str) -> None:
        """Resign, and record that for one lease of its own running time nobody but node `to` may stand.

        Raises:
            ConfigError: `to` is no name. LedgerError: it could not be recorded; the scope is given back all the same.
        """
        with self._guard:
            holding = self._holding(term)
        if holding is None:
            return
        try:
            _check(term.scope, to, TTL_S_MAX)
            await self._scope(term.scope).register.hand_over(term.number, term.node, to, holding.ttl_s)
        finally:
            self._let_go(term, "transferred")

    async def observe(self, scope: str) -> Leader | None:
        """Who leads, or led last and did not resign.

        Somebody who leads is watched until the sign of life moves, or for the lease that it promised.
        """
        known, watch = self._scope(scope), Watch()
        found = read_heart(known.heart)  # before the votes: no sign of life is newer than they are
        known.register.catch_up(self._hint(known))
        hard = known.register.hard
        if hard.term == 0 or known.register.transfer is not None:
            return None
        while True:
            if not isinstance(found, Heart) or found.term != hard.term:
                return Leader(scope, hard.voted_for, hard.term, alive=False)
            if found.state != "leading":
                return None
            lease_s = found.ttl_ms / 1000
            if has_ended(found.identity) or watch.look(found.sign, self._clock.monotonic(), lease_s) >= lease_s:
                return Leader(scope, hard.voted_for, hard.term, alive=False)
            await self._clock.sleep(_poll_s(lease_s))
            sign, found = found.sign, read_heart(known.heart)
            if isinstance(found, Heart) and found.sign != sign and found.state == "leading":
                return Leader(scope, found.node, found.term, alive=True)

    def close(self) -> None:
        """Give back every scope that is held. May be called again."""
        with self._guard:
            for holding in list(self._held.values()):
                try:
                    holding.move(state="resigned")
                finally:
                    self._close(holding)

    def _scope(self, scope: str) -> _Scope:
        with self._guard:
            if scope not in self._scopes:
                name = sha256(scope.encode()).hexdigest()[:32]
                register = Register(self._ledger, scope, self._voter)
                self._scopes[scope] = _Scope(
                    register, self._lock_dir / f"{name}.leader", self._lock_dir / f"{name}.heart"
                )
            return self._scopes[scope]

    def _hint(self, known: _Scope) -> int:
        """Where to start reading the votes, if none was read yet."""
        found = read_heart(known.heart) if known.register.place == 0 else None
        return found.place if isinstance(found, Heart) else 0

    def _holding(self, term: Term) -> _Holding | None:
        """What is held of this very term. Under the guard."""
        holding = self._held.get(term.scope)
        return holding if holding is not None and holding.term == term else None

    def _let_go(self, term: Term, state: Literal["resigned", "transferred"]) -> None:
        with self._guard:
            holding = self._holding(term)
            if holding is None:
                return
            try:
                holding.move(state=state)
            finally:
                self._close(holding)

    def _close(self, holding: _Holding) -> None:
        """Give a lock up, once. Under the guard."""
        if holding in self._open:
            self._open.remove(holding)
            if holding.term is not None:
                self._held.pop(holding.term.scope, None)
            holding.close(unlock=True)

    async def _once(self, known: _Scope, scope: str, node: str, ttl_s: float) -> Term | Held:
        known.register.catch_up(self._hint(known))
        reserved = self._reserved(known, scope, node)
        if reserved is not None:
            return reserved
        holding = self._take(known, node, ttl_s)
        if holding is None:
            why = await self._wait_for_holder(known, ttl_s)
            if why:
                return Held(self._leader(known, scope), why)
            holding = self._take(known, node, ttl_s)
            if holding is None:
                why = f"the lock {known.lock} was freed, and somebody else was faster"
                return Held(self._leader(known, scope), why)
        try:
            return await self._elect(known, holding, scope, node)
        finally:
            with self._guard:
                if holding.term is None:
                    self._close(holding)

    async def _elect(self, known: _Scope, holding: _Holding, scope: str, node: str) -> Term | Held:
        """With the lock in hand: announce oneself, have the vote, lead."""
        before = read_heart(known.heart)
        if isinstance(before, Heart):
            holding.heart = holding.heart.model_copy(update={"counter": before.counter})
        holding.move()
        known.register.catch_up()
        reserved = self._reserved(known, scope, node)
        if reserved is not None:
            holding.move(state="resigned")
            return reserved
        number = await known.register.vote(node, _audit(holding, before))
        holding.move(state="leading", term=number, place=known.register.place)
        term = Term(scope, number, node)
        with self._guard:
            holding.term, self._held[scope] = term, holding
        return term

    def _take(self, known: _Scope, node: str, ttl_s: float) -> _Holding | None:
        """The lock, if nobody has it."""
        lock = self._open_file(known.lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            heart_file = self._open_file(known.heart)
        except BlockingIOError:
            os.close(lock)
            return None
        except BaseException:
            os.close(lock)
            raise
        heart = Heart(
            counter=0,
            state="campaigning",
            node=node,
            term=0,
            ttl_ms=round(ttl_s * 1000),
            identity=identity_of_this_process(),
            may_be_killed=self._may_be_killed,
            place=known.register.place,
        )
        holding = _Holding(lock, heart_file, heart, ttl_s, known.lock)
        if holding.is_in_place():
            with self._guard:
                self._open.add(holding)
            return holding
        holding.close(unlock=True)  # the file was removed between opening and locking it: this lock keeps nobody out
        return None

    def _open_file(self, path: Path) -> int:
        try:
            return os.open(path, _FLAGS, 0o666)
        except FileNotFoundError:
            self._lock_dir.mkdir(parents=True, exist_ok=True)
            return os.open(path, _FLAGS, 0o666)

    def _reserved(self, known: _Scope, scope: str, node: str) -> Held | None:
        """Why `node` may not stand now, where the last leader handed over to another."""
        given: Transfer | None = known.register.transfer
        if given is None or given.to == node:
            return None
        silent_s = known.transfer.look(given.place, self._clock.monotonic(), given.ttl_s)
        if silent_s >= given.ttl_s:
            return None
        hard = known.register.hard
        why = (
            f"node {hard.voted_for!r} handed scope {scope!r} over to node {given.to!r}, which has another "
            f"{given.ttl_s - silent_s:.1f} s to stand"
        )
        return Held(None, why)

    async def _wait_for_holder(self, known: _Scope, ttl_s: float) -> str:
        """Look at who has the lock, and stop it if it is dead and may be. "" if the lock is to be had now; else why
        not."""
        heart = read_heart(known.heart)
        if not isinstance(heart, Heart):
            known.holder.look(str(heart), self._clock.monotonic(), ttl_s)
            fault = heart or "it is empty"
            return f"somebody holds the lock {known.lock}, and {known.heart.name} does not say who: {fault}"
        lease_s = max(ttl_s, heart.ttl_ms / 1000)
        silent_s = known.holder.look(heart.sign, self._clock.monotonic(), lease_s)
        who = f"process {heart.identity.pid} (node {heart.node})"
        if silent_s < lease_s:
            doing = f"leads in term {heart.term}" if heart.term else "stands for election"
            return f"{who} {doing}, and was silent for {silent_s:.1f} s of its lease of {lease_s:g} s"
        dead = f"{who} has not renewed for {silent_s:.1f} s of a lease of {lease_s:g} s and holds the lock {known.lock}"
        if heart.state not in ("leading", "campaigning"):
            return f"{who} gave the scope up, and somebody who has not said who it is holds the lock {known.lock}"
        if not heart.may_be_killed:
            return f"{dead}; it is not madflow's own to stop: continue it or end it"
        left_alone = await self._stop(known, heart)
        return f"{dead}; {left_alone}" if left_alone else ""

    async def _stop(self, known: _Scope, heart: Heart) -> str:
        def still() -> bool:
            now = read_heart(known.heart)
            return isinstance(now, Heart) and now.sign == heart.sign

        try:
            lock = known.lock.stat()
        except FileNotFoundError:
            return "its lock file is gone"
        return await stop(heart.identity, lock, still)

    def _leader(self, known: _Scope, scope: str) -> Leader | None:
        """Who leads, as far as a look without waiting tells."""
        hard, heart = known.register.hard, read_heart(known.heart)
        if hard.term == 0:
            return None
        alive = isinstance(heart, Heart) and known.holder.silent_s < heart.ttl_ms / 1000
        return Leader(scope, hard.voted_for, hard.term, alive=alive)


def _audit(holding: _Holding, before: Heart | str | None) -> dict[str, Any]:
    """What a vote says beside itself: which process stands, and who was there before and how it ended."""
    own: Identity = holding.heart.identity
    said: dict[str, Any] = {
        "pid": own.pid,
        "may_be_killed": holding.heart.may_be_killed,
        "ttl_ms": holding.heart.ttl_ms,
    }
    if isinstance(before, Heart):
        ended = before.state if before.state in ("resigned", "transferred") else "lost"
        said["before"] = {"node": before.node, "term": before.term, "pid": before.identity.pid, "ended": ended}
    return said


def _poll_s(ttl_s: float) -> float:
    return min(max(ttl_s / _POLLS_PER_LEASE, _POLL_S_MIN), _POLL_S_MAX)


def _check(scope: str, node: str, ttl_s: float) -> None:
    for what, name in (("scope", scope), ("node", node)):
        if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
            raise ConfigError(
                f"the {what} {name[:40]!r} is no name: 1 to {NAME_CHARS_MAX} printable characters, it has {len(name)}"
            )
    if not TTL_S_MIN <= ttl_s <= TTL_S_MAX:
        raise ConfigError(f"a lease of {ttl_s:g} s is out of bounds: {TTL_S_MIN:g} to {TTL_S_MAX:g} s")


def _forgetter(elector: weakref.ref[LocalElector]) -> Callable[[], None]:
    """What a forked child does: close its copies of the locks, so that it keeps nothing when its parent ends."""

    def forget() -> None:
        own = elector()
        if own is None:
            return
        own._guard = threading.Lock()  # another thread may have held it at the fork
        for holding in own._open:
            holding.close(unlock=False)
        own._open, own._held = set(), {}

    return forget
