"""Every example runs offline, is short, and comes to what it claims, as a module and as a script."""

import asyncio
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from madflow import Proposal

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
LINES_MAX = 40


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ledgers go where the reader stands."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_short_and_tested(name: str) -> None:
    """Would catch an example that grows, or one that nothing here asserts on."""
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= LINES_MAX
    assert f'example("{name}")' in Path(__file__).read_text()


def test_smallest_debate() -> None:
    """Three estimates, no majority; then everybody has read everybody."""
    done = example("smallest_debate").main()
    rounds = [row["counts"] for row in done.content["positions"]]
    assert rounds == [{"1": 1, "3": 1, "10": 1}, {"3": 3}]
    assert (done.decision.result, done.content["answer"], done.usage["calls"]) == ("approved", "3", 6)


def test_own_agents() -> None:
    """The two that hardly trust their readings follow the one that is sure: not the majority of heads."""
    done = example("own_agents").main()
    assert [row["counts"] for row in done.content["positions"]] == [{"keep": 2, "rollback": 1}, {"rollback": 3}]
    assert done.approved


def test_mediated_plan() -> None:
    """Voted down as drafted; the mediator's version is another proposal, with an id and a vote of its own."""
    done = example("mediated_plan").main()
    assert done.approved
    assert done.proposal_id.endswith("-p2")
    assert done.content["supersedes"].endswith("-p1")
    assert [step.step for step in done.plan] == ["write", "test"]
    assert [risk.kind for risk in done.risks] == ["rollback"]
    assert done.decision.mediation is not None
    assert {vote.decision for vote in done.votes} == {"approve"}


def test_simulated_panel() -> None:
    """Debating loses to one bad seat of three what voting keeps; the policy that learns whom to believe keeps most."""
    rows = {(row.seats, row.bad, row.policy): row for row in example("simulated_panel").main()}
    vote, debate, robust = (rows[3, 1, policy] for policy in ("vote", "debate", "robust"))
    assert debate.accuracy < vote.accuracy < robust.accuracy
    assert robust.tokens < debate.tokens / 2


def test_review_gate(capsys: pytest.CaptureFixture[str]) -> None:
    """The gate stops the pull request; a diff with nothing to it passes, and one nobody can read does not."""
    module = example("review_gate")
    assert module.gate(module.main()) == 1
    assert "config/service.yaml:11: critical" in capsys.readouterr().out
    for text, code in (("x = 1", 0), ("y = input() ** 2", 0)):
        assert module.gate(review_of(module, "a.py", text)) == code
    assert module.gate(review_of(module, "a.go", "package a")) == 1


def review_of(module: ModuleType, name: str, line: str) -> Proposal:
    Path("tree").mkdir(exist_ok=True)
    (Path("tree") / name).write_text(f"{line}\n")
    Path("one.diff").write_text(f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,1 @@\n+{line}\n")
    proposal: Proposal = module.main(Path("one.diff"), Path("tree"))
    return proposal


def test_restaurant() -> None:
    """One random voter delays agreement and cannot decide alone: a majority is three of five, he is one of them."""
    module = example("restaurant")
    done = [module.main(seed) for seed in range(1, 9)]
    assert [proposal.decision.rounds for proposal in done] == [5, 2, 3, 4, 4, 5, 12, 4]
    for proposal in done:
        assert proposal.approved
        winners = {vote.agent for vote in proposal.votes if vote.decision == proposal.content["answer"]}
        assert len(winners - {"eve"}) >= 2


def test_commit_a_plan(tmp_path: Path) -> None:
    """The second plan overwrote the file before its test failed: it holds what it held."""
    done = example("commit_a_plan").main(tmp_path)
    assert [(receipt.status, receipt.rollback) for receipt in done] == [
        ("committed", None),
        ("compensated", "complete"),
    ]
    assert (tmp_path / "config/queue.toml").read_text() == "attempts = 3\n"


def test_commit_own_steps(tmp_path: Path) -> None:
    """One seat for the trip that was asked for twice, none for the one that could not be paid."""
    module = example("commit_own_steps")
    first, again, declined = asyncio.run(module.main(tmp_path))
    assert first == again and (first.status, declined.status) == ("committed", "compensated")
    assert list(module.SEATS.values()) == ["12A"]


@pytest.mark.parametrize("name", NAMES)
def test_as_a_script(name: str) -> None:
    ran = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, check=False)
    assert ran.returncode == (1 if name == "review_gate" else 0), ran.stderr
    assert ran.stdout
    assert ran.stderr == ""
