"""The live table, drawn with rich. Texts go in as `Text`, never as markup, so that no reply can style or link anything.

The cursor stays visible: a process that a second signal ends at once leaves the terminal as it was.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .progress import Standing, minutes

if TYPE_CHECKING:
    from ..debate.run import Progress

__all__ = ["Screen"]

_STYLES: Final = {"valid": "green", "invalid": "red", "missing": "yellow"}
_BAR: Final = 20


class Screen:
    """Draws a `Standing`, four times a second and at every event, until it is closed."""

    def __init__(self, standing: Standing, out: IO[str]) -> None:
        self.standing, self._began = standing, time.monotonic()
        self._console = Console(file=out)
        self._drawn: Group = self.draw()
        self._live = Live(
            console=self._console,
            get_renderable=self._now,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._broken = False

    def __enter__(self) -> Self:
        self._live.start()
        self._console.show_cursor(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._live.stop()
        except OSError:
            self._broken = True

    def feed(self, progress: Progress) -> None:
        self.standing.see(progress.kind, progress.data, progress.round)
        # Drawn here, in the event loop: rich's own thread then only prints what cannot change under it.
        self._drawn = self.draw()

    def say(self, message: str) -> None:
        self._console.print(Text(message))

    def draw(self) -> Group:
        """The table as it stands now, without the clock."""
        standing = self.standing
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("seat", "role", "", "said"):
            table.add_column(heading, no_wrap=True, overflow="ellipsis", max_width=60)
        for row in standing.seats.values():
            doing = Text(row.doing, style=_STYLES.get(row.doing, "dim"))
            table.add_row(Text(row.agent), Text(row.role, style="dim"), doing, Text(row.said))
        return Group(Text(standing.question, style="bold", no_wrap=True, overflow="ellipsis"), table)

    def _now(self) -> Group:
        standing = self.standing
        parts = [
            standing.debate_id,
            f"round {standing.round} of {standing.rounds}",
            standing.stage,
            standing.tally(),
            standing.ending,
        ]
        line = Text(" · ".join(part for part in parts if part), no_wrap=True, overflow="ellipsis")
        budget = Text(f"{self._bar()} {standing.burnt()} · {minutes(time.monotonic() - self._began)}", style="dim")
        return Group(self._drawn, line, budget)

    def _bar(self) -> str:
        account = self.standing.account
        if account is None:
            return ""
        full = min(_BAR, _BAR * account.committed.tokens // account.limits.tokens)
        return "█" * full + "░" * (_BAR - full)
