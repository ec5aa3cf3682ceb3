"""From what a user writes to a frozen configuration: tasks, agents, clients, prompts.

Everything that can be wrong with a debate before its first call is found here, and named.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from ..core.budget import Budget
from ..core.config import EDITION, Config
from ..core.messages import Agent, Task
from ..core.plan import ABSENT
from ..core.policies import Policy, Reliabilities, policy_named
from ..core.stopping import DEFAULT_STOP
from ..crews import Crew, load_crew
from ..errors import ConfigError, TaskError
from ..ports import ModelClient
from ..prompts import Prompts, nearest
from .session import Verify

__all__ = ["Debate", "build_clients", "build_config", "crew_of", "prompts_of", "read_task", "root_of"]

ANALYSER = "analyser:"
TASK_BYTES_MAX = 4 * 1024 * 1024
_MERGES = ("overlap", "same")


@dataclass(frozen=True, slots=True, kw_only=True)
class Debate:
    """One debate, as a user writes it. Every bound has a default; nothing is unlimited.

    Args:
        task: a question, a mapping or JSON file in the shape of `Task`, or a Task.
        agents: the panel. With a `crew`, its agents are used where none are given.
        protocol: answer | proposal | review; the crew's where empty.
        rule: a decision rule, e.g. "majority", "supermajority:2/3", "unanimity", "plurality", "borda", "veto:majority".
        tie: none | judge | earliest.
        rounds: at most so many rounds (1 to 50).
        stop: when to stop, e.g. "converged | stable:2 | max_rounds".
        policy: asks, stops and counts in place of `rule` and `stop`: a name, e.g. "robust", or a
            `core.policies.Policy`. For the protocol answer. Its verdict is in the proposal's `content.policy`.
        learned: what the policy knows of the seats, by `debate.learning.learn_from` on earlier debates of this panel.
        topology: all | ring | sparse:K.
        fallback: what to try, in order and once each, where the panel does not decide: mediator, judge, human.
        budget: hard caps on tokens, money, calls and seconds.
        id: names the debate; the same debate with the same id resumes. Made up where empty.
        ledger: a path or an open ledger.
        api_base: base URL of an OpenAI-compatible server for every agent whose model is a name. A resume may use
            another: where a model is served is no part of what must match.
        expires_s: how long the proposal stays valid, in seconds.
        root: the tree that the debate is about: evidence is checked against it, a plan is pinned to what its files
            hold, and a review's patches are tried on it. None: nothing is read.
        verify: the app's own check of a reply; its facts are recorded beside those of the root.
        merge: for a review, how claims become findings: "same" (by what they say) or "overlap" (words in common on
            lines at most two apart). Where empty: "same", and for a resume what was recorded.
        same_judge: for a review, the seat that is asked, before the vote, which claims say the same where the words
            leave that in doubt; best one that raises none, such as a judge. Where empty the words decide.
        review_file: for a review, where its plan writes it, beneath the root; `reviews/<id>.md` where empty.
        fix: for a review, whether its plan applies the accepted patches.
        test: for a review, the program and arguments that its plan runs last; the crew's where empty.
    """

    task: str | Mapping[str, Any] | Task | Path
    agents: Sequence[Agent] = ()
    crew: str | Path | Crew | None = None
    protocol: Literal["", "answer", "proposal", "review"] = ""
    rule: str = ""
    tie: Literal["", "none", "judge", "earliest"] = ""
    rounds: int = 0
    stop: str = ""
    policy: str | Policy | None = None
    learned: Reliabilities | None = None
    topology: str = ""
    seed: int = 0
    fallback: Sequence[str] | None = None
    faulty: int = 0
    budget: Budget = field(default_factory=Budget)
    id: str = ""
    ledger: str | Path | Any = ".madflow/ledger.db"
    api_base: str | None = None
    expires_s: int = 86_400
    warm_first: bool = False
    reader_order: Literal["shared", "own"] = "shared"
    parts: Sequence[Sequence[str]] = ()
    root: str | Path | None = None
    verify: Verify | None = None
    merge: Literal["", "overlap", "same"] = ""
    same_judge: str = ""
    review_file: str = ""
    fix: bool = True
    test: Sequence[str] = ()


def read_task(task: str | Mapping[str, Any] | Task | Path) -> Task:
    """The task in any of its shapes. Raises TaskError naming the field, or the file's limit and size."""
    if isinstance(task, Task):
        return task
    if isinstance(task, Path):
        return _task_file(task)
    data: Mapping[str, Any] = {"question": task} if isinstance(task, str) else task
    if not isinstance(data, Mapping):
        raise TaskError(
            f'a task is a question, a mapping, a Task or a Path, not {type(task).__name__}; give {{"question": "…"}}'
        )
    if not str(data.get("question", "")).strip():
        raise TaskError("the task has no question; write what is to be debated")
    options = data.get("options") or ()
    if not isinstance(options, list | tuple):
        shown = type(options).__name__
        raise TaskError(f'task: options: a {shown}, not a list; give ["yes", "no"] or [["A", "yes"], ["B", "no"]]')
    if options and all(isinstance(option, str) for option in options):
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        if len(options) > len(letters):
            raise TaskError(f"{len(options)} options without ids, the limit is {len(letters)}; give them as [id, text]")
        options = list(zip(letters, options, strict=False))
    task_id = data.get("task_id") or sha256(str(data["question"]).encode("utf-8", "replace")).hexdigest()[:16]
    try:
        made = Task.model_validate({**data, "task_id": task_id, "options": options})
        made.model_dump_json()
        return made
    except PydanticSerializationError as error:  # only text without a UTF-8 form does not go into JSON
        raise TaskError(
            "task: it holds a lone surrogate, which is not Unicode text; decode the input as UTF-8"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "task"
        allowed = ", ".join(Task.model_fields)
        raise TaskError(f"task: {where}: {_said(first['msg'])} (fields: {allowed})") from error


def _said(message: str) -> str:
    """A validator's own words, without pydantic's name for them."""
    return message.removeprefix("Value error, ")


def _task_file(path: Path) -> Task:
    try:
        size = path.stat().st_size
        if size > TASK_BYTES_MAX:
            raise TaskError(f"{path}: {size} bytes, the limit is {TASK_BYTES_MAX}; shorten the context")
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror or error}; give the path of a JSON task file") from error
    except ValueError as error:
        raise TaskError(f'{path}: not JSON ({error}); write at least {{"question": "…"}}') from error
    if not isinstance(data, dict):
        raise TaskError(f'{path}: a {type(data).__name__}, not an object; write at least {{"question": "…"}}')
    return read_task(data)


