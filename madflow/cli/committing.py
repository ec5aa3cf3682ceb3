"""What the verbs of the commit layer share: their options, the committer they come to, and how receipts are shown."""

from __future__ import annotations

import asyncio
import importlib
import json
import shlex
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ..errors import ConfigError
from .exits import DONE, UNDECIDED, UNSETTLED
from .options import check_root, ledger_path, open_existing, open_for_writing
from .output import note
from .text import clean, one_line

if TYPE_CHECKING:
    from ..commit.api import Committer
    from ..commit.receipt import Receipt, StepReceipt
    from ..commit.steps import Step
    from ..ledger.sqlite import SqliteLedger

__all__ = [
    "commit_options",
    "committer_of",
    "open_committer_ledger",
    "read_request",
    "receipt_exit",
    "receipt_text",
    "run_async",
    "where_given",
]

OUTPUT_LINES: Final = 5
"""How much of a failed command's output a receipt shows; `madflow explain` has the rest."""

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")
_OPTIONS: Final = (
    click.option("--root", metavar="DIR", default=".", help="The tree that steps touch (default: here)."),
    click.option("--ledger", metavar="FILE", default="", help="The ledger (default: ROOT/.madflow/ledger.db)."),
    click.option("--policy", metavar="FILE", default="", help="What may be done (default: ROOT/policy.toml)."),
    click.option("--scope", metavar="NAME", default="", help="What one submitter serves (default: the root)."),
    click.option("--node", metavar="NAME", default="", help="This submitter's name in records."),
    click.option(
        "--lease",
        "lease_s",
        type=click.FloatRange(0.05, 3600),
        default=5.0,
        show_default=True,
        help="Seconds after which a submitter that does not move is replaced.",
    ),
    click.option(
        "--steps",
        "own_steps",
        metavar="MODULE:NAME",
        default="",
        help="Your own steps: a list of madflow.Step in a module that can be imported.",
    ),
)


def commit_options(function: _F) -> _F:
    """Decorate a command with the options that make a committer."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def open_committer_ledger(root: str, ledger: str, *, create: bool = False) -> SqliteLedger:
    """The ledger that is there. Raises ConfigError where there is none, or the path cannot be one.

    Args:
        create: the default one beneath the root is made if missing; one that was named never is.
    """
    path = ledger_path(ledger, check_root(root))
    return open_for_writing(path) if create and not ledger else open_existing(path)


def committer_of(ledger: SqliteLedger, options: Mapping[str, Any]) -> Committer:
    """The committer of the shared options; this process is madflow's own."""
    from ..commit.api import Committer

    policy = options["policy"]
    if policy and not Path(policy).is_file():
        raise ConfigError(f"--policy {policy}: no such file; leave it out for ROOT/policy.toml")
    return Committer(
        options["root"],
        ledger=ledger,
        policy=policy or None,
        steps=_own_steps(options["own_steps"]),
        scope=options["scope"],
        node=options["node"],
        lease_s=options["lease_s"],
        own_process=True,
    )


def _own_steps(name: str) -> Sequence[Step]:
    """The list of steps at MODULE:NAME. Raises ConfigError where it is none."""
    if not name:
        return ()
    from ..commit.steps import Step

    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"--steps {name}: {error}; give MODULE:NAME, where NAME is a list of Step") from error
    if not isinstance(found, list | tuple) or not all(isinstance(step, Step) for step in found):
        raise ConfigError(f"--steps {name}: is no list of madflow.Step")
    return found


def read_request(given: str) -> Any:
    """What is to be committed: the JSON of a file or of stdin (`-`), else an id.

    Raises:
        ConfigError: the file cannot be read, is too large, or is not JSON.
    """
    if given != "-" and not Path(given).exists():
        if "/" in given or given.endswith(".json"):
            raise ConfigError(f"{given}: no such file; give a proposal.json, - for stdin, or a proposal's id")
        return given
    try:
        with sys.stdin.buffer if given == "-" else Path(given).open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{given}: {error.strerror or error}; give a proposal.json, or a proposal's id") from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{given}: larger than the limit of {FILE_BYTES_MAX} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{given}: not JSON ({error}); give a proposal.json, or a proposal's id") from error


def run_async(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; an interrupt cancels it, and it resigns on its way out. What was asked for stays asked for."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        note("what was asked for stays asked for: `madflow recover`, or the next commit here, goes on with it")
        raise


def receipt_exit(receipt: Receipt) -> int:
    """The exit code of a commit."""
    if receipt.status == "committed":
        return DONE
    return UNSETTLED if receipt.status in ("compensated", "in_doubt") else UNDECIDED


_ENDINGS: Final = {
    "committed": "every step is done",
    "compensated": "a step failed, and what was done before it is taken back",
    "in_doubt": "nobody can tell whether a step happened: a human has to look",
    "rejected": "the gate refuses it",
    "pending": "it waits",
}


def where_given(options: Mapping[str, Any]) -> str:
    """The options that say where, as they were given, to go with a command that is printed; with a leading space."""
    named = (
        ("--root", options["root"], "."),
        ("--ledger", options["ledger"], ""),
        ("--steps", options["own_steps"], ""),
    )
    return "".join(f" {name} {shlex.quote(value)}" for name, value, usual in named if value != usual)


def receipt_text(receipt: Receipt, where: str = "") -> str:
    """A receipt in a few lines for a human; ends in a newline. `where`: see `where_given`."""
    from ..commit.streams import ROOT_SCOPE

    lines = [f"{receipt.status}: {_ENDINGS[receipt.status]}"]
    if receipt.rollback == "partial":
        lines[0] += ", as far as that went (look at the steps)"
    if receipt.scope != ROOT_SCOPE:
        where += f" --scope {shlex.quote(receipt.scope)}"
    for step in receipt.steps:
        lines += _step_lines(step, where)
    for reason in receipt.reasons:
        first, *rest = clean(str(reason["message"])).splitlines() or [""]
        lines += [f"  {reason['code']}: {first}", *(f"    {line}" for line in rest)]
    if receipt.waits_for:
        lines.append(f"  waits for: {one_line(receipt.waits_for, 300)}")
    if receipt.status == "compensated":
        lines.append("To try again, propose the plan under a new id: this one is closed.")
    lines.append(f"Commit: {receipt.commit_id}  proposal {one_line(receipt.proposal_id, 120)}")
    return "\n".join(lines) + "\n"


def _step_lines(step: StepReceipt, where: str) -> list[str]:
    result, what = step.result or {}, "undo" if step.direction == "undo" else "step"
    said = one_line(str(result.get("message") or ""), 300)
    tries = f", attempt {step.attempts}" if step.attempts > 1 else ""
    code = f" ({step.error_code}{f': {said}' if said else ''})" if step.error_code else ""
    by = f", said by {one_line(step.resolved_by, 80)}" if step.resolved_by else ""
    about = one_line(f"{step.step} {', '.join(step.targets)}", 160)
    lines = [f"  {what} {step.step_index}: {step.status}{tries}{by}  {about}{code}"]
    if step.status in ("failed", "in_doubt"):
        for name in ("stdout", "stderr"):
            tail = clean(str(result.get(name) or "")).splitlines()[-OUTPUT_LINES:]
            lines += [f"    {name}: {one_line(line, 200)}" for line in tail]
    if step.status == "in_doubt":
        key = step.idempotency_key[:16]
        lines.append(f"    look, then: madflow resolve {key} --as done|failed|retry --by NAME{where}")
    return lines
