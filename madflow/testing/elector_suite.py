"""The conformance suite of `ports.Elector`: every backend runs it.

    class TestMyElector(ElectorSuite):
        @pytest.fixture
        def make_elector(self):
            return lambda: MyElector(...)

`make_elector()` gives another contender for the same scopes each time it is called: a node of its own, or the same node
after a restart. What a backend cannot do is declared in `lacks`, and the tests that need it return at once; nothing is
lacking silently. Nothing here imports pytest, and all waiting is in real time, a few leases long.

Capabilities:
    expires     a holder that does not renew loses the scope by itself; without it, others wait for the process
    processes   a contender in another process: needs `lead_in_child`
"""

# ruff: noqa: S101 (its assertions are what this file is for)

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import ConfigError
from ..ports import Elector, Held, Lost, Renewed, Term

__all__ = ["ElectorSuite", "lead_until_killed"]

MakeElector = Callable[[], Elector]
LONG_S = 30.0
"""A lease, or a wait, that no test sits out: what comes sooner did not come because of it."""


def lead_until_killed(elector: Elector, scope: str, node: str, ttl_s: float) -> None:
    """Get elected, print the term, and renew until this process is killed."""

    async def run() -> None:
        term = await elector.campaign(scope, node, ttl_s=ttl_s, timeout_s=LONG_S)
        assert isinstance(term, Term), term
        print(term.number, flush=True)
        found: Renewed | Lost = Renewed(0.0)
        while isinstance(found, Renewed):
            await asyncio.sleep(ttl_s / 4)
            found = await elector.renew(term)

    asyncio.run(run())


async def _raises(kind: type[Exception], call: Awaitable[Any]) -> Exception:
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


