"""Crews: a named set of agents and the folder their prompts come from.

A crew is a folder with a `crew.toml`, shipped or the user's own:

    description = "…"
    protocol = "answer"              # answer | proposal | review
    [defaults]                       # each one optional; what is absent is the debate's own default
    rule = "supermajority:2/3"
    rounds = 3
    test = ["pytest", "-q"]          # for a review: what its plan runs last
    [[agents]]
    id = "critic"
    role = "critic"
    model = ""                       # empty: given with --model, dealt round-robin
    persona_file = "critic-focus.md" # or persona = "…"

Every key is known or refused, and every .md in the folder is used or refused: a typo never goes unnoticed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from .core.messages import Agent, AgentId, Frozen
from .core.rules import parse_rule
from .core.stopping import parse_stop
from .core.topology import parse_topology
from .errors import ConfigError
from .prompts import COMMON_STAGES, PROTOCOL_STAGES, ROLES, Prompts, find_prompts, load_prompts, nearest, read_beneath

__all__ = ["AGENTS_MAX", "Crew", "CrewDefaults", "generic_crew", "list_crews", "load_crew"]

AGENTS_MAX = 26
"""Agents in one crew: seats are known by one letter each."""

_CREW_FILE = "crew.toml"
_Protocol = Literal["answer", "proposal", "review"]
_Fallback = Literal["mediator", "judge", "human"]


class CrewDefaults(Frozen):
    """What a crew sets for its debates; None leaves it to the debate's own default."""

    rule: str | None = Field(default=None, min_length=1, max_length=200)
    rounds: int | None = Field(default=None, ge=1, le=50)
    stop: str | None = Field(default=None, min_length=1, max_length=500)
    topology: str | None = Field(default=None, min_length=1, max_length=100)
    fallback: tuple[_Fallback, ...] | None = Field(default=None, max_length=3)
    tie: Literal["none", "judge", "earliest"] | None = None
    test: tuple[Annotated[str, Field(max_length=4_096)], ...] | None = Field(default=None, min_length=1, max_length=100)


class _AgentEntry(Frozen):
    id: AgentId
    role: Literal["debater", "proposer", "critic", "auditor", "judge", "mediator"] = "debater"
    model: str = Field(default="", max_length=200)
    weight: int = Field(default=1, ge=1, le=1_000_000)
    family: str = Field(default="", max_length=100)
    persona: str = Field(default="", max_length=20_000)
    persona_file: str = Field(default="", max_length=200)
    max_output_tokens: int = Field(default=1024, ge=1, le=1_000_000)


class _CrewEntry(Frozen):
    description: str = Field(default="", max_length=500)
    protocol: _Protocol = "answer"
    defaults: CrewDefaults = CrewDefaults()
    agents: tuple[_AgentEntry, ...] = Field(min_length=1, max_length=AGENTS_MAX)


_TABLES: dict[str, type[Frozen]] = {"": _CrewEntry, "defaults": CrewDefaults, "agents": _AgentEntry}


@dataclass(frozen=True, slots=True)
class Crew:
    """A named set of agents and their prompts.

    Attributes:
        agents: in the order of the file; an agent with model "" still needs one.
        protocol: answer | proposal | review, unless the debate names another.
        folder: where role files and stages/ are looked for first.
    """

    name: str
    agents: tuple[Agent, ...]
    protocol: str = "answer"
    defaults: CrewDefaults = field(default_factory=CrewDefaults)
    folder: Path = field(default_factory=lambda: find_prompts() / "generic")
    description: str = ""

    def prompts(self, protocol: str = "") -> Prompts:
        """The texts this crew needs for `protocol` (its own where empty); only roles on the panel are loaded."""
        roles = {agent.role for agent in self.agents}
        return load_prompts(self.folder, protocol or self.protocol, roles=roles, crew=self.name)


def list_crews() -> tuple[str, ...]:
    """Names of the shipped crews, sorted."""
    return tuple(sorted(path.parent.name for path in find_prompts().glob(f"*/{_CREW_FILE}")))


def load_crew(name_or_dir: str | Path, *, models: Sequence[str] = ()) -> Crew:
    """A shipped crew by name, or the crew in a folder.

    A shipped name wins over a folder of the same name; write `./name` or pass a Path for the folder.

    Args:
        models: dealt round-robin, in order, to the agents that have none.

    Raises:
        ConfigError: an unknown crew; a crew file that cannot be parsed or has an unknown key or a wrong value; a prompt
            file that is absent, leaves the folder or has a name nothing uses; more models than agents without one.
    """
    folder = _crew_folder(name_or_dir)
    path = folder / _CREW_FILE
    try:
        data = tomllib.loads(read_beneath(folder, _CREW_FILE))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        entry = _CrewEntry.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error)}") from error
    _check_ids(path, entry)
    _check_defaults(path, entry.defaults)
    _check_files(folder, entry)
    return Crew(
        name=folder.resolve().name,
        agents=_deal(str(path), tuple(_agent(folder, agent) for agent in entry.agents), models),
        protocol=entry.protocol,
        defaults=entry.defaults,
        folder=folder,
        description=entry.description,
    )


