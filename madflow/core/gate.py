"""The gate: whether a proposal may become effects, and if not, every reason why.

A file is only a *request*. What it asks for is looked up in the ledger, and everything that decides comes from there:
ballots, panel, rule and plan as the ledger's events fold to *now* (`Known`), never a stored result and never the file.
The gate counts the ballots itself, under the proposal's rule and under the policy's. Approval then grants entry
and nothing more: each step must be allowed by the policy, and what it expects of the tree must still be so (`Facts`).

    request    is the file what the ledger has?     unknown_proposal schema digest_mismatch edited votes_differ …
    ledger     does the ledger agree with itself?   ledger_differs superseded …
    decision   was it approved, by enough, lately?  open undecided rejected no_quorum policy_rule expired too_old …
    plan       may every step happen, here and now? no_policy …_not_allowed protected unpinned changed_since …

The gate is pure: time, paths and hashes are facts that it is given. It looks once, before the first effect; each effect
looks again beneath a directory descriptor when it happens. Nothing is admitted for lack of a fact: a path nobody looked
at is refused. All reasons are given at once, in this order and the plan's, at most `REASONS_MAX`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ..errors import MadflowError, PlanError
from .ballots import BallotBox
from .canonical import digest
from .config import changes
from .permits import denials, suggestion, unsafe
from .plan import (
    ABSENT,
    LEDGER_DATABASE,
    STEPS_MAX,
    TRANSACTION_MS_MAX,
    CallStep,
    CommandStep,
    EffectClass,
    PatchStep,
    ReadStep,
    SqlStep,
    Step,
    TestStep,
    WriteStep,
    effect_class,
    parse_step,
    step_paths,
)
from .policy import Policy
from .proposal import STOP_CONDITION_KINDS, check_digests
from .quorum import quorum
from .rules import decide, parse_rule
from .verdict import Admitted, Facts, Known, PathFact, Reason, Rejected, Request, Verdict

__all__ = [
    "CREATED_SKEW_MS",
    "REASONS_MAX",
    "Admitted",
    "Facts",
    "Known",
    "PathFact",
    "Reason",
    "Rejected",
    "Request",
    "Verdict",
    "admit",
    "request_reasons",
]

REASONS_MAX: Final = 100
MESSAGE_CHARS_MAX: Final = 6_000
CREATED_SKEW_MS: Final = 300_000
"""How far ahead of the submitter's clock a proposal's creation may lie: two machines' clocks differ."""

_LISTED_MAX: Final = 5
_CODES: Final = {"votes": "votes_differ", "decision": "decision_differs"}
_NO_BALLOT_ROLES: Final = frozenset({"judge", "mediator"})
_MOTION: Final = ("approve", "reject")


def admit(
    request: Request,
    known: Known | None,
    policy: Policy,
    facts: Facts,
    registered: Mapping[str, EffectClass],
) -> Verdict:
    """Judge one request.

    Args:
        known: what the ledger knows of `request.proposal_id`; None where it knows nothing.
        registered: the app's own steps, by name, with their effect class.
    """
    reasons = list(_request_reasons(request, known, facts))
    if known is not None:
        reasons += _ledger_reasons(request, known)
    body = known.body if known is not None else None
    if known is None or body is None or _unverified(body):
        if known is not None and known.open:
            reasons.append(_still_open(known))
        return Rejected(request.proposal_id, "", policy.digest(), _bounded(reasons or [_no_proposal(request)]))
    parsed, unreadable = _parsed(body)
    reasons += _decision_reasons(known, body, policy, facts)
    reasons += _condition_reasons(request, body)
    reasons += unreadable
    reasons += _plan_reasons(parsed, known.proposer_role, policy, facts, registered)
    if reasons:
        return Rejected(known.proposal_id, str(body["digest"]), policy.digest(), _bounded(reasons))
    steps = tuple(step for _, step in parsed)
    return Admitted(
        proposal_id=known.proposal_id,
        proposal_digest=str(body["digest"]),
        policy_digest=policy.digest(),
        plan=tuple(body["plan"]),
        steps=steps,
        classes=tuple(effect_class(step, policy, registered) for step in steps),
        proposer=str(body["proposer"]),
        proposer_role=known.proposer_role,
        task_id=str(body["task_id"]),
    )


