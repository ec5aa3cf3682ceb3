"""Who sees whom, in which order, and under which name."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.core.topology import Topology, labels, order, parse_topology, visible
from madflow.errors import ConfigError

AGENTS = tuple(f"agent{i}" for i in range(7))
PANELS = st.lists(st.text("abcdefgh0123", min_size=1, max_size=4), unique=True, min_size=1, max_size=9)
GOLDEN = ["ann,cid,eve,dan,bob", "C,D,B,E,A", "ann,dan,eve", "ann,bob,cid"]
KINDS = st.sampled_from(["all", "ring", "sparse:1", "sparse:2", "sparse:3", "sparse:20"])


@pytest.mark.parametrize("text", ["all", "ring", "sparse:1", "sparse:12"])
def test_topologies_have_a_text(text: str):
    """Catches a configuration that does not read back."""
    assert str(parse_topology(text)) == text
    assert parse_topology(f" {text} ") == parse_topology(text)


@pytest.mark.parametrize(
    "text", ["", "star", "sparse", "sparse:0", "sparse:-1", "sparse:x", "sparse:2.5", "All", "ring:2"]
)
def test_bad_topologies_name_the_fix(text: str):
    """Catches a typo read as all-to-all."""
    with pytest.raises(ConfigError, match="use all, ring, or sparse:K"):
        parse_topology(text)


@settings(max_examples=200, deadline=None)
@given(PANELS, KINDS, st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_degrees(agents: list[str], text: str, round_: int, seed: int):
    """Own turn always seen; out-degree as promised; in-degree equal for all. Catches a seat that nobody hears."""
    topology = parse_topology(text)
    seen = {reader: visible(topology, agents, reader, round_, seed) for reader in agents}
    others = len(agents) - 1
    expected = {"all": others, "ring": min(2, others), "sparse": min(topology.k, others)}[topology.kind]
    for reader, ids in seen.items():
        assert reader in ids
        assert list(ids) == sorted(set(ids))
        assert len(ids) == expected + 1
        assert sum(reader in other for other in seen.values()) == expected + 1


@settings(max_examples=100, deadline=None)
@given(PANELS, KINDS, st.integers(1, 9), st.integers(0, 99), st.randoms(use_true_random=False))
def test_the_order_of_the_panel_does_not_matter(agents, text, round_, seed, rng):
    """Catches a draw that follows the list instead of the ids."""
    shuffled = list(agents)
    rng.shuffle(shuffled)
    topology = parse_topology(text)
    for reader in agents:
        assert visible(topology, agents, reader, round_, seed) == visible(topology, shuffled, reader, round_, seed)
    one, other = (order(panel, debate_id="d", round=round_, seed=seed) for panel in (agents, shuffled))
    assert one == other
    one, other = (labels(panel, debate_id="d", seed=seed) for panel in (agents, shuffled))
    assert list(one.items()) == list(other.items())


def test_ring_stays_and_sparse_moves():
    """Catches sparse neighbourhoods that never change, and a ring that is redrawn."""

    def seen(topology: Topology) -> list[tuple[str, ...]]:
        return [visible(topology, AGENTS, "agent0", round_, 7) for round_ in range(1, 20)]

    assert len(set(seen(Topology("ring")))) == 1
    moved = seen(Topology("sparse", 2))
    assert set().union(*moved) == set(AGENTS)
    assert len({visible(Topology("ring"), AGENTS, "agent0", 1, seed) for seed in range(50)}) > 5


def test_a_ring_is_mutual_and_whole():
    """Catches two small circles, or neighbours of whom only one listens."""
    seen = {reader: set(visible(Topology("ring"), AGENTS, reader, 1, 3)) for reader in AGENTS}
    assert all(reader in seen[other] for reader in AGENTS for other in seen[reader])
    reached = {AGENTS[0]}
    while more := set().union(*(seen[agent] for agent in reached)) - reached:
        reached |= more
    assert reached == set(AGENTS)


def test_transcripts_are_ordered_anew_each_round_and_fairly():
    """Catches one seat that always speaks first, in its favour."""
    drawn = [order(AGENTS, debate_id="d1", round=round_, seed=0) for round_ in range(1, 701)]
    assert all(sorted(ids) == sorted(AGENTS) for ids in drawn)
    first = [sum(ids[0] == agent for ids in drawn) for agent in AGENTS]
    assert all(60 <= count <= 140 for count in first), first
    assert order(AGENTS, debate_id="d2", round=1, seed=0) != order(AGENTS, debate_id="d1", round=1, seed=0)


def test_labels_are_letters_and_do_not_follow_the_ids():
    """Catches labels that give an agent away, and an alphabet that ends at Z."""
    named = labels(AGENTS, debate_id="d1", seed=0)
    assert sorted(named.values()) == list("ABCDEFG")
    assert [named[agent] for agent in AGENTS] != list("ABCDEFG")
    assert len({labels(AGENTS, debate_id="d1", seed=seed)["agent0"] for seed in range(50)}) > 4
    many = labels([f"a{i}" for i in range(703)], debate_id="d", seed=0)
    assert len(set(many.values())) == 703
    assert {"Z", "AA", "AZ", "ZZ", "AAA"} <= set(many.values())


def test_bad_panels():
    """Catches a reader without a seat, or a panel with a twin, passed in silence."""
    with pytest.raises(ConfigError, match="reader 'eve' has no seat"):
        visible(Topology("all"), AGENTS, "eve", 1, 0)
    with pytest.raises(ConfigError, match="listed twice"):
        visible(Topology("all"), ("a", "a"), "a", 1, 0)
    with pytest.raises(ConfigError, match="listed twice"):
        order(("a", "a"), debate_id="d", round=1, seed=0)
    with pytest.raises(ConfigError, match="listed twice"):
        labels(("a", "a"), debate_id="d", seed=0)


def test_draws_are_the_same_everywhere():
    """Golden draws, under two hash seeds. Catches any change to the draw: it would change every replayed prompt."""
    code = (
        "from madflow.core.topology import *\n"
        "panel = {'ann', 'bob', 'cid', 'dan', 'eve'}\n"
        "print(*order(tuple(panel), debate_id='d1', round=2, seed=7), sep=',')\n"
        "print(*labels(tuple(panel), debate_id='d1', seed=7).values(), sep=',')\n"
        "print(*visible(parse_topology('sparse:2'), tuple(panel), 'ann', 2, 7), sep=',')\n"
        "print(*visible(parse_topology('ring'), tuple(panel), 'ann', 2, 7), sep=',')\n"
    )
    for hash_seed in ("0", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == GOLDEN