def root_of(debate: Debate) -> Path | None:
    """The debate's tree. Raises ConfigError where it is no folder."""
    if debate.root is None:
        return None
    root = Path(debate.root)
    if not root.is_dir():
        raise ConfigError(f"root {root}: no such folder; give the tree that the debate is about, or leave it out")
    return root


def crew_of(debate: Debate) -> Crew:
    """The debate's crew, its agents replaced where the debate names its own."""
    crew = debate.crew if isinstance(debate.crew, Crew) else load_crew(debate.crew) if debate.crew else _generic()
    if debate.agents:
        return Crew(crew.name, tuple(debate.agents), crew.protocol, crew.defaults, crew.folder, crew.description)
    if debate.crew is None:
        raise ConfigError("a debate needs agents or a crew; give agents=[Agent(…), …] or crew='generic'")
    return crew


@lru_cache(maxsize=1)
def _generic() -> Crew:
    return load_crew("generic")


@lru_cache(maxsize=32)
def _shipped_prompts(folder: Path, name: str, protocol: str, roles: frozenset[str]) -> Prompts:
    from ..prompts import load_prompts

    return load_prompts(folder, protocol, roles=roles, crew=name)


def prompts_of(crew: Crew, protocol: str) -> Prompts:
    """The crew's texts for a protocol; the shipped ones are loaded once a process."""
    if crew.folder == _generic().folder:
        return _shipped_prompts(crew.folder, crew.name, protocol, frozenset(agent.role for agent in crew.agents))
    return crew.prompts(protocol)


