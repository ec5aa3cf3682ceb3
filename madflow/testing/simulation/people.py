"""The humans: they answer doubts after a while, some having looked and some not; and what counts as ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from ...core.journal import CommitState, Journal, KeyState
from .world import Place

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["People", "Word"]

RETRIES_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class Word:
    """What a human says about one doubt."""

    key: str
    place: Place
    doubt_seq: int
    word: Literal["done", "failed", "retry"]
    by: str


class People:
    """Reads the ledger as it grows, as people do: beside the submitter."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self._journal = cluster, Journal()
        self._said: dict[tuple[str, int], Word] = {}
        self._asked: set[tuple[str, int]] = set()
        self._applied: set[tuple[str, int]] = set()

    def _read(self) -> Journal:
        for record in self.cluster.ledger.records[self._journal.place :]:
            self._journal.add(record)
        return self._journal

    def words_for(self, journal: Journal) -> list[Word]:
        """What was said about the doubts that are open in a submitter's journal; asks about those that are new."""
        found = []
        for commit in journal.commits.values():
            if commit.closed:
                continue
            for key in commit.doubts:
                doubt = (key.key, key.doubt_seq)
                if doubt in self._said:
                    found.append(self._said[doubt])
                elif doubt not in self._asked:
                    self._asked.add(doubt)
                    self._ask(commit, key)
        return found

    def _ask(self, commit: CommitState, key: KeyState) -> None:
        if self.cluster.scenario.humans:
            place: Place = (commit.commit_id, key.index, key.direction)
            self.cluster.after(self.cluster.rng.randrange(45, 100), self._answer, (place, key.key, key.doubt_seq))

    def _answer(self, asked: tuple[Place, str, int]) -> None:
        place, key, doubt_seq = asked
        rng, world = self.cluster.rng, self.cluster.world
        tired = world.granted.get(place, 0) >= RETRIES_MAX
        words: tuple[Literal["done", "failed", "retry"], ...]
        if rng.random() < self.cluster.scenario.careless:
            words = ("done", "failed") if tired else ("done", "failed", "retry")
        elif world.effects.get(place):
            words = ("done",)
        else:
            words = ("failed",) if tired else ("failed", "retry")
        self._said[key, doubt_seq] = Word(key, place, doubt_seq, rng.choice(words), rng.choice(("ann", "bob")))

    def counts(self, word: Word) -> None:
        """A leader is about to apply the word: from now on the world is as the human says."""
        if (word.key, word.doubt_seq) in self._applied:
            return
        self._applied.add((word.key, word.doubt_seq))
        world = self.cluster.world
        self.cluster.note(None, "human", [word.word, "{} {} {}".format(*word.place)])
        self.cluster.counts["human"] += 1
        world.spoken.add(word.place)
        if word.word == "retry":
            world.granted[word.place] = world.granted.get(word.place, 0) + 1

    def closed(self) -> list[str]:
        """The commits that have ended."""
        return [name for name, commit in self._read().commits.items() if commit.closed]

    def ended(self) -> bool:
        """Whether every commit that was asked for has ended, or waits for a human who is not there."""
        journal = self._read()
        stuck = [c for c in journal.commits.values() if c.status == "in_doubt" and not self.cluster.scenario.humans]
        held = {target for commit in stuck for target in commit.targets}
        for name in self.cluster.requested:
            state = journal.commits.get(name)
            admitted = state is not None and state.admitted
            if state is not None and (state.closed or state in stuck):
                continue
            if admitted or held.isdisjoint(self.cluster.commits[name].targets):
                return False
        return True

    def ends(self) -> dict[str, int]:
        """How many commits ended how."""
        found: dict[str, int] = {}
        for commit in self._read().commits.values():
            found[commit.status] = found.get(commit.status, 0) + 1
        return found