def generic_crew(n: int, models: Sequence[str] = ()) -> Crew:
    """`n` equal debaters a1 … an with the generic prompts; 1 ≤ n ≤ 26.

    Raises:
        ConfigError: `n` out of range, or more models than agents.
    """
    if not 1 <= n <= AGENTS_MAX:
        raise ConfigError(f"a crew has 1 to {AGENTS_MAX} agents, not {n}")
    agents = tuple(Agent(id=f"a{i}", role="debater") for i in range(1, n + 1))
    return replace(load_crew("generic"), agents=_deal(f"a crew of {n} agents", agents, models))


def _crew_folder(name_or_dir: str | Path) -> Path:
    shipped = list_crews()
    if isinstance(name_or_dir, str) and name_or_dir in shipped:
        return find_prompts() / name_or_dir
    folder = Path(name_or_dir)
    if (folder / _CREW_FILE).is_file():
        return folder
    if folder.is_dir():
        raise ConfigError(f"{folder}: no {_CREW_FILE} in this folder; write one, or name a crew: {', '.join(shipped)}")
    raise ConfigError(
        f"unknown crew {str(name_or_dir)!r}{nearest(str(name_or_dir), shipped)}; "
        f"there are {', '.join(shipped)}, or give a folder with {_CREW_FILE}"
    )


def _deal(where: str, agents: tuple[Agent, ...], models: Sequence[str]) -> tuple[Agent, ...]:
    """Give each agent without a model the next of `models`, over and over."""
    open_seats = sum(1 for agent in agents if agent.model == "")
    if len(models) > open_seats:
        raise ConfigError(
            f"{where}: {len(models)} models given, {open_seats} of {len(agents)} agents take one; "
            "give fewer models, or a crew with more agents whose model is empty"
        )
    if "" in models:
        raise ConfigError(f"{where}: an empty model name was given; leave it out or name a model")
    dealt = iter(models[i % len(models)] for i in range(open_seats)) if models else iter(())
    return tuple(replace(agent, model=next(dealt, "")) if agent.model == "" else agent for agent in agents)


def _agent(folder: Path, entry: _AgentEntry) -> Agent:
    if entry.persona and entry.persona_file:
        raise ConfigError(
            f"{folder / _CREW_FILE}: agent {entry.id!r} has both persona and persona_file; keep one of them"
        )
    persona = read_beneath(folder, entry.persona_file) if entry.persona_file else entry.persona
    fields = entry.model_dump(exclude={"persona", "persona_file"})
    return Agent(**fields, persona=persona)


def _check_ids(path: Path, entry: _CrewEntry) -> None:
    ids = [agent.id for agent in entry.agents]
    for agent in ids:
        if ids.count(agent) > 1:
            raise ConfigError(f"{path}: {ids.count(agent)} agents have the id {agent!r}; every agent needs its own")


def _check_defaults(path: Path, defaults: CrewDefaults) -> None:
    """Refuse a rule, stop or topology that no debate could open with, while the file can still be named."""
    parsers: tuple[tuple[str, Callable[[str], object]], ...] = (
        ("rule", parse_rule),
        ("stop", parse_stop),
        ("topology", parse_topology),
    )
    for key, parse in parsers:
        text = getattr(defaults, key)
        if text is not None:
            try:
                parse(text)
            except ConfigError as error:
                raise ConfigError(f"{path}: defaults.{key}: {error}") from error


def _check_files(folder: Path, entry: _CrewEntry) -> None:
    """Refuse a prompt file that nothing reads: it is a typo of one that would be."""
    personas = {Path(agent.persona_file) for agent in entry.agents if agent.persona_file}
    for path in sorted(folder.glob("*.md")):
        if path.stem not in ROLES and path.name != "README.md" and Path(path.name) not in personas:
            known = (*ROLES, *(persona.stem for persona in personas))
            raise ConfigError(
                f"{path}: nothing uses this file{nearest(path.stem, known)}; "
                f"roles are {', '.join(ROLES)}, and other files are named by an agent's persona_file"
            )
    stages = sorted({"question", *COMMON_STAGES, *(stage for stages in PROTOCOL_STAGES.values() for stage in stages)})
    for path in sorted((folder / "stages").glob("*.md")):
        if path.stem not in stages:
            raise ConfigError(
                f"{path}: no stage has this name{nearest(path.stem, stages)}; stages: {', '.join(stages)}"
            )


def _explain(error: ValidationError) -> str:
    """Each problem as `key: what is wrong`, with the close match and the allowed keys for an unknown key."""
    problems = error.errors(include_url=False)
    places = [tuple(problem["loc"]) for problem in problems]
    own = (
        problem
        for problem, place in zip(problems, places, strict=True)
        # A list whose items are wrong counts as too short, too: that is no problem of its own.
        if problem["type"] != "too_short" or not any(other[: len(place)] == place != other for other in places)
    )
    return "; ".join(_explain_one(problem) for problem in islice(own, 10))


def _explain_one(problem: Any) -> str:
    loc = tuple(problem["loc"])
    key = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    table = next((str(part) for part in reversed(loc[:-1]) if not isinstance(part, int)), "")
    if problem["type"] == "extra_forbidden" and table in _TABLES:
        allowed = tuple(_TABLES[table].model_fields)
        return f"unknown key {key}{nearest(str(loc[-1]), allowed)}; allowed here: {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"{key} is missing"
    given = repr(problem["input"])
    shown = given if len(given) <= 60 else given[:59] + "…"
    known = re.findall(r"'([^']+)'", problem["ctx"]["expected"]) if problem["type"] == "literal_error" else ()
    return f"{key}: {problem['msg']} (given: {shown}){nearest(str(problem['input'])[:100], known)}"
