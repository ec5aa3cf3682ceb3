"""`madflow debate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..errors import ConfigError, LedgerError
from .options import RunOptions, check_root, ledger_path, open_existing, open_for_writing, run_options
from .output import note
from .running import run_debate

if TYPE_CHECKING:
    from ..core.policies import Policy, Reliabilities
    from ..crews import Crew
    from ..ledger.sqlite import SqliteLedger

__all__ = ["command"]

AGENTS = 3
_LEARNED_MIN = 10


@click.command("debate")
@click.argument("question", required=False)
@click.option("--task", "task_file", metavar="FILE", default="", help="A JSON task file instead of a question.")
@click.option("--agents", type=click.IntRange(1, 26), default=None, help=f"Size of a generic crew ({AGENTS}).")
@click.option(
    "--protocol", type=click.Choice(["answer", "proposal"]), default=None, help="What comes out: an answer, or a plan."
)
@click.option(
    "--policy", metavar="NAME", default="", help="Ask, stop and count by this policy, e.g. robust, in place of a rule."
)
@click.option(
    "--learn-from",
    "learn_from_ids",
    metavar="ID",
    multiple=True,
    help="With --policy: earlier debates of this panel and ledger, to learn reliabilities from (ID,ID; repeatable).",
)
@click.option("--root", metavar="DIR", default=".", help="The tree the debate is about (default: here).")
@run_options
def command(
    question: str | None,
    *,
    task_file: str,
    agents: int | None,
    protocol: Literal["answer", "proposal"] | None,
    policy: str,
    learn_from_ids: tuple[str, ...],
    root: str,
    **shared: Any,
) -> int:
    """Debate QUESTION, or the task in a file, until the panel decides, a round limit or the budget ends it.

    The result goes to stdout, progress to stderr. With --id, the same command resumes the debate after a crash.
    """
    from ..core.policies import policy_named
    from ..crews import generic_crew, load_crew
    from ..debate.setup import Debate, read_task

    options = RunOptions(**shared)
    options.check()
    if bool(task_file) == (question is not None):
        raise click.UsageError("give a QUESTION or --task FILE, one of the two")
    if agents is not None and options.crew:
        raise click.UsageError("--agents makes a generic crew; leave it out with --crew")
    task = read_task(Path(task_file) if task_file else question or "")
    if task.files:
        raise ConfigError(f"{task_file}: has files; a diff is debated with `madflow review`")
    learned_ids = _ids(learn_from_ids)
    if learned_ids and not policy:
        raise click.UsageError("--learn-from goes with --policy")
    chosen = policy_named(policy) if policy else None
    tree = check_root(root)
    crew = (
        load_crew(options.crew, models=options.models)
        if options.crew
        else generic_crew(agents or AGENTS, options.models)
    )
    if not protocol and crew.protocol == "review":
        raise ConfigError(f"crew {crew.name!r} reviews diffs: run `madflow review DIFF --crew {options.crew}`")
    fields = options.debate_fields()
    path = ledger_path(options.ledger, tree)
    ledger = open_existing(path) if learned_ids else open_for_writing(path)
    try:
        learned = _learned(ledger, chosen, learned_ids, crew) if chosen is not None and learned_ids else None
        debate = Debate(
            task=task,
            crew=crew,
            protocol=protocol or "",
            policy=chosen,
            learned=learned,
            ledger=ledger,
            root=tree,
            **fields,
        )
        return run_debate(debate, options, ledger)
    finally:
        ledger.close()


def _ids(given: Sequence[str]) -> list[str]:
    """The debates that `--learn-from` names, each once. Raises click.UsageError for a name that is empty."""
    found = [name.strip() for part in given for name in part.split(",")]
    if not all(found):
        raise click.UsageError(f"--learn-from {','.join(given)[:120]!r} has an empty id; write ID or ID,ID")
    return list(dict.fromkeys(found))


def _learned(ledger: SqliteLedger, policy: Policy, ids: Sequence[str], crew: Crew) -> Reliabilities:
    """What the policy learns, with a warning where it is from too little. Raises ConfigError for an unknown id."""
    from ..debate.learning import learn_from

    panel = {agent.id: str(agent.model) for agent in crew.agents if agent.role not in ("judge", "mediator")}
    try:
        learned = learn_from(ledger, policy, ids, panel)
    except LedgerError as error:
        if type(error) is not LedgerError:  # the ledger itself fails, whatever was asked for
            raise
        raise ConfigError(f"--learn-from: {error}") from error
    if len(ids) < _LEARNED_MIN:
        many = f"{len(ids)} debate" + ("" if len(ids) == 1 else "s")
        note(f"--learn-from: {many} can teach the wrong thing about a seat; {_LEARNED_MIN} are a start")
    return learned
