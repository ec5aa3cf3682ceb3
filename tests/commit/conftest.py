"""A bench a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from commit_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "tree")
    yield made
    made.close()
