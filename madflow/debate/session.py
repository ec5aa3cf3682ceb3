"""One running debate: its stream, its clients, its prompts, its clock; what a node of the graph works with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.budget import Amount
from ..core.config import Config
from ..core.proposal import Proposal
from ..core.protocols import protocol_of
from ..core.state import Ask, Stage, State
from ..errors import BudgetExceeded, ConfigError, MadflowError
from ..ports import Clock, Event, ModelClient, ModelRequest, Quote
from .rendering import Renderer
from .stream import DebateStream

__all__ = ["Prepared", "Session", "Verify"]

Verify = Callable[[Config, Ask, Mapping[str, Any]], Mapping[str, Any]]
"""Checks a parsed reply against the world (a tree, a diff); the facts are recorded with the answer. Called in a thread,
for several seats at once."""

_BYTES_PER_TOKEN = 4
_LANDING_FRAMING = 256


@dataclass(frozen=True, slots=True)
class Prepared:
    """One call ready to be made: its request, its worst case, and the bytes that were estimated (0: counted)."""

    ask: Ask
    request: ModelRequest
    amount: Amount
    utf8_bytes: int


class Session:
    """What the graph's nodes share for one debate. Not for several threads.

    Attributes:
        clients: by agent id.
        verify: facts about a reply; None records none.
        tasks: what is waited for now: the calls in flight of the current stage, or a human's word.
        in_flight: how many of the stage's seats have not brought their answer yet.
        first: round 1's calls and their reservations, as the opening made them; proposal: what this process landed.
    """

    def __init__(
        self,
        stream: DebateStream,
        clients: Mapping[str, ModelClient],
        renderer: Renderer,
        clock: Clock,
        verify: Verify | None = None,
    ) -> None:
        self.stream, self.clients, self.renderer, self.clock, self.verify = stream, clients, renderer, clock, verify
        by_client: dict[int, list[str]] = {}
        for agent, client in clients.items():
            by_client.setdefault(id(client), []).append(agent)
        self._sharing = {agent: by_client[id(client)] for agent, client in clients.items()}
        self.tasks: set[asyncio.Task[Any]] = set()
        self.in_flight = 0
        self.cancelled = False
        self.hold = Amount()
        self.first: tuple[list[Prepared], list[str | None]] | None = None
        self.proposal: Proposal | None = None

    @property
    def state(self) -> State:
        return self.stream.state

    @property
    def config(self) -> Config:
        return self.stream.state.config

    def refused(self, agent: str) -> frozenset[str]:
        """What a seat is asked without: the words that it, or a seat with its client, was refused for in this debate.

        Servers of one model's name may differ; who shares a client, shares its server. The record says which seat was
        refused, and each process knows who shares a client in it: a resume whose clients are shared otherwise may ask
        once more for what is refused, and goes without nothing that only another seat's server refused.
        """
        told = self.stream.refused
        return frozenset().union(*(told[seat] for seat in self._sharing[agent] if seat in told))

    def cancel(self) -> None:
        """Stop asking: calls in flight are dropped (and stay charged), and the debate lands as `cancelled`."""
        self.cancelled = True
        self.drop_calls()

    def drop_calls(self) -> None:
        """Cancel the calls in flight."""
        for task in self.tasks:
            task.cancel()

    def prepare(self, stage: Stage, ask: Ask, timeout_s: float) -> Prepared:
        """Render the request of one ask and take its worst case."""
        request = self.renderer.request(self.state, stage, ask, timeout_s)
        return self.price(ask, request)

    def price(self, ask: Ask, request: ModelRequest) -> Prepared:
        """The worst case of a request, by its model's tokenizer or, where none is known, by its bytes."""
        quote = self._quote(ask, request)
        return Prepared(ask, request, *self._amount(request.model, quote, 0))

    def _amount(self, model: str, quote: Quote, growth_tokens: int) -> tuple[Amount, int]:
        counted = 0
        prompt = quote.prompt_tokens + growth_tokens
        if not quote.exact:
            counted = quote.prompt_tokens + growth_tokens * _BYTES_PER_TOKEN
            prompt = self.stream.account.calibration.estimate(model, counted)
        usd = quote.usd_nanos
        if usd and growth_tokens and quote.prompt_tokens:
            grown = quote.prompt_tokens + growth_tokens * (1 if quote.exact else _BYTES_PER_TOKEN)
            usd = -(-usd * grown // quote.prompt_tokens)
        return Amount(prompt, quote.output_tokens, usd, 1), counted

    def _quote(self, ask: Ask, request: ModelRequest) -> Quote:
        try:
            return self.clients[ask.agent].quote(request)
        except MadflowError:
            raise
        except Exception as error:
            raise ConfigError(
                f"agent {ask.agent!r}: its client's quote raised {type(error).__name__}: {error}; nothing can be "
                "reserved without one, so the debate stops here and resumes by its id"
            ) from error

    def landing_hold(self, stage: Stage, prepared: Sequence[Prepared]) -> Amount:
        """What the landing still needs in the worst case after this stage's first attempts: the final vote, unless
        this stage is it, and the configured fallbacks that have not been tried.

        The landing's prompts hold what this stage may add at most: every reply at its full length.
        """
        state = self.state
        ballots = [Ask(voter.agent, "ballot") for voter in state.config.voters]
        asks: list[Ask] = []
        if stage.kind == "mediate" and state.config.protocol == "proposal":
            asks = ballots
        elif state.cut is None and stage.kind != "judge":
            asks = list(protocol_of(state.config).landing_asks(state))
        for role, kind in (("mediator", "mediate"), ("judge", "judge")):
            seat = state.config.seat_of(role)
            if seat is None or role in state.used or not self._may_fall_back(role):
                continue
            asks.append(Ask(seat.agent, kind))
            if role == "mediator" and state.config.protocol == "proposal":
                asks.extend(ballots)
        if not asks:
            return Amount()
        growth = _LANDING_FRAMING + sum(
            # A plan stands in the history and in what is voted on. Code quotes no tokens; its words are still read.
            (item.amount.output_tokens or state.config.seat(item.ask.agent).max_output_tokens)
            * (2 if item.ask.kind in ("draft", "revise", "mediate") else 1)
            for item in prepared
        )
        total = Amount()
        for ask in asks:
            request = self.renderer.request(state, stage, ask, 1.0)
            quote = self._quote(ask, request)
            if quote.prompt_tokens == 0 and quote.output_tokens == 0:
                total += Amount(calls=1)
                continue
            total += self._amount(request.model, quote, growth)[0]
        return total

    def _may_fall_back(self, role: str) -> bool:
        config = self.config
        return role in config.fallback or (role == "judge" and (config.tie == "judge" or config.rule_.needs_judge))

    def over_budget(self, prepared: Sequence[Prepared], hold: Amount) -> BudgetExceeded | None:
        """Why this stage does not fit beside the landing, or None."""
        need = sum((item.amount for item in prepared), Amount())
        return self.stream.account.affordable(need, hold)

    def seconds_left(self, *, landing: bool) -> float:
        """What a stage may still take: all that is left for the landing, else less one call for the landing."""
        limits = self.config.limits
        left = limits.seconds - self.stream.elapsed_ms() / 1000
        if landing or not self._lands_by_vote():
            return left
        return left - min(float(limits.call_seconds), limits.seconds / 2)

    def _lands_by_vote(self) -> bool:
        return bool(protocol_of(self.config).landing_asks(self.state)) or self._may_fall_back("judge")

    async def cut(self, reason: str, numbers: Mapping[str, Any], *, land: bool, unstarted: bool = False) -> None:
        """Record that the debate is ended from outside."""
        payload = {"reason": reason, "numbers": dict(numbers), "land": land, "unstarted": unstarted}
        await self.stream.record(Event("cut", payload))