class ElectorSuite:
    """Subclass it, and give it a `make_elector` fixture. `ttl_s`: the lease where one has to be waited for."""

    lacks: frozenset[str] = frozenset()
    ttl_s: float = 0.3

    def lead_in_child(self, elector: Elector, scope: str, node: str) -> subprocess.Popen[bytes]:
        """A process that contends with `elector` and calls `lead_until_killed`; its stdout is a pipe."""
        raise NotImplementedError("declare lacks = frozenset({'processes'}), or say how a child contends")

    async def elected(self, elector: Elector, node: str, scope: str = "s", ttl_s: float = LONG_S) -> Term:
        """Stand, where nobody is in the way."""
        found = await elector.campaign(scope, node, ttl_s=ttl_s, timeout_s=LONG_S)
        assert isinstance(found, Term), found
        assert (found.scope, found.node) == (scope, node)
        return found

    async def held(self, elector: Elector, node: str, scope: str = "s", timeout_s: float = 0.0) -> Held:
        """Stand in vain."""
        found = await elector.campaign(scope, node, ttl_s=self.ttl_s, timeout_s=timeout_s)
        assert isinstance(found, Held), found
        assert found.why
        return found

    async def test_terms_only_grow(self, make_elector: MakeElector) -> None:
        """Over nodes, and over restarts of them. Catches a term that is kept in memory, or counted per node."""
        numbers = []
        for round_ in range(4):
            for node in ("a", "b"):
                elector = make_elector()
                term = await self.elected(elector, node)
                numbers.append(term.number)
                await elector.resign(term)
            assert numbers == sorted(set(numbers)), f"round {round_}: {numbers}"
        assert numbers[0] >= 1

    async def test_one_holder(self, make_elector: MakeElector) -> None:
        """Whoever comes second is held, learns who leads, and nothing of the first's is disturbed by that."""
        one, two = make_elector(), make_elector()
        term = await self.elected(one, "a")
        found = await self.held(two, "b")
        assert found.leader is not None
        assert (found.leader.node, found.leader.term, found.leader.scope) == ("a", term.number, "s")
        assert isinstance(await one.renew(term), Renewed)
        await one.resign(term)

    async def test_many_at_once(self, make_elector: MakeElector) -> None:
        """Contenders that all try at once lead one after the other. Catches two holders, and a term given twice."""
        leading: list[int] = []
        numbers: list[int] = []

        async def stand(name: str) -> None:
            elector = make_elector()
            for _ in range(3):
                term = await self.elected(elector, name, ttl_s=self.ttl_s)
                leading.append(term.number)
                await asyncio.sleep(0)
                assert leading == [term.number], f"{leading} lead at once"
                numbers.append(term.number)
                leading.remove(term.number)
                await elector.resign(term)

        await asyncio.gather(*(stand(f"n{number}") for number in range(6)))
        assert len(numbers) == 18
        assert numbers == sorted(set(numbers))

    async def test_held_when_the_time_is_over(self, make_elector: MakeElector) -> None:
        """A leader that renews is not deposed by waiting, however many leases that takes; and the wait ends."""
        one, two = make_elector(), make_elector()
        term = await self.elected(one, "a", ttl_s=self.ttl_s)
        waiting = asyncio.ensure_future(self.held(two, "b", timeout_s=2.5 * self.ttl_s))
        while not waiting.done():
            assert isinstance(await one.renew(term), Renewed)
            await asyncio.sleep(self.ttl_s / 10)
        await waiting
        await one.resign(term)

    async def test_renewing(self, make_elector: MakeElector) -> None:
        """A lease lies ahead; a term that is over, of another, or was never given is lost."""
        one, two = make_elector(), make_elector()
        term = await self.elected(one, "a")
        before = time.monotonic()
        found = await one.renew(term)
        assert isinstance(found, Renewed)
        assert before < found.deadline_s <= time.monotonic() + LONG_S
        never = Term(term.scope, term.number + 7, "a")
        for elector, other in ((one, never), (two, term), (two, Term("elsewhere", 1, "b"))):
            lost = await elector.renew(other)
            assert isinstance(lost, Lost)
            assert lost.why
        await one.resign(term)
        assert isinstance(await one.renew(term), Lost)

    async def test_resigning_lets_the_next_in(self, make_elector: MakeElector) -> None:
        """At once, not after the lease; a second time it changes nothing, and never takes it from the successor."""
        one, two, three = make_elector(), make_elector(), make_elector()
        first = await self.elected(one, "a")
        waiting = asyncio.ensure_future(self.elected(two, "b", ttl_s=self.ttl_s))
        await asyncio.sleep(self.ttl_s / 2)
        assert not waiting.done()
        await one.resign(first)
        second = await asyncio.wait_for(waiting, LONG_S / 2)
        assert second.number > first.number
        await one.resign(first)
        await self.held(three, "c")
        assert isinstance(await two.renew(second), Renewed)
        await two.resign(second)

    async def test_a_transfer(self, make_elector: MakeElector) -> None:
        """For one lease only the named node is elected; if it does not come, the others are."""
        one, two, three = make_elector(), make_elector(), make_elector()
        first = await self.elected(one, "a", ttl_s=LONG_S)
        await one.transfer(first, "c")
        assert isinstance(await one.renew(first), Lost)
        assert await two.observe("s") is None
        for elector, node in ((one, "a"), (two, "b"), (make_elector(), "d")):
            await self.held(elector, node)
        second = await self.elected(three, "c", ttl_s=self.ttl_s)
        assert second.number > first.number
        await three.transfer(second, "nobody")
        await self.held(two, "b")
        third = await self.elected(two, "b")
        assert third.number > second.number
        await one.transfer(first, "c")  # over long ago: nothing happens
        assert isinstance(await two.renew(third), Renewed)
        await two.resign(third)

    async def test_observing(self, make_elector: MakeElector) -> None:
        """Nobody, then a leader that is alive, then nobody; the observer holds nothing itself."""
        one, two = make_elector(), make_elector()
        assert await two.observe("s") is None
        term = await self.elected(one, "a", ttl_s=self.ttl_s)
        watching = asyncio.ensure_future(two.observe("s"))
        while not watching.done():
            assert isinstance(await one.renew(term), Renewed)
            await asyncio.sleep(self.ttl_s / 10)
        leader = await watching
        assert leader is not None
        assert (leader.scope, leader.node, leader.term, leader.alive) == ("s", "a", term.number, True)
        await one.resign(term)
        assert await two.observe("s") is None

    async def test_a_silent_leader(self, make_elector: MakeElector) -> None:
        """One that does not renew is not alive; where leases expire, the next takes over, and it has lost."""
        one, two = make_elector(), make_elector()
        term = await self.elected(one, "a", ttl_s=self.ttl_s)
        await asyncio.sleep(1.5 * self.ttl_s)
        leader = await two.observe("s")
        assert leader is None or not leader.alive
        if "expires" in self.lacks:
            found = await self.held(two, "b", timeout_s=2 * self.ttl_s)
            assert found.leader is not None and not found.leader.alive
            assert isinstance(await one.renew(term), Renewed)
            await one.resign(term)
            return
        second = await self.elected(two, "b")
        assert second.number > term.number
        assert isinstance(await one.renew(term), Lost)
        await two.resign(second)

    async def test_scopes_are_independent(self, make_elector: MakeElector) -> None:
        """Names that look alike are different scopes, each with terms of its own."""
        one, two = make_elector(), make_elector()
        scopes = ("s", "S", "s ", "s/t", "../s", "ü")
        terms = [await self.elected(one if n % 2 else two, "a", scope) for n, scope in enumerate(scopes)]
        assert len({term.number for term in terms}) == 1
        for number, term in enumerate(terms):
            await self.held(two if number % 2 else one, "b", term.scope)
            await (one if number % 2 else two).resign(term)

    async def test_names_and_leases_are_checked(self, make_elector: MakeElector) -> None:
        elector = make_elector()
        for scope, node, ttl_s in (("", "a", 1.0), ("s", "", 1.0), ("s", "a\n", 1.0), ("s", "a", 0.0), ("s", "a", 1e9)):
            await _raises(ConfigError, elector.campaign(scope, node, ttl_s=ttl_s, timeout_s=0))

    async def test_a_killed_leader_is_followed(self, make_elector: MakeElector) -> None:
        """kill -9 of a leader that renews: held while it lives, the next term once it is dead."""
        if "processes" in self.lacks:
            return
        elector = make_elector()
        child = self.lead_in_child(elector, "s", "child")
        try:
            assert child.stdout is not None
            number = int(await asyncio.to_thread(child.stdout.readline))
            found = await self.held(elector, "b", timeout_s=2 * self.ttl_s)
            assert found.leader is not None
            assert (found.leader.node, found.leader.term) == ("child", number)
            child.kill()
            term = await self.elected(elector, "b", ttl_s=self.ttl_s)
            assert term.number > number
            await elector.resign(term)
        finally:
            child.kill()
            await asyncio.to_thread(child.wait)
            if child.stdout is not None:
                child.stdout.close()
