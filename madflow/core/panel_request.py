"""What a panel is asked to vote on, as somebody writes it: a plan.json from elsewhere, and a panel in one line.

Only `plan` must be there. Everything is checked before anything is recorded, and what is not understood is refused by
name: a key that is ignored would be a promise that nobody keeps. What the file says of itself is not believed either:
evidence is not verified because the file says so.

A panel is `NAME[:WEIGHT][@FAMILY]` for each seat, e.g. `ann:2,bob,ci@scripts`. The family is what a policy's
`min_families` counts; seats that name none share the family "unstated", so that they never add to a diversity nobody
vouched for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator

from ..errors import ConfigError, PlanError
from .canonical import canonical, digest
from .messages import Evidence, Frozen
from .panel import DEBATES_PROPOSAL, SEATS_MAX
from .plan import parse_plan
from .proposal import PROPOSAL_SCHEMA, RISK_KINDS, STOP_CONDITION_KINDS, PanelMember, subject_digest
from .protocols.subject import rfc3339
from .quorum import quorum
from .rules import parse_rule

__all__ = [
    "EXPIRES_S_MAX",
    "PlanFile",
    "check_agent",
    "check_proposal_id",
    "panel_subject",
    "parse_panel",
    "parse_plan_file",
]

EXPIRES_S_MAX: Final = 366 * 86_400
FAMILY_UNSTATED: Final = "unstated"
ROLE: Final = "voter"
CONTENT_BYTES_MAX: Final = 256 * 1024
_WEIGHT_MAX: Final = 1_000_000
_AGENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}", re.ASCII)
_PROPOSAL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}", re.ASCII)
_MEMBER: Final = re.compile(r"([^:@]*)(?::([0-9]{1,7}))?(?:@([A-Za-z0-9][A-Za-z0-9_.\-]{0,99}))?", re.ASCII)

_Text = Annotated[str, StringConstraints(max_length=2_000)]


class _Risk(Frozen):
    kind: Annotated[str, Field(max_length=100)]
    note: _Text = ""

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in RISK_KINDS:
            raise ValueError(f"{value[:60]!r} is no kind of risk; use one of {', '.join(RISK_KINDS)}")
        return value


class _StopCondition(Frozen):
    kind: Annotated[str, Field(max_length=100)]
    note: _Text = ""

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in STOP_CONDITION_KINDS:
            raise ValueError(f"{value[:60]!r} is no stop condition; use one of {', '.join(STOP_CONDITION_KINDS)}")
        return value


class _Evidence(Frozen):
    """As in `Evidence`, but nobody vouches for itself: an id or `verified` in the file is not taken over."""

    id: str = Field(default="", max_length=200)
    kind: Literal["file", "diff", "url", "tool", "note"]
    ref: Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
    quote: _Text = ""
    verified: bool | None = None


class PlanFile(Frozen):
    """A plan.json: `plan`, and what may stand beside it. Make it with `parse_plan_file`."""

    plan: tuple[dict[str, Any], ...]
    task_id: str = Field(default="", max_length=200)
    summary: Annotated[str, StringConstraints(max_length=4_000)] = ""
    content: dict[str, Any] = Field(default_factory=dict)
    risks: tuple[_Risk, ...] = Field(default=(), max_length=100)
    evidence: tuple[_Evidence, ...] = Field(default=(), max_length=200)
    stop_conditions: tuple[_StopCondition, ...] = Field(default=(), max_length=100)

    def claims(self) -> tuple[Evidence, ...]:
        """The evidence, numbered, nothing of it verified yet."""
        return tuple(
            Evidence(id=f"E{number}", kind=item.kind, ref=item.ref, quote=item.quote)
            for number, item in enumerate(self.evidence, start=1)
        )


def parse_plan_file(data: object) -> PlanFile:
    """Check a plan.json that was read from anywhere.

    Raises:
        PlanError: it is no object, has an unknown key (the known ones are named), a wrong value, an unusable step, or
            content of more than 256 KiB.
    """
    known = ", ".join(PlanFile.model_fields)
    if not isinstance(data, Mapping):
        raise PlanError(
            f'a plan file is an object like {{"plan": […]}}, not {_kind(data)}; its keys: {known}', step=None
        )
    unknown = [str(key)[:40] for key in data if key not in PlanFile.model_fields]
    if unknown:
        raise PlanError(f"a plan file has no key {', '.join(unknown[:5])!r}; its keys: {known}", step=None)
    if not isinstance(data.get("plan"), list) or not all(isinstance(step, Mapping) for step in data["plan"]):
        raise PlanError('a plan file has a list of steps: {"plan": [{"step": "read", …}]}', step=None)
    parse_plan(data["plan"])
    try:
        made = PlanFile.model_validate(data)
        size = len(canonical(made.content))
        canonical(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PlanError(f"plan file: {where}: {first['msg'].removeprefix('Value error, ')}", step=None) from error
    except ConfigError as error:
        raise PlanError(f"plan file: {error}", step=None) from error
    if "supersedes" in made.content:
        raise PlanError("plan file: content.supersedes is filled in by resolve-conflict; leave it out", step=None)
    if size > CONTENT_BYTES_MAX:
        raise PlanError(f"plan file: content has {size} bytes, the limit is {CONTENT_BYTES_MAX}; shorten it", step=None)
    return made


def parse_panel(members: str | Sequence[str]) -> tuple[PanelMember, ...]:
    """Read a panel: `NAME[:WEIGHT][@FAMILY]`, separated by commas or as a sequence; sorted by name.

    Raises:
        ConfigError: no seat or more than 64, a name that is none, a weight outside 1 … 1,000,000, a name given twice.
    """
    given = members.split(",") if isinstance(members, str) else list(members)
    texts = [text.strip() for text in given]
    if not any(texts):
        raise ConfigError("a panel needs at least one seat; name them, e.g. ann,bob:2,ci@scripts")
    if len(texts) > SEATS_MAX:
        raise ConfigError(f"a panel has at most {SEATS_MAX} seats (seats={len(texts)}); name fewer")
    seats: dict[str, PanelMember] = {}
    for text in texts:
        found = _MEMBER.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"the seat {text[:80]!r} is not NAME[:WEIGHT][@FAMILY]; write e.g. ann, ann:2 or ci@scripts"
            )
        agent, weight = check_agent(found[1]), int(found[2] or "1")
        if not 1 <= weight <= _WEIGHT_MAX:
            raise ConfigError(f"the weight of seat {agent!r} is a whole number from 1 to {_WEIGHT_MAX}, not {weight}")
        if agent in seats:
            raise ConfigError(f"the panel names {agent!r} twice; every seat has one ballot, give it a weight instead")
        seats[agent] = PanelMember(agent=agent, role=ROLE, weight=weight, family=found[3] or FAMILY_UNSTATED)
    return tuple(seats[agent] for agent in sorted(seats))


def check_agent(name: str) -> str:
    """`name`, if it can name a seat or a proposer. Raises ConfigError naming what it may hold."""
    if not _AGENT.fullmatch(name):
        raise ConfigError(
            f"{name[:80]!r} cannot name an agent; use letters, digits, _ . - (a letter or digit first), at most 64"
        )
    return name


def check_proposal_id(name: str) -> str:
    """`name`, if it can name a proposal that is put to a panel. Raises ConfigError."""
    if not _PROPOSAL_ID.fullmatch(name) or DEBATES_PROPOSAL.search(name):
        raise ConfigError(
            f"{name[:120]!r} cannot name a proposal; use letters, digits, _ . - (a letter or digit first), at most "
            "100, and no ending like -p1, which names the proposals of debates"
        )
    return name


def panel_subject(
    file: PlanFile,
    *,
    proposal_id: str,
    proposer: str,
    panel: Sequence[PanelMember],
    rule: str,
    evidence: Sequence[Evidence] = (),
    created_ms: int,
    expires_s: int,
    supersedes: str = "",
) -> dict[str, Any]:
    """The subject that the panel votes on, with its digest, as plain JSON data.

    Args:
        file: its plan as it is to be performed, files pinned where a tree was there to pin them to.
        evidence: the file's claims as they were checked; `file.claims()` where nothing checked them.
        supersedes: the proposal whose place this one takes.

    Raises:
        ConfigError: a name, a rule, a veto holder outside of the panel or a time that makes no sense.
    """
    check_proposal_id(proposal_id)
    check_agent(proposer)
    parsed = parse_rule(rule)
    names = {member.agent for member in panel}
    if parsed.needs_judge:
        raise ConfigError(
            f"the rule {rule!r} asks a judge, and a panel has none; use e.g. majority or supermajority:2/3"
        )
    if strangers := sorted(set(parsed.holders) - names):
        raise ConfigError(f"veto holders without a seat: {', '.join(strangers)}; the panel: {', '.join(sorted(names))}")
    if not 1 <= expires_s <= EXPIRES_S_MAX:
        raise ConfigError(f"a proposal expires after 1 s to {EXPIRES_S_MAX} s (366 days), not {expires_s} s")
    quorum(sum(member.weight for member in panel))
    plan = [_written_out(step) for step in file.plan]
    content = {**file.content, **({"summary": file.summary} if file.summary else {})}
    content.setdefault("summary", f"{len(plan)} steps")
    subject: dict[str, Any] = {
        "schema": PROPOSAL_SCHEMA,
        "proposal_id": proposal_id,
        "task_id": file.task_id or digest(plan)[:16],
        "protocol": "proposal",
        "proposer": proposer,
        "content": {**content, **({"supersedes": supersedes} if supersedes else {})},
        "plan": plan,
        "risks": [risk.model_dump(mode="json") for risk in file.risks],
        "evidence": [item.model_dump(mode="json") for item in evidence],
        "stop_conditions": [condition.model_dump(mode="json") for condition in file.stop_conditions],
        "panel": [member.model_dump(mode="json") for member in panel],
        "rule": str(parsed),
        "created_at": rfc3339(created_ms),
        "expires_at": rfc3339(created_ms + expires_s * 1000),
    }
    return {**subject, "subject_digest": subject_digest(subject)}


def _written_out(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step as a proposal's file writes it: `target` and `timeout_ms` always, other fields where they are given."""
    fixed = {"target": step.get("target"), "timeout_ms": step.get("timeout_ms")}
    return {**{key: value for key, value in step.items() if value is not None}, **fixed}


def _kind(data: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(data), "null" if data is None else f"a {type(data).__name__}")
