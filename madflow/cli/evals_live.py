"""`madflow eval run` of a live suite: the user's own questions, models that are paid for."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from ..evals.runner import Progress, Ran
    from ..evals.suites import Suite

__all__ = ["LiveOptions", "live_options", "run_live_suite"]

_AGENTS: Final = 3
_AT_ONCE: Final = 8
_DEBATE_TOKENS: Final = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """What a live suite needs, as given."""

    data: Path | None
    models: tuple[str, ...]
    api_base: str
    agents: int
    at_once: int
    tokens: int | None
    usd: str | None
    debate_tokens: int
    debate_usd: str | None

    @property
    def given(self) -> bool:
        """Whether any of them was said that a suite on recordings has no use for."""
        return bool(self.data or self.models or self.api_base or self.tokens or self.usd or self.debate_usd)


def live_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of live suites."""
    paths = click.Path(path_type=Path, dir_okay=False)
    for option in (
        click.option("--debate-usd", metavar="DOLLARS", default=None, help="live: cap on one debate's money."),
        click.option(
            "--debate-tokens",
            type=click.IntRange(1),
            default=_DEBATE_TOKENS,
            show_default=True,
            help="live: cap on one debate's tokens.",
        ),
        click.option("--usd", metavar="DOLLARS", default=None, help="live: cap on the whole run's money."),
        click.option("--tokens", type=click.IntRange(1), default=None, help="live: cap on the whole run's tokens."),
        click.option(
            "--at-once", type=click.IntRange(1, 256), default=_AT_ONCE, show_default=True, help="live: debates at once."
        ),
        click.option(
            "--agents", type=click.IntRange(1, 26), default=_AGENTS, show_default=True, help="live: seats of a panel."
        ),
        click.option("--api-base", metavar="URL", default="", help="live: an OpenAI-compatible server."),
        click.option(
            "--model", "models", metavar="NAME", multiple=True, help="live: a model; seats take them in turn."
        ),
        click.option("--data", metavar="FILE", type=paths, default=None, help="live: your questions, JSONL or CSV."),
    ):
        command = option(command)
    return command


def run_live_suite(
    suite: Suite, options: LiveOptions, out: Path, limit: int | None, show: Callable[[Progress], None]
) -> Ran:
    """Run one live suite. Raises click.UsageError for what is missing, and what `run_live` raises."""
    from ..core.budget import Budget
    from ..evals.dataset import load_questions
    from ..evals.live import Panel
    from ..evals.live_suite import Caps, LiveRun, run_live

    if options.data is None or not options.models:
        raise click.UsageError(f"suite {suite.name} is live: give your questions with --data FILE, and --model NAME")
    whole = Budget.of(usd=options.usd) if options.usd else None
    if whole is not None and not options.debate_usd:
        raise click.UsageError("--usd caps the run by what one debate may cost: give --debate-usd, too")
    panel = Panel(
        models=options.models,
        size=options.agents,
        budget=Budget.of(tokens=options.debate_tokens, usd=options.debate_usd),
        api_base=options.api_base or None,
    )
    questions = tuple(load_questions(options.data, gold=True)[:limit])
    return run_live(
        LiveRun(suite, options.data, questions, panel),
        out,
        caps=Caps(options.tokens, whole.usd_nanos if whole is not None else None),
        at_once=options.at_once,
        command=_command_line(suite.name, options, out, limit),
        on_progress=show,
    )


def _command_line(suite: str, options: LiveOptions, out: Path, limit: int | None) -> str:
    words = ["madflow", "eval", "run", suite, "--data", str(options.data)]
    for model in options.models:
        words += ["--model", model]
    words += ["--api-base", options.api_base] if options.api_base else []
    words += ["--agents", str(options.agents), "--at-once", str(options.at_once)]
    words += ["--debate-tokens", str(options.debate_tokens)]
    words += ["--debate-usd", options.debate_usd] if options.debate_usd else []
    words += ["--tokens", str(options.tokens)] if options.tokens else []
    words += ["--usd", options.usd] if options.usd else []
    words += ["--out", str(out)]
    words += ["--limit", str(limit)] if limit else []
    return shlex.join(words)
