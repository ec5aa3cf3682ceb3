"""The gate as a submitter uses it: what the ledger knows, what the tree says now, the policy of this term."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..core.gate import Facts, Reason, Rejected, Request, Verdict, admit, request_reasons
from ..core.policy import Policy
from ..core.proposal import Proposal
from ..errors import LedgerCorrupt, PolicyError, UnknownProposal, UsageError
from ..ports import Clock, FencedLedger
from .binding import bound_scope
from .facts import gather_facts, protected_paths
from .known import known_proposal, list_known
from .policy_file import load_policy
from .requests import CommitRequest
from .steps import Step

LISTED_MAX: Final = 5
LOOK_S: Final = 1.0

__all__ = ["Asked", "Gatekeeper", "proposal_of"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A proposal as a caller names it, and what is wrong with the data it was given by."""

    proposal_id: str
    refusals: tuple[Mapping[str, Any], ...] = ()


def proposal_of(ledger: FencedLedger, proposal: Proposal | Mapping[str, Any] | str, clock: Clock) -> Asked:
    """Which proposal is meant. Data is compared with what the ledger knows; only its id is used of it.

    Raises:
        UsageError: the data names no proposal, or the ledger has none of this id.
    """
    if isinstance(proposal, str):
        return Asked(_known_id(ledger, proposal, clock))
    data = proposal.to_json() if isinstance(proposal, Proposal) else proposal
    request = Request.of_file(data)
    if not request.proposal_id:
        raise UsageError(
            "the data names no proposal: it needs a proposal_id; give what a debate, propose or check wrote"
        )
    now_ms = clock.now_ms()
    known = known_proposal(ledger, request.proposal_id, now_ms=now_ms)
    if known is None:
        return Asked(request.proposal_id)
    found = request_reasons(request, known, Facts(now_ms))
    return Asked(known.proposal_id, tuple(reason.to_json() for reason in found))


def _known_id(ledger: FencedLedger, proposal_id: str, clock: Clock) -> str:
    try:
        known = known_proposal(ledger, proposal_id, now_ms=clock.now_ms())
    except LedgerCorrupt:
        return proposal_id  # it is there; what is wrong with it is the gate's to say
    if known is None:
        latest = [listed.proposal_id for listed in list_known(ledger)][-LISTED_MAX:]
        place = str(getattr(ledger, "path", "this ledger"))
        raise UnknownProposal(
            f"{place} has no proposal {proposal_id[:120]!r}; the latest it has: {', '.join(latest) or 'none'}"
        )
    return proposal_id


class Gatekeeper:
    """Judges proposals: the policy, the tree and the ledger are looked at each time.

    Args:
        policy: a policy, the path of a policy file, or None for `<root>/policy.toml`.
        steps: the app's own, by name.
        scope: whose gate it is; a proposal that another scope has is refused. Empty: any.

    Raises:
        PolicyError: the policy file cannot be used.
    """

    def __init__(
        self,
        ledger: FencedLedger,
        root: Path,
        policy: Policy | str | Path | None,
        *,
        steps: Mapping[str, Step],
        clock: Clock,
        scope: str = "",
    ) -> None:
        self._scope = scope
        self._ledger, self._root, self._steps, self._clock = ledger, root, steps, clock
        self._given = policy
        self.policy: Policy
        self._policy_file: Path | None = None
        self._load()
        self._bodies: dict[str, Mapping[str, Any]] = {}
        self._scanned = 1
        self._candidates: list[str] = []
        self._ready: list[str] = []
        self._look_again = 0.0

    def _load(self) -> None:
        if isinstance(self._given, Policy):
            self.policy = self._given
        else:
            self.policy, self._policy_file = load_policy(self._given, self._root)

    @property
    def protected(self) -> frozenset[str]:
        """Paths beneath the root that no effect writes: the policy file and the ledger's folder."""
        return frozenset(protected_paths(self._root, self._ledger, self._policy_file))

    def ask(self, request: CommitRequest) -> Verdict:
        """Whether the proposal may be committed now, under the policy as it is now; with the reasons its caller found,
        all at once. A policy file that cannot be used (any more) allows nothing."""
        try:
            self._load()
        except PolicyError as error:
            reason = Reason("bad_policy", str(error))
            return Rejected(request.proposal_id, "", self.policy.digest(), (reason,))
        holder = bound_scope(self._ledger, request.proposal_id)
        if self._scope and holder not in ("", self._scope):
            return self.elsewhere(request, holder)
        now_ms = self._clock.now_ms()
        try:
            known = known_proposal(self._ledger, request.proposal_id, now_ms=now_ms)
        except LedgerCorrupt as error:
            reason = Reason("ledger_differs", str(error))
            return Rejected(request.proposal_id, "", self.policy.digest(), (reason,))
        plan = (known.body or {}).get("plan") or () if known else ()
        facts = gather_facts(
            plan,
            self._root,
            self.policy,
            now_ms=now_ms,
            protected=self.protected,
            policy_file=self._policy_file,
            ledger=str(getattr(self._ledger, "path", "this ledger")),
        )
        classes = {name: step.effect_class for name, step in self._steps.items()}
        wanted = Request(request.proposal_id, None, request.confirmed_by)
        verdict = admit(wanted, known, self.policy, facts, classes)
        found = tuple(Reason(str(r["code"]), str(r["message"]), r.get("step")) for r in request.refusals)
        if found:
            own = verdict.reasons if isinstance(verdict, Rejected) else ()
            reasons = tuple(dict.fromkeys((*found, *own)))
            return Rejected(verdict.proposal_id, verdict.proposal_digest, verdict.policy_digest, reasons)
        return verdict

    def elsewhere(self, request: CommitRequest, holder: str) -> Rejected:
        """The refusal of a proposal that another scope has."""
        reason = Reason("other_scope", f"the proposal belongs to scope {holder!r}, which commits it once; ask that one")
        return Rejected(request.proposal_id, "", self.policy.digest(), (reason,))

    def body_of(self, proposal_id: str) -> Mapping[str, Any] | None:
        """The proposal as the ledger knows it; None where it knows none. What has been decided is read once."""
        if proposal_id not in self._bodies:
            known = known_proposal(self._ledger, proposal_id, now_ms=self._clock.now_ms())
            if known is None or known.body is None or known.open:
                return known.body if known else None
            self._bodies[proposal_id] = known.body
        return self._bodies[proposal_id]

    def approved(self) -> list[str]:
        """Every proposal that is approved and has a plan, oldest first; a worker commits them without being asked.

        The ledger is looked at once a second at most.
        """
        now = self._clock.monotonic()
        if now >= self._look_again:
            self._look_again = now + LOOK_S
            self._look()
        return self._ready

    def _look(self) -> None:
        for listed in list_known(self._ledger, self._scanned):
            self._scanned = listed.seq + 1
            self._candidates.append(listed.proposal_id)
        for name in list(self._candidates):
            try:
                known = known_proposal(self._ledger, name, now_ms=self._clock.now_ms())
            except LedgerCorrupt:
                known = None  # nobody asked for it; `madflow ledger verify` names it
            if known is not None and known.open and not known.problems:
                continue
            self._candidates.remove(name)
            if bound_scope(self._ledger, name) not in ("", self._scope):
                continue
            body = known.body if known is not None else None
            if body is not None and body["decision"]["result"] == "approved" and body["plan"]:
                self._ready.append(name)
