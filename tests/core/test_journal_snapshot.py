"""A journal that is restored in the middle of a saga goes on as the one that has read every record."""

import json

from hypothesis import given
from hypothesis import strategies as st
from saga_runner import PROBES, RESULTS, Saga, spec

from madflow.core.journal import Journal, KeyState
from madflow.core.plan import EffectClass
from madflow.core.saga import due

CLASSES: tuple[EffectClass, ...] = ("none", "idempotent", "verifiable", "transactional", "non_verifiable")


def settle(saga: Saga, word: str) -> None:
    """A human's word on the first key in doubt, if there is one."""
    for key in saga.commit.doubts[:1]:
        saga.human(key.index, key.direction, word)


@given(
    classes=st.lists(st.sampled_from(CLASSES), min_size=1, max_size=3),
    results=st.lists(st.sampled_from([*RESULTS, *PROBES, "crash", "dead"]), max_size=10),
    words=st.lists(st.sampled_from(["done", "failed", "retry"]), min_size=10, max_size=10),
    data=st.data(),
)
def test_going_on_from_a_snapshot(classes: list[EffectClass], results: list[str], words: list[str], data) -> None:  # type: ignore[no-untyped-def]
    """Catches a field that a snapshot forgets: another receipt, or a step that is run again or not at all."""
    saga = Saga([spec(index, effect_class) for index, effect_class in enumerate(classes)])
    for result, word in zip(results, words, strict=False):
        probing = type(saga.due()).__name__ == "Probe"
        saga.play(result if result in (PROBES if probing else RESULTS) or result in ("crash", "dead") else "done")
        settle(saga, word)
    cut = data.draw(st.integers(0, len(saga.records)))
    whole, before, restored = Journal(saga.records), Journal(saga.records[:cut]), Journal()
    restored.restore(json.loads(json.dumps(before.dump(before.commits))), term=before.term, place=before.place)
    for record in saga.records[cut:]:
        restored.add(record)
    assert (restored.term, restored.place) == (whole.term, whole.place)
    assert restored.dump(restored.commits) == whole.dump(whole.commits)
    for name, commit in whole.commits.items():
        assert due(restored.commits[name], saga.specs) == due(commit, saga.specs)
        assert restored.commits[name].status == commit.status
    assert set(restored.keys) == set(whole.keys)
    assert all(isinstance(key, KeyState) for key in restored.keys.values())
    keys = [key for commit in restored.commits.values() for key in commit.keys.values()]
    assert all(restored.keys[key.key] is key for key in keys), "a record would change one and not the other"
