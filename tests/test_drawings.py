"""What the docs say of the code and the code can say itself: drawn from it, between two marks in a page.

    <!-- drawn: NAME -->
    …
    <!-- end -->

A page whose drawing is out of date fails; `MADFLOW_REWRITE=1 make test ARGS="-k drawings"` draws it anew.
"""

import importlib
import os
import re
import tomllib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click
import pytest

import madflow
from madflow import errors
from madflow.cli.app import cli
from madflow.core import saga
from madflow.core.config import Config
from madflow.core.debate import TABLE, apply, due, land
from madflow.core.journal import KINDS, CommitRecord, CommitState, KeyState
from madflow.core.limits import Limits
from madflow.core.messages import Seat, Task
from madflow.core.plan import EffectClass
from madflow.core.proposal import RISK_KINDS, STEP_KINDS, STOP_CONDITION_KINDS, Proposal
from madflow.core.replies import parse_reply
from madflow.core.rules import RULES, parse_rule
from madflow.core.saga import StepSpec
from madflow.core.state import Phase, State
from madflow.core.stopping import StopReason

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
_MARK = re.compile(r"(<!-- drawn: ([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)

# --- the state machine: every transition that a debate of two seats can make ----------------------------------------

REPLIES: Mapping[str, tuple[str, ...]] = {
    "position": ('{"answer": "A"}', '{"answer": "B"}'),
    "discuss": ('{"answer": "A"}', '{"answer": "B"}'),
    "draft": ('{"summary": "one", "plan": []}',),
    "revise": ('{"summary": "two", "plan": []}',),
    "ballot": ('{"decision": "approve"}', '{"decision": "reject"}'),
}
OPTIONS: Mapping[str, tuple[tuple[str, str], ...]] = {"answer": (("A", "yes"), ("B", "no")), "proposal": ()}


def _config(protocol: Any, **fields: Any) -> Config:
    seats = tuple(Seat(agent=name, role=role, model="m", family="f") for name, role in fields.pop("seats"))
    task = Task(task_id="t", question="?", options=OPTIONS[protocol])
    return Config(debate_id="d", task=task, protocol=protocol, seats=seats, rounds=2, **fields)


def _events(state: State) -> Iterator[tuple[str, dict[str, Any]]]:
    """What may happen next, one example of each kind that matters."""
    yield "opened", {}
    stage, asks = state.stage, state.outstanding()
    if stage is not None and asks:
        ask = asks[0]
        body = {"stage": stage.number, "agent": ask.agent, "kind": ask.kind, "part": ask.part}
        yield "answered", {**body, "status": "missing", "cause": "timeout"}
        for text in REPLIES.get(ask.kind, ()):
            yield "answered", {**body, "status": "valid", "reply": parse_reply(ask.kind, text).model_dump(mode="json")}
    else:
        yield "answered", {"stage": 0, "agent": "a", "kind": "position", "status": "missing"}
    for lands in (True, False):
        yield "cut", {"reason": "budget_exceeded", "land": lands, "unstarted": False}
    yield "human", {"choice": "none", "by": "h"}
    yield "resumed", {"limits": None}
    yield "late", {"agent": "a", "cause": "late"}
    if state.phase == "ready":
        yield "landed", {"digest": land(state)["digest"]}


def transitions() -> dict[tuple[str, str], set[str]]:
    """(phase, event) → the phases that can follow, by walking every state in reach of some small debates."""
    pair = (("a", "debater"), ("b", "debater"))
    configs = [
        _config("answer", seats=pair),
        _config("answer", seats=pair, fallback=("human",)),
        _config("proposal", seats=(("a", "proposer"), ("b", "critic"))),
    ]
    found: dict[tuple[str, str], set[str]] = {}
    for config in configs:
        waiting, seen = deque([State(config)]), set()
        while waiting:
            state = waiting.popleft()
            for kind, payload in _events(state):
                if (state.phase, kind) not in TABLE:
                    continue
                after = apply(state, kind, payload)
                found.setdefault((state.phase, kind), set()).add(after.phase)
                key = repr(
                    (after.phase, after.stage, after.closed, sorted(map(repr, after.answers.items())), after.cut)
                )
                if key not in seen:
                    seen.add(key)
                    waiting.append(after)
    return found


def state_machine() -> str:
    order = {phase: number for number, phase in enumerate(get_args(Phase))}
    arrows: dict[tuple[str, str], list[str]] = {}
    for (before, event), afters in sorted(transitions().items()):
        for after in afters:
            arrows.setdefault((before, after), []).append(event)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> new"]
    for (before, after), events in sorted(arrows.items(), key=lambda row: (order[row[0][0]], order[row[0][1]])):
        lines.append(f"    {before} --> {after}: {', '.join(sorted(events))}")
    return "\n".join([*lines, "    landed --> [*]", "```"])


def state_table() -> str:
    moves, order = transitions(), get_args(Phase)
    rows = [
        f"| {phase} | {event} | {', '.join(after for after in order if after in moves[phase, event])} |"
        for phase in order
        for event in sorted(kind for before, kind in TABLE if before == phase)
    ]
    return "\n".join(["| phase | event | phase after it |", "|---|---|---|", *rows])


# --- the reference --------------------------------------------------------------------------------------------------


def _verb(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, f"no verb {name}"
    return command


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def verbs() -> str:
    context = click.Context(cli)
    named = [(name, cli.get_command(context, name)) for name in cli.list_commands(context)]
    rows = [f"| [`{name}`](#madflow-{name}) | {_cell(verb.get_short_help_str(200))} |" for name, verb in named if verb]
    return "\n".join(["| verb | what it does |", "|---|---|", *rows])


def options_of(name: str) -> str:
    command = _verb(name)
    if isinstance(command, click.Group):
        return "\n\n".join(_options(sub, f"madflow {name} {word}") for word, sub in sorted(command.commands.items()))
    return _options(command, f"madflow {name}")


def _options(command: click.Command, info_name: str) -> str:
    context = click.Context(command, info_name=info_name)
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            rows.append(f"| `{_cell(record[0])}` | {_cell(record[1])} |")
    usage = command.get_usage(context).removeprefix("Usage: ")
    return "\n".join(["```", usage, "```", "", "| option | |", "|---|---|", *rows])


def error_tree() -> str:
    doc = errors.__doc__ or ""
    return "\n".join(["```", *(line[4:] for line in doc.splitlines() if line.startswith("    ")), "```"])


def proposal_fields() -> str:
    rows = [f"`{field.alias or name}`" for name, field in Proposal.model_fields.items()]
    return ", ".join(rows) + "."


def vocabularies() -> str:
    words = {
        "step kinds (`plan[].step`)": STEP_KINDS,
        "risks": RISK_KINDS,
        "stop conditions": STOP_CONDITION_KINDS,
    }
    return "\n".join(f"- {name}: {', '.join(f'`{word}`' for word in known)}" for name, known in words.items())


def stop_reasons() -> str:
    return ", ".join(f"`{reason}`" for reason in get_args(StopReason)) + "."


def rules() -> str:
    samples = {"P/Q": "2/3", "AGENT,AGENT": "ann,bob", "RULE": "majority"}
    examples = [re.sub("P/Q|AGENT,AGENT|RULE", lambda word: samples[word[0]], rule) for rule in RULES]
    rows = [f"| `{rule}` | `{parse_rule(example).threshold}` |" for rule, example in zip(RULES, examples, strict=True)]
    head = "| rule | `decision.threshold`, for P/Q = 2/3 and RULE = majority |"
    return "\n".join([head, "|---|---|", *rows])


def public_names() -> str:
    rows = []
    for name in madflow.__all__:
        value = getattr(madflow, name)
        doc = " ".join((value.__doc__ or "").strip().split("\n\n")[0].split()).split(". ")[0].rstrip(".")
        home = getattr(value, "__module__", None) or value.__name__
        rows.append(f"| `{name}` | `{home}` | {_cell(doc)} |")
    return "\n".join(["| name | home | |", "|---|---|---|", *rows])


def analyser_families() -> str:
    table = tomllib.loads((ROOT / "madflow/models/analysers.toml").read_text("utf-8"))
    rows = [
        f"| {area} | {', '.join(f'`{code}`' for code in rules['select'])} | "
        f"{', '.join(f'`{code}`' for code in rules['ignore']) or '–'} | {rules['default']} |"
        for area, rules in table["areas"].items()
    ]
    return "\n".join(["| seat | ruff rules | but not | severity, unless listed |", "|---|---|---|---|", *rows])


def budget_caps() -> str:
    plain, rows = Limits(), []
    for name, field in Limits.model_fields.items():
        option = "--usd" if name == "usd_nanos" else f"--{name.replace('_', '-')}"
        value = getattr(plain, name)
        cap = "none unless given" if value is None else f"{value:,}"
        most = next(bound.le for bound in field.metadata if hasattr(bound, "le"))
        rows.append(f"| `{option}` | {cap} | {most // 10**9 if name == 'usd_nanos' else most:,} |")
    return "\n".join(["| cap | default | at most |", "|---|---|---|", *rows])


def crews() -> str:
    rows = []
    for path in sorted((ROOT / "prompts").glob("*/crew.toml")):
        crew = tomllib.loads(path.read_text("utf-8"))
        seats = ", ".join(f"{agent['id']} ({agent['role']})" for agent in crew["agents"])
        rows.append(f"| `{path.parent.name}` | {crew['protocol']} | {seats} | {_cell(crew['description'])} |")
    return "\n".join(["| crew | protocol | seats | |", "|---|---|---|---|", *rows])


# --- the commit layer -----------------------------------------------------------------------------------------------

CLASSES = get_args(EffectClass)


def _due(kind: Any, status: Any) -> Any:
    """What the saga calls for in a plan of one step, whose key stands like this; "" where there is no key yet."""
    spec = StepSpec(0, {"do": "k", "undo": "u"}, "d", {"do": kind, "undo": kind}, "yes")
    commit = CommitState("c", "p", "digest")
    if status:
        attempt = 0 if status == "intended" else 1
        commit.keys[0, "do"] = KeyState("k", 0, "do", "d", kind, {}, 60_000, status=status, attempt=attempt)
    return saga.due(commit, [spec])


def _said(action: Any) -> str:
    if isinstance(action, saga.Begin | saga.Retry):
        return "run again, same key, attempt + 1" if isinstance(action, saga.Retry) and action.lost else "run"
    words = {
        saga.Probe: "probe: done → record it; absent → run again; else human",
        saga.Doubt: "human",
        saga.Close: "return it",
        saga.Wait: "human",
    }
    return words[type(action)]


def crash_table() -> str:
    rows = {
        "before `started` is durable": ("", "intended"),
        "after `started`, no outcome": ("started",),
        "the outcome is durable": ("done",),
        "in doubt, nobody has spoken": ("in_doubt",),
    }
    lines = ["| the crash came | " + " | ".join(CLASSES).replace("_", "-") + " |", "|---" * (len(CLASSES) + 1) + "|"]
    for name, found in rows.items():
        cells = [{_said(_due(kind, status)) for status in found} for kind in CLASSES]
        assert all(len(cell) == 1 for cell in cells), f"{name}: {cells}"
        lines.append(f"| {name} | " + " | ".join(cell.pop() for cell in cells) + " |")
    return "\n".join(lines)


def record_fields() -> str:
    return ", ".join(f"`{name}`" for name in CommitRecord.model_fields) + "."


def record_kinds() -> str:
    return ", ".join(f"`{kind}`" for kind in KINDS if not kind.startswith("compensation_")) + "."


DRAWERS: Mapping[str, Callable[[], str]] = {
    "analyser families": analyser_families,
    "budget caps": budget_caps,
    "commit record fields": record_fields,
    "commit record kinds": record_kinds,
    "crash table": crash_table,
    "crews": crews,
    "error tree": error_tree,
    "proposal fields": proposal_fields,
    "public names": public_names,
    "rules": rules,
    "state machine": state_machine,
    "state table": state_table,
    "stop reasons": stop_reasons,
    "verbs": verbs,
    "vocabularies": vocabularies,
}


def drawn(name: str) -> str:
    if name.startswith("options of "):
        return options_of(name.removeprefix("options of "))
    return DRAWERS[name]()


def _redrawn(text: str) -> str:
    return _MARK.sub(lambda mark: f"{mark[1]}{drawn(mark[2])}\n{mark[3]}", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_drawings_are_those_of_the_code(page: Path) -> None:
    """Catches a page that the code has left behind: an option, a field, a transition that is new or gone."""
    text = page.read_text(encoding="utf-8")
    now = _redrawn(text)
    if os.environ.get("MADFLOW_REWRITE") and now != text:
        page.write_text(now, encoding="utf-8")
        return
    assert text == now, f"{page.name} is out of date: MADFLOW_REWRITE=1 python -m pytest tests/test_drawings.py"


def test_every_drawing_stands_somewhere() -> None:
    """Catches a drawing that a page has lost, or a mark that is misspelt and so never drawn."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    context = click.Context(cli)
    wanted = {*DRAWERS, *(f"options of {verb}" for verb in cli.list_commands(context))}
    assert {mark[1] for mark in _MARK.findall(text)} == wanted
    assert text.count("<!-- drawn:") == len(_MARK.findall(text)), "a mark has no <!-- end -->"


def test_the_walk_reaches_every_entry_of_the_table() -> None:
    """Catches a drawing of half the machine."""
    assert set(transitions()) == set(TABLE)
    assert due(State(_config("answer", seats=(("a", "debater"),)))) is None


def test_the_readme_tells_of_every_planted_defect() -> None:
    """Catches a README that claims another place, rule or finder than the pull request's own list."""
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    defects = tomllib.loads((ROOT / "examples/pull_request/defects.toml").read_text("utf-8"))["defect"]
    for defect in defects:
        place = f"{Path(defect['file']).name}:{defect['line']}"
        cells = next((row.split("|") for row in rows if f" {place} " in row), None)
        assert cells is not None, f"README.md does not tell of {place}"
        finder = f"{defect['found_by']}, `{defect['code']}`" if defect["found_by"] else "–"
        assert cells[3].strip() == finder
        assert cells[4].strip().startswith("found" if defect["found_by"] else "**not found**")


def test_every_link_in_the_docs_leads_somewhere() -> None:
    """Catches a page that was moved or renamed."""
    link = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
    lost = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in link.findall(document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert not lost, "\n".join(lost)


def test_errors_drawn_are_the_errors_there_are() -> None:
    """Catches an error that the tree in the docstring forgot."""
    named = set(re.findall(r"[A-Z]\w+", error_tree())) & set(errors.__all__)
    assert named == set(importlib.import_module("madflow.errors").__all__)
