"""What a policy allows of one step, part by part; and the least policy that would allow a plan.

A step is taken apart into *demands*: (part, value), where the part names the list of an `[[allow]]` entry that has to
hold a pattern for the value. One entry has to meet all of them, and name the step's kind and the proposer's role: two
entries never add up to one permission. A demand for which an entry has no pattern is denied; only `methods` and
`roles` mean "any" where they are empty.

    read, write, patch    paths: the file
    command, test         commands: the program of cmd, probe and undo;  paths: cwd
    http                  hosts and methods: of the request and of its undo
    sql                   databases: the name
    git_commit            refs: the branch's ref;  paths: every path
    call                  names: the step's name

Some paths are never a step's, whatever a policy says: see `never`.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from .plan import (
    CallStep,
    CommandStep,
    GitCommitStep,
    HttpStep,
    SqlStep,
    Step,
    TestStep,
    path_problem,
    step_paths,
    url_host,
)
from .policy import Allow, Policy, any_match

__all__ = ["Demand", "demands", "denials", "never", "program_problem", "suggestion", "unsafe"]

Demand = tuple[str, str]
"""(the list of an `[[allow]]` entry that must hold it, the value)."""

SUGGESTION_CHARS_MAX: Final = 4_000
REMEDY_CHARS_MAX: Final = 1_000
_CODES: Final = {
    "paths": "path_not_allowed",
    "commands": "command_not_allowed",
    "hosts": "host_not_allowed",
    "methods": "method_not_allowed",
    "databases": "database_not_allowed",
    "refs": "ref_not_allowed",
    "names": "name_not_allowed",
    "roles": "role_not_allowed",
}
_ANY_WHERE_EMPTY: Final = frozenset({"methods", "roles"})
_PATTERN_CHARS: Final = frozenset("*?")
_OURS: Final = ".madflow"
_GIT: Final = (".git", "git~1")  # the second is what Windows calls the first where nobody asked for long names


def demands(step: Step) -> tuple[Demand, ...]:
    """Every part of the step that a policy has to allow, each once, in the step's order."""
    found: list[Demand] = []
    if isinstance(step, CommandStep | TestStep):
        found.append(("commands", step.cmd[0]))
    if isinstance(step, CommandStep):
        found += [("commands", argv[0]) for argv in (step.probe, step.undo) if argv]
    if isinstance(step, HttpStep):
        for request in (step, step.undo):
            if request:
                found += [("hosts", url_host(request.url)), ("methods", request.method)]
    if isinstance(step, SqlStep):
        found.append(("databases", step.target.removeprefix("db:")))
    if isinstance(step, GitCommitStep):
        found.append(("refs", step.target.removeprefix("git:")))
    if isinstance(step, CallStep):
        found.append(("names", step.name))
    found += [("paths", path) for path in step_paths(step)]
    return tuple(dict.fromkeys(found))


def denials(step: Step, role: str, policy: Policy) -> tuple[tuple[str, str], ...]:
    """Why no entry allows the step, as (code, message); empty where one allows all of it.

    Of several entries of the step's kind the one that comes closest is quoted. The last message ends with the TOML of
    an entry that would allow the step.
    """
    entries = [entry for entry in policy.allow if step.step in entry.step]
    if not entries:
        why = f"no [[allow]] entry of the policy has step = {step.step!r}"
        return (("kind_not_allowed", f"{why}{_remedy(step)}"),)
    wanted = demands(step)
    lacking = [_lacking(entry, wanted, role) for entry in entries]
    closest = min(lacking, key=len)
    found = [(_CODES[part], _denied(part, value, step.step)) for part, value in closest]
    if found and not any(part == "roles" for part, _ in closest):
        code, message = found[-1]
        found[-1] = (code, f"{message}{_remedy(step)}")
    return tuple(found)


def _remedy(step: Step) -> str:
    return f"; to allow just this step, add to the policy:\n{suggestion([step], REMEDY_CHARS_MAX)}"


def _lacking(entry: Allow, wanted: Sequence[Demand], role: str) -> list[Demand]:
    lacking = [(part, value) for part, value in wanted if not _allows(entry, part, value)]
    if entry.roles and role not in entry.roles:
        lacking.append(("roles", role))
    return lacking


def _allows(entry: Allow, part: str, value: str) -> bool:
    patterns: tuple[str, ...] = getattr(entry, part)
    if not patterns:
        return part in _ANY_WHERE_EMPTY
    return value in patterns if part == "methods" else any_match(patterns, value)


