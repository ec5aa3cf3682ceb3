"""The public names: few, sorted, there, and loaded only when they are used."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import madflow
from madflow import commit

PUBLIC_MAX = 20
TYPED = Path(__file__).with_name("typing_api.py")


def test_few_sorted_and_there() -> None:
    """Would catch a name that is listed and cannot be loaded, or that crept in."""
    assert madflow.__all__ == sorted(madflow.__all__)
    assert len(madflow.__all__) <= PUBLIC_MAX
    for name in madflow.__all__:
        assert getattr(madflow, name) is not None
    assert set(madflow.__all__) <= set(dir(madflow))


def test_what_the_issue_names() -> None:
    for name in ("Agent", "Budget", "Crew", "Debate", "load_crew", "rules", "run", "run_sync", "stream"):
        assert name in madflow.__all__
    for name in ("Committer", "Gate", "Policy", "Saga", "Step", "Receipt"):
        assert name in madflow.__all__


def test_the_commit_layer_names_its_own() -> None:
    """Would catch a name of `madflow.commit` that cannot be loaded, or is another thing than the top level's."""
    assert commit.__all__ == sorted(commit.__all__)
    for name in commit.__all__:
        assert getattr(commit, name) is getattr(madflow, name, getattr(commit, name))
    with pytest.raises(AttributeError, match="public names: Admitted, Committer"):
        commit.Comitter  # noqa: B018


def test_a_name_is_the_thing_itself() -> None:
    """Would catch a lazy copy: `except madflow.MadflowError` must catch what the package raises."""
    for name in madflow.__all__:
        found = getattr(madflow, name)
        home = importlib.import_module(found.__module__) if hasattr(found, "__module__") else found
        assert getattr(home, getattr(found, "__name__", name).rpartition(".")[2], found) is found


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match="public names: Agent, Budget"):
        madflow.Agnet  # noqa: B018


def test_a_name_loads_no_more_than_it_needs() -> None:
    """Would catch the description of a debate importing the machinery that runs it."""
    script = (
        "import sys, madflow; madflow.Agent, madflow.Budget, madflow.load_crew, madflow.Policy; print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"langgraph", "litellm", "aiohttp", "apsw", "asyncio"} & set(ran.stdout.split()) == set()


def test_public_calls_type_check() -> None:
    """Would catch a public signature that a caller's type checker refuses (typing_api.py is never run)."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(TYPED)]
    ran = subprocess.run(command, cwd=TYPED.parents[1], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