def build_config(debate: Debate, debate_id: str, crew: Crew, prompts: Prompts) -> Config:
    """The frozen configuration. Raises ConfigError naming what cannot be used and the fix."""
    defaults = crew.defaults
    protocol = debate.protocol or crew.protocol
    policy = policy_named(debate.policy) if isinstance(debate.policy, str) else debate.policy
    if policy is not None and debate.stop:
        raise ConfigError(f"policy {policy.name} says itself when to stop (stop={debate.stop!r}); leave stop out")
    seats = [_seat(agent) for agent in crew.agents]
    languages = {
        agent.id: tuple(sorted(known))
        for agent in crew.agents
        if (known := getattr(agent.model, "languages", None) or _analyser_languages(agent.model)) is not None
    }
    values: dict[str, Any] = {
        "debate_id": debate_id,
        "task": read_task(debate.task),
        "protocol": protocol,
        "crew": crew.name,
        "seats": seats,
        "rule": debate.rule or (f"policy:{policy.name}" if policy else defaults.rule or "majority"),
        "tie": debate.tie or defaults.tie or "none",
        "rounds": debate.rounds or _rounds(policy, defaults.rounds, protocol),
        "stop": debate.stop or (DEFAULT_STOP if policy else defaults.stop or DEFAULT_STOP),
        "policy": policy,
        "learned": debate.learned,
        "edition": EDITION,
        "topology": debate.topology or defaults.topology or "all",
        "fallback": tuple(debate.fallback if debate.fallback is not None else defaults.fallback or ()),
        "seed": debate.seed,
        "faulty": debate.faulty,
        "prompts": dict(prompts.files),
        "parts": tuple(tuple(part) for part in debate.parts),
        "languages": languages,
        "max_age_s": debate.expires_s,
        "warm_first": debate.warm_first,
        "reader_order": debate.reader_order,
        "merge": _merge(debate, crew, protocol),
        "review_plan": _review_plan(debate, debate_id, crew, protocol),
        "limits": debate.budget,
    }
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {_said(first['msg'])}" if where else _said(first["msg"])) from error
    rule = config.rule if policy is not None else str(config.rule_)
    return config.model_copy(update={"rule": rule, "stop": str(config.stop_)})


def _rounds(policy: Policy | None, default: int | None, protocol: str) -> int:
    if policy is not None:
        return policy.rounds_max
    return default or (2 if protocol == "review" else 3)


def _merge(debate: Debate, crew: Crew, protocol: str) -> dict[str, str]:
    if protocol != "review":
        given = [name for name in ("merge", "same_judge") if getattr(debate, name)]
        if given:
            raise ConfigError(f"{', '.join(given)} goes with a review; the protocol is {protocol}: leave it out")
        return {}
    if debate.merge not in ("", *_MERGES):
        hint = nearest(str(debate.merge), _MERGES)
        raise ConfigError(f"unknown merge rule {debate.merge!r}{hint}; merge is one of {', '.join(_MERGES)}")
    judge = next((agent for agent in crew.agents if agent.id == debate.same_judge), None)
    if judge is not None and _analyser_languages(judge.model) is not None:
        raise ConfigError(
            f"same_judge {judge.id}: an analyser ({judge.model}) compares no claims; name a seat of a model"
        )
    return {"rule": debate.merge or "same", "judge": debate.same_judge}