def request_reasons(request: Request, known: Known | None, facts: Facts) -> tuple[Reason, ...]:
    """What is wrong with the request itself: the part of `admit` that reads the caller's file."""
    return _bounded(list(_request_reasons(request, known, facts)))


def _still_open(known: Known) -> Reason:
    return Reason("open", f"{known.proposal_id!r} is still being decided; wait for the last ballots, or its expiry")


def _no_proposal(request: Request) -> Reason:
    return Reason("ledger_differs", f"the ledger's records of {request.proposal_id[:120]!r} give no proposal")


def _bounded(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    distinct = list(dict.fromkeys(reasons))
    if len(distinct) > REASONS_MAX:
        more = len(distinct) - REASONS_MAX + 1
        distinct[REASONS_MAX - 1 :] = [Reason("more", f"and {more} further reasons; settle these first")]
    return tuple(Reason(r.code, _cut(r.message), r.step) for r in distinct)


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARS_MAX else text[: MESSAGE_CHARS_MAX - 1] + "…"


# --- the request ------------------------------------------------------------------------------------------------


def _request_reasons(request: Request, known: Known | None, facts: Facts) -> Iterator[Reason]:
    file = request.file
    if file is not None:
        yield from _file_reasons(file)
    if known is None:
        yield Reason(
            "unknown_proposal",
            f"{facts.ledger} knows no proposal {request.proposal_id[:120]!r}; is it another ledger's? name that one",
        )
    elif isinstance(file, Mapping) and known.body is not None:
        yield from _differences(file, known.body)


def _file_reasons(file: Any) -> Iterator[Reason]:
    if not isinstance(file, Mapping):
        yield Reason("schema", f"a proposal file holds one JSON object, this a {type(file).__name__}")
        return
    for problem in _unverified(file):
        code = "schema" if problem.startswith("schema") else "digest_mismatch"
        yield Reason(code, f"the file does not verify: {problem[:500]}")


def _unverified(data: Mapping[str, Any]) -> list[str]:
    try:
        return check_digests(data)
    except MadflowError as error:
        return [f"schema: {error}"]


def _differences(file: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[Reason]:
    """Where the file says something else than the ledger; `usage` is in no digest, and nobody reads it."""
    apart = ("votes", "decision", "subject_digest", "digest", "usage")
    edited = [name for name in body if name not in apart and not _same(file.get(name), body[name])]
    differ = [name for name in ("votes", "decision") if not _same(file.get(name), body[name])]
    if edited:
        yield Reason("edited", f"the file is not what was voted on: {_first_changes(file, body, edited)}")
    for name in differ:
        yield Reason(_CODES[name], f"the file's {name} differ from the ledger's: {_first_changes(file, body, [name])}")
    if not edited and file.get("subject_digest") != body["subject_digest"]:
        yield Reason("digest_mismatch", "the file's subject_digest is not that of what was voted on")
    if not edited and not differ and file.get("digest") != body["digest"]:
        yield Reason("digest_mismatch", "the file's digest is not that of what the ledger knows")


def _same(one: Any, other: Any) -> bool:
    try:
        return digest(one) == digest(other)
    except MadflowError:
        return False


def _first_changes(file: Mapping[str, Any], body: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first places in which the two differ, ledger first."""
    strange = [name for name in names if not _same(file.get(name), file.get(name))]
    if strange:
        return f"{', '.join(strange)}: not data that JSON can hold"
    found = changes({name: _keyed(body[name]) for name in names}, {name: _keyed(file.get(name)) for name in names})
    more = f"; and {len(found) - _LISTED_MAX} more" if len(found) > _LISTED_MAX else ""
    return "; ".join(item[:300] for item in found[:_LISTED_MAX]) + more + " (ledger → file)"


def _keyed(value: Any) -> Any:
    """Lists as mappings by index, so that a difference is named by its place."""
    if isinstance(value, Mapping):
        return {str(key): _keyed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return {f"{index:03d}": _keyed(item) for index, item in enumerate(value)}
    return value


def _ledger_reasons(request: Request, known: Known) -> Iterator[Reason]:
    yield from known.problems
    body = known.body
    if known.proposal_id != request.proposal_id:
        yield Reason(
            "superseded", f"{request.proposal_id[:120]!r} was superseded by {known.proposal_id!r}; commit that one"
        )
    if body is None:
        return
    if known.stored_digest is not None and body["digest"] != known.stored_digest:
        yield Reason(
            "ledger_differs",
            f"the recorded events give digest {str(body['digest'])[:12]}…, the ledger's record of the landing says "
            f"{known.stored_digest[:12]}…; run `madflow ledger verify`",
        )
    for problem in _unverified(body):
        yield Reason("ledger_differs", f"what the ledger's events give does not verify: {problem[:500]}")


# --- the decision -----------------------------------------------------------------------------------------------


def _decision_reasons(known: Known, body: Mapping[str, Any], policy: Policy, facts: Facts) -> Iterator[Reason]:
    if known.open:
        yield _still_open(known)
    else:
        yield from _approval_reasons(body, policy)
    yield from _freshness_reasons(known, policy, facts.now_ms)
    if body["protocol"] == "answer":
        yield Reason("nothing_to_commit", "an answer is an opinion: it has no plan to carry out")
    elif not body["plan"]:
        yield Reason("nothing_to_commit", "the proposal's plan is empty")


def _box(body: Mapping[str, Any]) -> BallotBox:
    """The ballots of the proposal, put into a box of the seats that hold one."""
    seats = {seat["agent"]: seat["weight"] for seat in body["panel"] if seat["role"] not in _NO_BALLOT_ROLES}
    box = BallotBox.open(body["subject_digest"], _MOTION, seats)
    for vote in body["votes"]:
        agent, said = vote["agent"], vote["decision"]
        if said in _MOTION:
            box = box.cast(agent, (said,), subject=body["subject_digest"])[0]
        elif said == "abstain":
            box = box.abstain(agent)
        elif said == "missing":
            box = box.miss(agent, "missing")
        else:
            box = box.spoil(agent, "invalid")
    return box.close("missing")


def _approval_reasons(body: Mapping[str, Any], policy: Policy) -> Iterator[Reason]:
    decision = body["decision"]
    result, by = decision["result"], str(decision["decided_by"])
    if result != "approved":
        code = {"rejected": "rejected", "quorum_failed": "no_quorum"}.get(result, "undecided")
        yield Reason(code, f"the proposal was not approved: {result} ({decision['stop_reason']})")
    if result != "approved" or body["protocol"] == "answer":
        return
    box = _box(body)
    tally = box.tally()
    needed = max(int(decision["quorum"]), quorum(tally.eligible_weight))
    if tally.valid_weight < needed:
        yield Reason(
            "no_quorum", f"valid ballots weigh {tally.valid_weight} of {tally.eligible_weight}, needed are {needed}"
        )
    own = decide(parse_rule(body["rule"]), box, quorum=decision["quorum"], tie=decision["tie"])
    if own.result != ("approved" if by == "ballots" else "no_decision"):
        yield Reason(
            "not_approved", f"the ballots give {own.result} under {body['rule']}, decided by {by[:80]}: {_count(box)}"
        )
    yield from _panel_reasons(box, body, policy)


def _panel_reasons(box: BallotBox, body: Mapping[str, Any], policy: Policy) -> Iterator[Reason]:
    """What the policy's [admit] asks of the panel beside the proposal's own rule."""
    wanted, tally = policy.admit, box.tally()
    if wanted.rule is not None:
        rule = parse_rule(wanted.rule)
        outcome = decide(rule, box, quorum=max(body["decision"]["quorum"], quorum(tally.eligible_weight)))
        if outcome.result != "approved":
            yield Reason(
                "policy_rule",
                f"the policy asks for {wanted.rule}, under which the ballots give {outcome.result}: {_count(box)}; "
                f"put it to the vote under that rule",
            )
        if absent := sorted(set(rule.holders) - set(box.entries)):
            yield Reason(
                "policy_rule", f"the policy gives a veto to seats that were not asked: {', '.join(absent)}"[:400]
            )
    if tally.eligible < wanted.min_eligible:
        yield Reason(
            "too_few_seats",
            f"the policy asks for {wanted.min_eligible} eligible seats, this panel has {tally.eligible}",
        )
    approving = {entry.agent for entry in box.seats if entry.status == "valid" and entry.choices[0] == "approve"}
    families = sorted({seat["family"] for seat in body["panel"] if seat["agent"] in approving})
    if len(families) < wanted.min_families:
        named = ", ".join(families)[:200] or "none"
        yield Reason(
            "too_few_families",
            f"the policy asks for {wanted.min_families} model families among the seats that approve, there are "
            f"{len(families)}: {named}",
        )


def _count(box: BallotBox) -> str:
    first, tally = box.tally().first, box.tally()
    return f"{first['approve']} approve, {first['reject']} reject, of {tally.eligible_weight} eligible weight"


def _freshness_reasons(known: Known, policy: Policy, now_ms: int) -> Iterator[Reason]:
    age_ms, most = now_ms - known.created_ms, policy.admit.max_age_s
    if now_ms >= known.expires_ms:
        yield Reason(
            "expired", f"the proposal expired {(now_ms - known.expires_ms) // 1000} s ago; put it to the vote again"
        )
    if most is not None and age_ms > most * 1000:
        yield Reason(
            "too_old", f"the proposal is {age_ms // 1000} s old, the policy's max_age_s is {most}; decide it again"
        )
    if age_ms < -CREATED_SKEW_MS:
        yield Reason(
            "created_in_future",
            f"the proposal was created {-age_ms // 1000} s ahead of this clock, {CREATED_SKEW_MS // 1000} s are "
            "tolerated; set the clock right",
        )


def _condition_reasons(request: Request, body: Mapping[str, Any]) -> Iterator[Reason]:
    """The stop conditions that hold before anything has happened; the others are the submitter's while it works."""
    decision = body["decision"]
    kinds = [str(condition["kind"]) for condition in body["stop_conditions"]]
    for kind in dict.fromkeys(kinds):
        if kind not in STOP_CONDITION_KINDS:
            known = ", ".join(STOP_CONDITION_KINDS)
            yield Reason("unknown_stop_condition", f"nobody knows when to stop on {kind[:80]!r}; known: {known}")
    if "human" in kinds and not str(decision["decided_by"]).startswith("human:") and not request.confirmed_by:
        yield Reason("needs_human", "the proposal stops for a human, and none decided it; confirm this commit by name")
    if "budget_exceeded" in kinds and decision["stop_reason"] == "budget_exceeded":
        yield Reason("budget_exceeded", "the proposal is void where its debate ran out of budget, and it did")


# --- the plan ---------------------------------------------------------------------------------------------------


def _parsed(body: Mapping[str, Any]) -> tuple[list[tuple[int, Step]], list[Reason]]:
    """The steps that can be read, by index, and why the others cannot."""
    plan, steps, problems = body["plan"], [], []
    if len(plan) > STEPS_MAX:
        return [], [Reason("bad_plan", f"the plan has {len(plan)} steps, the limit is {STEPS_MAX}; split it")]
    for index, data in enumerate(plan):
        try:
            steps.append((index, parse_step(data, index)))
        except PlanError as error:
            problems.append(Reason("bad_step", str(error), index))
    return steps, problems


def _plan_reasons(
    steps: Sequence[tuple[int, Step]], role: str, policy: Policy, facts: Facts, registered: Mapping[str, EffectClass]
) -> Iterator[Reason]:
    if not facts.has_policy and steps:
        entries = suggestion([step for _, step in steps])
        yield Reason(
            "no_policy",
            f"there is no policy at {facts.policy_file}, so everything is denied; to allow just this plan, write "
            f"there:\n{entries}",
        )
    touched: set[str] = set()
    for index, step in steps:
        found = [*unsafe(step, facts.protected, policy.databases)]
        if facts.has_policy:
            found += denials(step, role, policy)
        found += _step_problems(step, policy, registered)
        found += _fact_problems(step, policy, facts, touched)
        yield from (Reason(code, f"step {index} ({step.step}): {message}", index) for code, message in found)


def _step_problems(step: Step, policy: Policy, registered: Mapping[str, EffectClass]) -> Iterator[tuple[str, str]]:
    most_ms = policy.time.commit_s * 1000
    if step.timeout_ms is not None and step.timeout_ms > most_ms:
        yield "timeout_too_long", f"timeout_ms is {step.timeout_ms}, a whole commit takes at most {most_ms} ms"
    if isinstance(step, CallStep) and step.name not in registered:
        known = ", ".join(sorted(registered))[:300] or "none"
        yield "unregistered", f"no step {step.name!r} is registered here; registered: {known}"
    elif (step.timeout_ms or 0) > TRANSACTION_MS_MAX and effect_class(step, policy, registered) == "transactional":
        why = f"a step in the ledger's own transaction has at most {TRANSACTION_MS_MAX} ms: all others wait for it"
        yield "timeout_too_long", f"timeout_ms is {step.timeout_ms}, and {why}"
    if isinstance(step, SqlStep):
        name = step.target.removeprefix("db:")
        if name != LEDGER_DATABASE and name not in policy.databases:
            yield "unknown_database", f"the policy's [databases] has no {name!r}; name its file there"


def _fact_problems(step: Step, policy: Policy, facts: Facts, touched: set[str]) -> Iterator[tuple[str, str]]:
    """What the tree says against the step. `touched`: what earlier steps write, which is grown here."""
    folder = isinstance(step, CommandStep | TestStep)
    for path in step_paths(step):
        fact = (facts.folders if folder else facts.paths).get(path)
        if fact is None:
            yield "no_fact", f"nobody looked at {path[:200]!r}; gather the facts of this plan"
        elif fact.problem:
            yield "path_refused", f"{path[:200]!r}: {fact.problem[:300]}"
        elif isinstance(step, ReadStep | WriteStep | PatchStep) and path not in touched:
            yield from _pin_problems(step, path, fact)
    if isinstance(step, SqlStep) and (name := step.target.removeprefix("db:")) in policy.databases:
        fact = facts.paths.get(policy.databases[name])
        if fact is None or fact.problem:
            why = fact.problem[:300] if fact else "nobody looked at it"
            yield "path_refused", f"database {name!r}, {policy.databases[name][:200]!r}: {why}"
    if isinstance(step, WriteStep | PatchStep):
        touched.update(step_paths(step))


def _pin_problems(step: ReadStep | WriteStep | PatchStep, path: str, fact: PathFact) -> Iterator[tuple[str, str]]:
    """Whether the file is still what it was when the plan was frozen; later steps on it build on this one."""
    there = fact.sha256 if fact.exists else ABSENT
    if isinstance(step, ReadStep):
        expected = step.sha256
        if expected is None and not fact.exists:
            yield "missing", f"{path[:200]!r} is not there"
    else:
        expected = step.sha256_before
        if expected is None and isinstance(step, WriteStep):
            yield (
                "unpinned",
                f"it would overwrite whatever {path[:200]!r} holds; freeze the plan against a tree (--root)",
            )
    if expected is not None and expected != there:
        yield (
            "changed_since",
            f"{path[:200]!r} is {str(there)[:12]}… now, the plan expects {expected[:12]}…; decide again on this tree",
        )
