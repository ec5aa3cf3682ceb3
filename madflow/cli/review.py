"""`madflow review`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import TaskError
from .options import RunOptions, check_root, ledger_path, open_for_writing, run_options
from .output import note
from .running import run_debate

if TYPE_CHECKING:
    from ..crews import Crew

__all__ = ["command"]

DIFF_BYTES_MAX: Final = 64 * 1024 * 1024
"""Read at most so much; how large a diff may be, and what is left out, is the review's own affair."""


@click.command("review")
@click.argument("diff", metavar="DIFF|-")
@click.option(
    "--root", metavar="DIR", default=None, help="The tree after the change; without it only the diff is read."
)
@click.option("--test", metavar="COMMAND", default="", help='What the plan runs last, e.g. "pytest -q"; no shell.')
@click.option("--no-fix", is_flag=True, help="Leave suggested patches out of the plan; nobody is asked for any.")
@click.option(
    "--review-file", metavar="PATH", default="", help="Where the plan writes the review (default: reviews/ID.md)."
)
@click.option(
    "--merge",
    type=click.Choice(["same", "overlap"]),
    default=None,
    help="How claims become findings: by what they say, or by words in common on lines at most two apart "
    "(default: same; a resume goes on as it began).",
)
@click.option(
    "--same-judge",
    metavar="SEAT",
    default="",
    help="The crew's seat that is asked, before the vote, which findings in doubt are the same.",
)
@click.option("--fail-on", type=click.Choice(["request_changes"]), default=None, help="Exit 3 on this verdict, too.")
@run_options
def command(diff: str, root: str | None, fail_on: str | None, **shared: Any) -> int:
    """Review the unified diff in a file, or on stdin with `-`.

    Without --model and --crew the analysers crew reviews: static analysis in three seats, no key, no network. A review
    that is published has a plan: write the review, apply the accepted patches (with --root), run the test. `madflow
    commit` carries it out.
    """
    from ..debate.setup import build_config, prompts_of
    from ..review.api import review_debate

    plan = {
        "review_file": shared.pop("review_file"),
        "fix": not shared.pop("no_fix"),
        "test": _words(shared.pop("test")),
        "merge": shared.pop("merge") or "",
        "same_judge": shared.pop("same_judge"),
    }
    options = RunOptions(**shared)
    options.check()
    tree = None if root is None else check_root(root)
    text, crew = _read(diff), _crew(options)
    debate = review_debate(text, root=tree, crew=crew, **plan, **options.debate_fields())
    build_config(debate, debate.id or "review", crew, prompts_of(crew, "review"))  # refused before a ledger is made
    ledger = open_for_writing(ledger_path(options.ledger, tree or Path()))
    try:
        debate = replace(debate, ledger=ledger)
        if tree is None and all(str(agent.model).startswith("analyser:") for agent in crew.agents):
            note("no --root: of changed files only the diff is known, so analysers read new files alone; give --root")
        return run_debate(debate, options, ledger, fail_on or "")
    finally:
        ledger.close()


def _crew(options: RunOptions) -> Crew:
    from ..crews import load_crew

    if not options.models and not options.crew:
        note("no model configured: the analysers crew reviews (static analysis, no LLM); for an LLM give --model NAME")
    name = options.crew or ("review" if options.models else "analysers")
    return load_crew(name, models=options.models)


def _words(test: str) -> tuple[str, ...]:
    """The test as a program and its arguments, by a shell's rules of quoting. Raises click.UsageError."""
    try:
        return tuple(shlex.split(test))
    except ValueError as error:
        raise click.UsageError(f"--test {test!r}: {error}; quote it as for a shell") from error


def _read(diff: str) -> bytes:
    """The diff's bytes. Raises TaskError naming the file, or the size and its limit."""
    try:
        if diff == "-":
            text = sys.stdin.buffer.read(DIFF_BYTES_MAX + 1)
        else:
            with Path(diff).open("rb") as file:
                text = file.read(DIFF_BYTES_MAX + 1)
    except OSError as error:
        raise TaskError(
            f"{diff}: {error.strerror or error}; give the path of a unified diff, or - for stdin"
        ) from error
    if len(text) > DIFF_BYTES_MAX:
        raise TaskError(
            f"{diff}: larger than the limit of {DIFF_BYTES_MAX} bytes; review it in parts (git diff -- PATH)"
        )
    return text
