"""Results: what was not measured is null, the document reads back as it was written, measures are the metrics."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from madflow.core.policies import Debated, Said, policy_named
from madflow.errors import ConfigError, MadflowError
from madflow.evals import metrics
from madflow.evals.bootstrap import Interval, estimate
from madflow.evals.files import Lines, replace_file
from madflow.evals.measuring import MEASURES, measure_named, round_measures, unanimity
from madflow.evals.records import Outcome, Recording, outcomes
from madflow.evals.results import Figures, Results, cut, figures, read_results, shown
from madflow.evals.stamps import code_stamp, digest_of, file_digest

SEATS = ("s0", "s1", "s2")


def recording(number: int, *rounds: str, gold: str = "A", run: str = "r") -> Recording:
    """A text a round: seat i said its i-th letter; a dot is a reply that could not be read."""
    said = tuple(
        tuple(Said(f"s{i}", None if letter == "." else letter, text=f"{letter}!") for i, letter in enumerate(text))
        for text in rounds
    )
    key, question = f"k{number}", f"q{number % 5}"
    debated = Debated(said, SEATS, rounds_max=3, options=4)
    return Recording(key, question, run, debated, gold=gold, adversaries=frozenset({"s2"}))


RECORDINGS = [
    recording(n, *texts, gold="ABC"[n % 3])
    for n, texts in enumerate([("AAB", "AAA"), ("ABC", "AAB", "ABA"), ("BB.",), ("CCC",), ("AB.", "BB.")] * 3)
]


def made() -> list[Outcome]:
    return outcomes(policy_named("pooled"), RECORDINGS)


def document() -> dict[str, Any]:
    return {
        "schema": "madflow.results/1",
        "suite": "s",
        "title": "t",
        "created_at": "2026-01-01T00:00:00.000Z",
        "madflow": "0",
        "code": {"digest": "d"},
        "command": "c",
        "config": {},
        "data": [],
        "seeds": {"bootstrap": 0},
        "elapsed_s": 1.0,
    }


def test_what_is_no_number_is_null() -> None:
    """Catches: nan or infinity in JSON, which no other reader takes, and a 0 for what was not measured."""
    found = figures(Interval(0.5, math.nan, math.inf, 0.95, 1, 0, 1))
    assert found == {"value": 0.5, "low": None, "high": None}
    body = {**document(), "measures": [{"group": {}, "arm": "a", "measure": "m", "n": 0, "questions": 0, **found}]}
    assert Results.model_validate(body).to_json()["measures"][0]["low"] is None


def test_results_read_back(tmp_path: Path) -> None:
    """Catches: a document that the report cannot read, and one of another kind or version that it takes."""
    path = tmp_path / "results.json"
    replace_file(path, json.dumps(document()))
    assert read_results(path) == read_results(tmp_path) == Results.model_validate(document())
    for change, said in [
        ({"schema": "madflow.results/2"}, "schema"),
        ({"colour": 1}, "colour"),
        ({"elapsed_s": "long"}, "elapsed_s"),
    ]:
        replace_file(path, json.dumps({**document(), **change}))
        with pytest.raises(ConfigError, match=said):
            read_results(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_results(tmp_path / "nothing.json")


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_its_metric(name: str) -> None:
    """Catches: a name that stands for another metric, or for the other of two groups of cases."""
    argument = {"interception": "0.216", "interception_outcome": "0.216", "latency_ms": "50"}.get(name, "1")
    of, kind, _ = MEASURES[name]
    measure = measure_named(f"{name}:{argument}" if kind else name)
    assert measure.of == of
    figure = measure.figure(made() if of == "outcomes" else RECORDINGS, draws=20)
    assert figure.n == len(RECORDINGS)
    outcome_metric = getattr(metrics, name, None)
    plain = {"tokens", "calibration_error", "interception", "auc", "error_correlation"}
    if outcome_metric is not None and name not in plain:
        cases: Any = made() if of == "outcomes" else RECORDINGS
        items = outcome_metric(cases, 1) if kind else outcome_metric(cases)
        share = name not in {"brier", "gain", "oracle_gap", "token_share"}
        assert figure.interval == estimate(items, draws=20, share=share)


def test_measures_that_are_functions_of_all_cases() -> None:
    """Catches: pairs, scores or weights that get lost between a recording and its metric."""
    assert measure_named("error_correlation").figure(RECORDINGS, draws=5).interval.value == pytest.approx(
        metrics.error_correlation(RECORDINGS)
    )
    cases = [(score, wrong) for _, score, wrong in metrics.consensus_cases(made())]
    caught = measure_named("interception:0.3").figure(made(), draws=5).interval.value
    assert caught == metrics.interception(cases, 0.3)
    assert measure_named("auc").figure(made(), draws=5).interval.value == metrics.auc(cases)
    share = measure_named("consensus").figure(made(), draws=5).interval.value
    assert share == pytest.approx(len(cases) / len(RECORDINGS))
    pairs = [(one.confidence, item.part) for one, item in zip(made(), metrics.accuracy(made()), strict=True)]
    found = measure_named("calibration_error").figure(made(), draws=5).interval.value
    assert found == pytest.approx(metrics.calibration_error(pairs))
    assert math.isnan(measure_named("latency_ms:50").figure(RECORDINGS, draws=5).interval.value)


def test_what_is_no_share_has_no_exact_bound() -> None:
    """Catches: "at least 0.9 rounds" for an arm that always has one, and a bound missing where there is one."""
    once = [replace(one, rounds=1, abstained=False) for one in made()]
    rounds, abstentions = (measure_named(name).figure(once).interval for name in ("rounds", "abstentions"))
    assert (rounds.low, rounds.value, rounds.high) == (1, 1, 1)
    assert abstentions.low == abstentions.value == 0 < abstentions.high


def test_curves_are_of_one_round_and_the_step_after_it() -> None:
    """Catches: flips of all rounds in each of them; a reply that could not be read counted as agreement."""
    first, second = round_measures(RECORDINGS[:2], 1), round_measures(RECORDINGS[:2], 2)
    assert [item.part for item in first["unanimity"]] == [0, 0]
    assert [item.part for item in second["unanimity"]] == [1, 0]
    assert sum(item.whole for item in first["right_to_wrong"]) == 3
    assert [sum(item.whole for item in second[name]) for name in ("right_to_wrong", "wrong_to_right")] == [0, 2]
    assert sum(item.part for item in second["wrong_to_right"]) == 1
    cases = [recording(0, "AA."), recording(1, "AAA"), recording(2, "...")]
    assert [item.part for item in unanimity(cases, 1)] == [0, 1, 0]


def test_an_unknown_measure_is_refused() -> None:
    """Catches: a misspelt measure that is left out in silence."""
    for text, said in [("truth", "no measure 'truth'"), ("accuracy:1", "takes no"), ("oracle:one", "'one' is no int")]:
        with pytest.raises(ConfigError, match=said):
            measure_named(text)


def test_lines_survive_a_torn_end_and_nothing_else(tmp_path: Path) -> None:
    """Catches: a half-written line that is read, or kept before the next one."""
    path = tmp_path / "a.jsonl"
    with Lines(path) as lines:
        lines.append({"n": 1})
        lines.append({"n": 2})
    path.write_bytes(path.read_bytes() + b'{"n": 3')
    with Lines(path) as lines:
        assert lines.entries == [{"n": 1}, {"n": 2}]
        lines.append({"n": 4})
    assert path.read_text() == '{"n": 1}\n{"n": 2}\n{"n": 4}\n'
    with pytest.raises(MadflowError, match="cannot be written"):
        Lines(tmp_path / "no" / "a.jsonl")


def test_the_code_digest_follows_every_module(tmp_path: Path) -> None:
    """Catches: results of changed code that look like those of before."""
    package = tmp_path / "madflow"
    (package / "core").mkdir(parents=True)
    (package / "core" / "a.py").write_text("1")
    before = code_stamp(package)
    assert before == code_stamp(package) and before.commit is None
    (package / "core" / "a.py").write_text("2")
    changed = code_stamp(package)
    (package / "core" / "a.py").rename(package / "core" / "b.py")
    assert len({before.digest, changed.digest, code_stamp(package).digest}) == 3
    git = tmp_path / ".git"
    (git / "refs").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/main\n")
    (git / "refs" / "main").write_text("a" * 40 + "\n")
    assert code_stamp(package).commit == "a" * 40
    assert file_digest(package / "core" / "b.py") == digest_of("2")
    with pytest.raises(ConfigError, match="cannot be read"):
        file_digest(tmp_path / "nothing")


def test_numbers_are_cut_and_never_rounded_to_the_nearer_side() -> None:
    """Catches: .53496 shown as .5350 beside a target of .535; a cost rounded down."""
    assert (cut(0.53496, False), cut(0.53496, True)) == ("0.5349", "0.5350")
    assert (cut(-0.00004, False), cut(0.1 + 0.2, False)) == ("-0.0001", "0.3000")
    assert shown(Figures(value=0.00996, low=-0.00001, high=0.03001)) == "0.0099 [-0.0001, 0.0301]"
    assert shown(Figures(value=3.99999, low=None, high=None), costs=True) == "4.0000"
    assert shown(Figures(value=None, low=None, high=None)) == "not measured"


def test_what_is_recorded_for_a_reply_does_not_make_it_read() -> None:
    """Catches: a reader praised for letters that somebody else read."""
    said = (Said("s1", "A", text="(A)"), Said("s2", "B", text='{"answer": "B'), Said("s3", None, text="hm"))
    one = Recording("k", "q", "r", Debated((said,), ("s1", "s2", "s3"), 1, 4), unread=frozenset({(1, "s2"), (1, "s3")}))
    assert measure_named("read").figure([one]).interval.value == pytest.approx(1 / 3)