def _denied(part: str, value: str, kind: str) -> str:
    if part == "roles":
        return (
            f"the [[allow]] entry for {kind} that comes closest is not for the proposer's role {value[:60]!r} (roles)"
        )
    return f"the [[allow]] entry for {kind} that comes closest does not name {value[:200]!r} under {part}"


def never(path: str, protected: Iterable[str]) -> str:
    """Why no step may touch `path`, whatever the policy says; empty where it may.

    Never: `.madflow` and `.git` at any depth, and each of `protected` (the policy file, the ledger) with all beneath
    it. Names are compared as a file system may that ignores case, composition and invisible characters, or drops dots
    and blanks at the end.
    """
    parts = [_plain_name(part) for part in path.split("/")]
    for part in parts:
        if part == _OURS or part in _GIT:
            return f"{_OURS if part == _OURS else '.git'} is never a step's"
    for own in protected:
        names = [_plain_name(part) for part in own.split("/") if part]
        if names and parts[: len(names)] == names:
            return f"{own[:120]!r} is the submitter's own and never a step's"
    return ""


def _plain_name(part: str) -> str:
    folded = unicodedata.normalize("NFKC", part).casefold()
    visible = "".join(char for char in folded if unicodedata.category(char) != "Cf")
    return visible.partition(":")[0].rstrip(". ")  # NTFS: what follows a colon is a stream of the same file


def program_problem(argv0: str) -> str:
    """Why `argv0` names no program a step may run, by its text alone: a bare name, or a plain path beneath the root."""
    return path_problem(argv0) if "/" in argv0 or "\\" in argv0 else ""


def suggestion(steps: Sequence[Step], chars_max: int = SUGGESTION_CHARS_MAX) -> str:
    """The least `[[allow]]` entries that allow `steps`, as TOML; a comment for what has to be written by hand.

    At most `chars_max` characters; a comment with their number where there are more.

    A value that holds a pattern's character is never suggested: as a pattern it would allow more than this plan.
    """
    entries: dict[tuple[Demand | str, ...], dict[str, list[str]]] = {}
    left_out = 0
    for step in steps:
        wanted = demands(step)
        if any(not _PATTERN_CHARS.isdisjoint(value) for _, value in wanted):
            left_out += 1
            continue
        parts = tuple(dict.fromkeys(part for part, _ in wanted))
        # Two steps share an entry where it then allows these two and nothing else.
        key: tuple[Demand | str, ...] = (step.step, *(parts if len(parts) == 1 else wanted))
        entry = entries.setdefault(key, {"step": [step.step]})
        for part, value in wanted:
            if value not in entry.setdefault(part, []):
                entry[part].append(value)
    blocks = [_block(entry) for entry in entries.values()]
    if left_out:
        named = "1 step names" if left_out == 1 else f"{left_out} steps name"
        blocks.append(f"# {named} something with * or ?, which a policy would read as a pattern\n")
    text = "".join(blocks)
    if len(text) > chars_max:
        kinds = sorted({step.step for step in steps})
        return f"# {len(text)} characters of entries for: {', '.join(kinds)}; see the plan\n"
    return text


def _block(entry: Mapping[str, Sequence[str]]) -> str:
    return "[[allow]]\n" + "".join(f"{part} = {_toml_list(values)}\n" for part, values in entry.items())


def _toml_list(values: Iterable[str]) -> str:
    return f"[{', '.join(_toml(value) for value in values)}]"


def _toml(value: str) -> str:
    """A TOML basic string: JSON's escapes, and DEL, which TOML wants escaped too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def unsafe(step: Step, protected: Iterable[str], databases: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What is wrong with the step's paths and programs whatever the policy allows, as (code, message)."""
    own = tuple(protected)
    found: list[tuple[str, str]] = []
    for path in step_paths(step):
        if why := never(path, own):
            found.append(("protected", f"{path[:200]!r}: {why}"))
    if isinstance(step, CommandStep | TestStep):
        programs = [value for part, value in demands(step) if part == "commands"]
        found += [
            ("bad_program", f"{program[:200]!r}: {why}; write a bare name or a path beneath the root")
            for program in programs
            if (why := program_problem(program))
        ]
    if isinstance(step, SqlStep) and (name := step.target.removeprefix("db:")) in databases:
        path = databases[name]
        if why := path_problem(path) or never(path, own):
            found.append(("protected", f"database {name!r} of the policy is {path[:200]!r}: {why}"))
    return tuple(found)
