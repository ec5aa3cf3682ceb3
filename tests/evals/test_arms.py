"""Arms on recordings through the real graph: what they ask, what they make of it, and what a policy makes of the same.

The rows are written here: a letter a seat and round; "-" cannot be read, " " was not recorded.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from madflow.core.policies import POLICIES, Said
from madflow.errors import ConfigError
from madflow.evals.arms import ARMS, arm_named, first_round, run_arm
from madflow.evals.load import Row, load_recorded
from madflow.evals.records import outcomes, tokens
from madflow.ledger.sqlite import open_ledger

PANEL = [
    ["AAB", "AAA"],
    ["BBC", "BBB"],
    ["CCA", "CCC"],
    ["DDA"],
    ["AAC"],
    ["CBC"],
    ["ABC", "ABB", "BBB"],
    ["-AB", "AAB"],
]


def written(folder: Path, debates: list[list[str]], name: str = "small", seats: list[int] | None = None) -> list[Row]:
    """The rows of a file. `seats`: in which order the seats stand, under names of their place."""
    lines = []
    for n, rounds in enumerate(debates):
        texts = [
            [
                None
                if spoken[seat] == " "
                else "no idea"
                if spoken[seat] == "-"
                else f"Seat {seat} of {n}: ({spoken[seat]})"
                for spoken in rounds
            ]
            for seat in seats or range(len(rounds[0]))
        ]
        agents = [
            {"id": f"a{seat}", "rounds": said, "prompt_chars": [100 * (t + 1) for t in range(len(said))]}
            for seat, said in enumerate(texts)
        ]
        lines.append(
            {
                "task_id": f"t{n}",
                "dataset": "d",
                "question": f"Question {n}?",
                "gold": "A",
                "options": ["red", "green", "blue", "grey"],
                "agents": agents,
            }
        )
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return load_recorded(path)


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    return written(tmp_path, PANEL)


def said_of(row: Row, number: int) -> dict[str, str | None]:
    return {said.seat: said.answer for said in row.recording.debated.rounds[number - 1]}


@pytest.mark.parametrize("name", [name for name, policy in POLICIES.items() if policy.ask == "all"])
def test_the_graph_and_the_policy_alone_come_to_the_same(rows: list[Row], name: str) -> None:
    """Catches: a vote lost or doubled between recording, reply, ballot and verdict; a round too many; tokens of replies
    that nobody asked for."""
    held = run_arm(ARMS[name], rows)
    alone = outcomes(POLICIES[name], [row.recording for row in rows])
    for one, other in zip(held, alone, strict=True):
        assert (one.tied, one.abstained, one.stop_reason, one.rounds, one.calls, one.tokens) == (
            other.tied,
            other.abstained,
            other.stop_reason,
            other.rounds,
            other.calls,
            other.tokens,
        )
        assert one.confidence == pytest.approx(other.confidence, abs=1e-12)
        assert one.suspicion == pytest.approx(other.suspicion, abs=1e-12)


def test_one_seat_says_what_it_said(rows: list[Row]) -> None:
    """Catches: a single agent that is always the same seat, or that is shown the others."""
    seats = Counter()
    for row, outcome in zip(rows, run_arm(ARMS["single"], rows), strict=True):
        assert outcome.calls == 1
        first = row.recording.debated.rounds[0][0]
        seats[first.seat] += 1
        assert outcome.tied == (() if first.answer is None else (first.answer,))
        chars = len(first.text) + row.recording.prompt_chars[1, first.seat]
        assert outcome.tokens == chars / 4
    assert len(seats) > 1


def test_the_rule_needs_a_majority_of_the_panel_and_stops_when_it_has_one(rows: list[Row]) -> None:
    """Catches: a plurality that passes as a majority; rounds that go on after it."""
    for row, outcome in zip(rows, run_arm(ARMS["rule"], rows), strict=True):
        winner, counts = (), Counter()
        for number in range(1, len(row.recording.debated.rounds) + 1):
            counts = Counter(answer for answer in said_of(row, number).values() if answer)
            winner = tuple(answer for answer, count in counts.items() if 2 * count > 3)
            if winner:
                break
        leading = tuple(sorted(answer for answer, count in counts.items() if count == max(counts.values())))
        assert outcome.decided == bool(winner)
        assert outcome.tied == (winner or leading)
        assert outcome.rounds == number


def test_the_judge_is_asked_only_where_the_panel_differs_and_costs_one_reply(rows: list[Row]) -> None:
    """Catches: a judge who is asked about a unanimous panel, a lost word, a judge that costs nothing."""
    for row, outcome in zip(rows, run_arm(ARMS["judge"], rows), strict=True):
        first = set(said_of(row, 1).values())
        rounds = row.recording.debated.rounds
        if len(first) == 1 and None not in first:
            assert outcome.calls == 3 and outcome.tied == tuple(first)
        elif len(rounds) > 1:
            assert outcome.calls == 4
            assert outcome.decided == (rounds[1][0].answer is not None)
            assert not outcome.decided or outcome.tied == (rounds[1][0].answer,)
        else:
            assert outcome.calls == 3 and not outcome.decided


def test_every_arm_ends_on_every_row_and_keeps_the_ledger_whole(tmp_path: Path, rows: list[Row]) -> None:
    """Catches: an arm that raises on a debate without a winner, or on one that nobody could read."""
    odd = written(tmp_path, [["---", "---"], ["-- ", " --"], ["A  ", "  B"], ["ABC", "BCA", "CAB"]], "odd")
    for number, arm in enumerate(ARMS.values()):
        with open_ledger(tmp_path / f"{number}.db") as ledger:
            for piece in (rows, odd):
                made = run_arm(arm, piece, ledger=ledger)
                assert [one.recording.key for one in made] == [row.recording.key for row in piece]
                assert all(one.tied or one.abstained for one in made)
                assert all(one.tokens <= tokens(one.recording) for one in made)
            assert ledger.verify() > 0


def test_rows_that_hold_the_same_are_one_debate(tmp_path: Path) -> None:
    """Catches: two equal rows that collide in the ledger, and the second one resumed as the first."""
    rows = written(tmp_path, [["AAB", "AAA"], ["BBC", "BBB"]])
    twice = run_arm(ARMS["robust"], [*rows, *rows])
    assert [one.tied for one in twice[:2]] == [one.tied for one in twice[2:]]


def test_only_first_replies_that_were_asked_for_are_learned_from(tmp_path: Path, rows: list[Row]) -> None:
    """Catches: reliabilities learned from replies that the arm never paid for."""
    for row in rows:
        for name in ("reliable", "robust", "lead", "value"):
            seen = first_round(POLICIES[name], row)
            whole = {said.seat: said for said in row.recording.debated.rounds[0]}
            assert len(seen.rounds) == 1
            unread = Said("", None)
            assert [said.answer for said in seen.rounds[0]] == [
                whole.get(said.seat, unread).answer for said in seen.rounds[0]
            ]
            assert all(bool(said.text) == (said.answer is not None) for said in seen.rounds[0])
    (wide,) = written(tmp_path, [["A" * 10]], "wide")
    assert len(first_round(POLICIES["lead"], wide).rounds[0]) == 3


def test_a_name_a_seat_or_a_place_changes_nothing(tmp_path: Path) -> None:
    """Catches: an order of rows or seats, or a name, that a debate's outcome depends on."""
    chance = random.Random(3)
    debates = [["".join(chance.choices("ABCD-", k=5)) for _ in range(3)] for _ in range(12)]
    first = {row.prompt: row for row in written(tmp_path, debates)}
    there = written(tmp_path, debates, "elsewhere", [3, 1, 4, 0, 2])
    for name in ("robust", "lead", "single", "judge", "independent"):
        one = {o.recording.question: o for o in run_arm(ARMS[name], list(first.values()))}
        other = {o.recording.question: o for o in run_arm(ARMS[name], there[::-1])}
        assert one.keys() == other.keys()
        for question, a in one.items():
            b = other[question]
            assert (a.tied, a.calls, a.rounds, a.confidence) == (b.tied, b.calls, b.rounds, b.confidence)


def test_bad_requests_are_named(tmp_path: Path, rows: list[Row]) -> None:
    """Catches: reliabilities learned across panels; a typing error that runs another arm."""
    with pytest.raises(ConfigError, match="one run at a time"):
        run_arm(ARMS["vote"], [*rows, *written(tmp_path, PANEL, "other")])
    with pytest.raises(ConfigError, match="there is no arm 'rubust'"):
        arm_named("rubust")


def test_a_row_may_lack_a_seat_of_its_run(tmp_path: Path) -> None:
    """Catches: what was learned of a seat that is absent here, refused as a stranger; the whole run would fail."""
    few = {"id": "a0", "rounds": ["It is (A)."]}, {"id": "a1", "rounds": ["It is (B)."]}
    rows = written(tmp_path, PANEL)
    path = tmp_path / "small.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines.append({**lines[0], "task_id": "few", "question": "Fewer?", "agents": list(few)})
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    for name in ("robust", "reliable", "judge", "rule"):
        made = run_arm(ARMS[name], load_recorded(path))
        assert len(made) == len(rows) + 1 and made[-1].calls in (2, 3)
