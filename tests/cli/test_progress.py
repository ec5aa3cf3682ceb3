"""What progress says, from the records of a debate alone; and that it costs the debate nothing."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from madflow import Agent, Debate, TurnView, run
from madflow.cli.progress import Standing, minutes, open_progress
from madflow.cli.screen import Screen
from madflow.debate.run import Progress
from madflow.ledger.sqlite import open_ledger

DRAFT = {"summary": "Do it\x1b[2J", "plan": [{"step": "test", "cmd": ["true"]}]}


async def voter(view: TurnView) -> dict[str, object]:
    if view.stage == "draft":
        return DRAFT
    if view.stage == "concern":
        return {"claims": ["why?"]}
    if view.seat.role == "critic":
        return {"decision": "reject", "objections": ["[red]no[/red]"]}
    return {"decision": "approve"}


def debate(ledger: object) -> Debate:
    agents = [Agent("pat", voter, role="proposer"), Agent("kim", voter, role="critic"), Agent("lee", voter)]
    return Debate(task="Shall we?", agents=agents, protocol="proposal", id="d1", ledger=ledger)


async def test_standing_follows_the_records(tmp_path: Path) -> None:
    """Would catch counts that drift from the account, votes of an earlier stage, text that is not cleaned."""
    ledger, standing, lines = open_ledger(tmp_path / "l.db"), Standing(), []

    def feed(progress: Progress) -> None:
        lines.append(standing.see(progress.kind, progress.data, progress.round))

    proposal = await run(debate(ledger), on_progress=feed)
    told = [line for line in lines if line]
    assert told[0] == "debate d1: 3 seats, rule majority, at most 3 rounds"
    assert "pat draft valid: Do it" in told
    assert "kim concern valid: 1 concerns" in told
    assert told[-1] == "landed: approved (converged)"
    assert standing.tally() == "approve 2, reject 1"
    assert standing.account is not None
    assert standing.account.committed.calls == proposal.usage["calls"] == 6
    assert standing.burnt().endswith("6 of 200 calls")
    again = Standing()
    for record in ledger.read("debate/d1"):
        again.see(record.kind, record.payload)
    assert (again.tally(), again.burnt(), again.ending) == (standing.tally(), standing.burnt(), standing.ending)
    ledger.close()


async def test_the_table_shows_text_as_text(tmp_path: Path) -> None:
    """Would catch a reply that is read as markup: it would style the table, or raise on `[/x]`."""
    ledger, out = open_ledger(tmp_path / "l.db"), io.StringIO()
    screen = Screen(Standing(), out)
    await run(debate(ledger), on_progress=screen.feed)
    screen.standing.seats["pat"].said = "[red]x[/blue] [link=http://x]"
    console = Console(file=out, width=120, force_terminal=False)
    console.print(screen.draw())
    assert "[red]x[/blue] [link=http://x]" in out.getvalue()
    assert "\x1b" not in out.getvalue()
    ledger.close()


async def test_votes_are_those_of_this_round(tmp_path: Path) -> None:
    """Would catch votes that add up over rounds: three seats would then show nine."""
    ledger, standing, shown = open_ledger(tmp_path / "l.db"), Standing(), []

    async def split(view: TurnView) -> dict[str, object]:
        return {"answer": "A" if view.round == 3 else "ABC"[int(view.seat.agent)]}

    def feed(progress: Progress) -> None:
        standing.see(progress.kind, progress.data, progress.round)
        shown.append((standing.stage, standing.tally()))

    task = {"question": "Q?", "options": ["x", "y", "z"]}
    await run(Debate(task=task, agents=[Agent(str(n), split) for n in range(3)], ledger=ledger), on_progress=feed)
    assert ("position", "A 1, B 1, C 1") in shown
    assert ("discuss", "A 1, B 1, C 1") in shown
    assert shown[-1] in (("discuss", "A 2"), ("discuss", "A 3"))  # two are a majority: the third may be let go
    ledger.close()


def test_quiet_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = open_ledger(tmp_path / "l.db")
    with open_progress(ledger, "d1", quiet=True) as watcher:
        watcher.feed(Progress("landed", "d1", data={"proposal": {"decision": {}}}))
    assert capsys.readouterr().err == ""
    ledger.close()


@pytest.mark.parametrize(("seconds", "text"), [(0.9, "0:00"), (61, "1:01"), (3600, "60:00")])
def test_minutes(seconds: float, text: str) -> None:
    assert minutes(seconds) == text