def _review_plan(debate: Debate, debate_id: str, crew: Crew, protocol: str) -> dict[str, Any] | None:
    """What the plan of a review holds beside its findings, with the state of the file that it will write."""
    if protocol != "review":
        given = [name for name in ("review_file", "test") if getattr(debate, name)] + (
            ["fix"] if not debate.fix else []
        )
        if given:
            raise ConfigError(f"{', '.join(given)} goes with a review; the protocol is {protocol}: leave it out")
        return None
    if isinstance(debate.test, str):
        raise ConfigError('test is a list, e.g. ["pytest", "-q"]: no shell splits it')
    path = debate.review_file or f"reviews/{debate_id}.md"
    if any(path == file.path for file in read_task(debate.task).files):
        raise ConfigError(f"review_file {path}: the change has a file of this name; write the review elsewhere")
    root = root_of(debate)
    before = ABSENT if root is None else _state_of(path, root)
    test = tuple(debate.test or crew.defaults.test or ())
    return {"path": path, "before": before, "fix": debate.fix, "test": test}


def _state_of(path: str, root: Path) -> str:
    """The hash of the file that stands there now, or "absent". Raises PlanError where none could be written."""
    from ..effects.freeze import freeze_plan
    from ..effects.own import protected_paths

    plan = [{"step": "write", "target": f"file:{path}", "content": ""}]
    (step,) = freeze_plan(plan, root, protected=protected_paths(root, None, None))
    return str(step["sha256_before"])


def _seat(agent: Agent) -> dict[str, Any]:
    from ..models.resolve import family_of

    name = _model_name(agent)
    return {
        "agent": agent.id,
        "role": agent.role,
        "model": name,
        "family": agent.family or family_of(name),
        "weight": agent.weight,
        "persona": agent.persona,
        "max_output_tokens": agent.max_output_tokens,
    }


def _model_name(agent: Agent) -> str:
    model = agent.model
    if isinstance(model, str):
        if not model:
            raise ConfigError(f"agent {agent.id!r} has no model; give --model NAME, or model= in its crew file")
        return model
    if isinstance(model, ModelClient):
        return str(getattr(model, "name", "") or f"client:{type(model).__name__}")
    if callable(model):
        return f"callable:{getattr(model, '__qualname__', type(model).__name__)}"
    raise ConfigError(f"agent {agent.id!r}: a {type(model).__name__} is no model; give a name, a client or a callable")


def _analyser_languages(model: Any) -> frozenset[str] | None:
    if not (isinstance(model, str) and model.startswith(ANALYSER)):
        return None
    from ..models.analysers import AREAS, AnalyserModel

    if model.removeprefix(ANALYSER) not in AREAS:
        raise ConfigError(f"unknown analyser {model!r}; there are {', '.join(ANALYSER + area for area in AREAS)}")
    return AnalyserModel.languages


def build_clients(agents: Sequence[Agent], api_base: str | None) -> dict[str, ModelClient]:
    """One client an agent. Raises MissingKey or UnknownModel before any call."""
    from ..models.callables import CallableModel

    clients: dict[str, ModelClient] = {}
    by_name: dict[str, ModelClient] = {}
    if any(isinstance(agent.model, str) and agent.model.startswith(ANALYSER) for agent in agents):
        from ..models.analysers import analysers_crew

        by_name.update({f"{ANALYSER}{area}": client for area, client in analysers_crew().items()})
    for agent in agents:
        model = agent.model
        if isinstance(model, str):
            if model not in by_name:
                by_name[model] = _named_client(model, api_base)
            clients[agent.id] = by_name[model]
        elif isinstance(model, ModelClient):
            clients[agent.id] = model
        elif inspect.iscoroutinefunction(model) or callable(model):
            clients[agent.id] = CallableModel(model)
    return clients


def _named_client(name: str, api_base: str | None) -> ModelClient:
    from ..models.resolve import resolve_model

    return resolve_model(name, api_base=api_base, env=os.environ)
