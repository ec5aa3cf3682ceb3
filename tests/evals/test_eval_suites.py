"""Suites that ship can be used as they are; a suite that cannot be is refused with its file and field."""

import tomllib
from pathlib import Path

import pytest
from eval_rows import write_folder

from madflow.errors import ConfigError
from madflow.evals.arms import ARMS
from madflow.evals.checking import check_suite
from madflow.evals.live import LIVE_ARMS
from madflow.evals.runner import run_suites
from madflow.evals.scoring import check_measures
from madflow.evals.suites import RECORDED, Bound, Data, Suite, list_suites, load_suite

# What the issue asks of the harness: each of these measures stands in some suite.
ASKED_FOR = {
    "abstentions",
    "accuracy",
    "adversary_loss",
    "all_wrong",
    "calibration_error",
    "collapses",
    "corrections",
    "detection",
    "disagreement_collapses",
    "error_correlation",
    "gain",
    "interception",
    "latency_ms",
    "modal_adoption",
    "oracle",
    "oracle_gap",
    "right_to_wrong",
    "token_share",
    "wrong_to_right",
}
SMALL = """
name = "small"
title = "t"
arms = ["vote"]
measures = ["accuracy"]
[[data]]
label = "x"
files = ["x-*"]
"""
TARGET = '[[target]]\nname = "n"\ndata = "x"\narm = "vote"\nmeasure = "accuracy"\ntarget = ">= 1"\n'
TWO = SMALL.replace('"vote"', '"vote", "debate"') + 'arms = ["vote"]\n'
GROUPED = SMALL + 'conditions = ["clean", "adversary"]\n'


@pytest.mark.parametrize("name", list_suites())
def test_a_shipped_suite_can_be_run(name: str) -> None:
    """Catches: an arm that was renamed, a measure that is not there, a target on a group that the suite lacks."""
    suite = load_suite(list_suites()[name])
    if suite.source in ("reviews", "simulator"):
        return  # they run no arm, and measure what their makers measure
    check_measures(suite)
    assert set(suite.arms) <= set(LIVE_ARMS if suite.source == "live" else ARMS)
    stems = {file.replace("*", "one"): None for data in suite.data for file in data.files}
    found = [group for data in suite.data for group in data.groups(stems, suite.arms)]
    groups = {(group.label, group.condition): set(group.arms) for group in found}
    for target in suite.target:
        assert (target.data, target.condition) in groups, target.name
        named = {target.arm, target.against, *(bound.against for bound in target.given)} - {"", RECORDED}
        assert named <= groups[target.data, target.condition], target.name


def test_every_measure_that_is_asked_for_stands_in_a_suite() -> None:
    """Catches: a metric that is written, documented and never measured."""
    found = set()
    for path in list_suites().values():
        suite = load_suite(path)
        found |= {name.partition(":")[0] for name in (*suite.measures, *suite.recorded)}
    assert found >= ASKED_FOR


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALL.replace('arms = ["vote"]', "arms = 3"), r"small\.toml: key arms: a list is meant \(given: 3\)"),
        (SMALL.replace('"vote"', "3"), r"key arms, entry 1: text in quotes is meant \(given: 3\)"),
        (SMALL.replace('"vote"', '"Vote"'), r"key arms, entry 1: write an arm's name .* \(given: 'Vote'\)"),
        (SMALL + "colour = 1\n", r"\[\[data\]\] 1 \('x'\), key colour: there is no such key; there are label, files"),
        (SMALL.replace("title", "tilte"), r"key tilte: there is no such key \(did you mean title\?\)"),
        (SMALL.replace("[[data]]", "[data]"), r"key data: this is a list of tables; write \[\[data\]\]"),
        ('source = "recordd"\n' + SMALL, r"live is meant \(did you mean recorded\?\) \(given: 'recordd'\)"),
        ("rounds = 51\n" + SMALL, r"key rounds: 50 or less is meant \(given: 51\)"),
        ('name = "small"\n', "key title: is needed and is not there"),
        (SMALL + TARGET + "[[target.given]]\nmesure = 'x'\n", r"\('n'\), \[\[given\]\] 1, key mesure: .*mean measure"),
        ("a = " + "[" * 100_000, "is no TOML"),
        (SMALL.replace('"small"', '"other"'), "called 'other' and its file 'small'"),
        (SMALL.replace("x-*", ""), r"\[\[data\]\] 1 \('x'\), key files, entry 1: text of length 1 or more"),
        ("name = ", "is no TOML"),
        ("\xff", "is no TOML"),
        (SMALL + '[[comparison]]\nagainst = "debate"\n', "names debate, which is no arm"),
        (
            SMALL + '[[comparison]]\nagainst = "vot"\n',
            r"names vot, which is no arm of the suite \(did you mean vote\?\)",
        ),
        (TWO + TARGET.replace('"vote"', '"debate"'), r"names debate, which data 'x' leaves out \(arms: vote\)"),
        (TWO + TARGET.replace("accuracy", "swap_consistency:debate"), "names debate, which data 'x' leaves out"),
        (
            SMALL + '[[target]]\nname="n"\ndata="y"\narm="vote"\nmeasure="accuracy"\ntarget=">= 1"\n',
            r"lacks \(y\)",
        ),
        (
            SMALL + '[[target]]\nname="n"\ndata="x"\narm="vote"\nmeasure="accuracy"\ntarget="about 1"\n',
            r"\[\[target\]\] 1 \('n'\), key target: write a sign and a number.*given: 'about 1'",
        ),
        (SMALL + TARGET + 'condition = "cleen"\n', "target 'n' names the condition 'cleen', but data 'x' has ''"),
        (GROUPED + TARGET, "names the condition '', but data 'x' has 'adversary', 'clean'"),
        (GROUPED + TARGET + 'condition = "cleen"\n', "names the condition 'cleen'"),
        (GROUPED + TARGET.replace('"x"', '"x-one"') + 'condition = "cleen"\n', "names the condition 'cleen'"),
        (SMALL.replace('"accuracy"', '"swap_consistency:nobody"'), "names nobody, which is no arm"),
        (SMALL.replace('"accuracy"', '"swap_consistency"'), "names nothing, which is no arm"),
        (SMALL + TARGET.replace("accuracy", "swap_consistency:nobody"), "names nobody, which is no arm"),
    ],
)
def test_a_suite_that_cannot_be_used_is_refused(text: str, said: str, tmp_path: Path) -> None:
    """Catches: a misspelt key that is ignored, so that a suite measures less than its author believes."""
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=said):
        load_suite(path)


def test_targets_that_fit_their_data_are_taken(tmp_path: Path) -> None:
    """Catches: a target refused that names a condition of its data, by the data's label or by a file of it."""
    path = tmp_path / "small.toml"
    clean = TARGET + 'condition = "clean"\n'
    for text in (SMALL + TARGET, GROUPED + clean, GROUPED + clean.replace('"x"', '"x-one"')):
        path.write_text(text)
        assert len(load_suite(path).target) == 1


@pytest.mark.parametrize(
    ("target", "significant", "value", "low", "high", "holds"),
    [
        (">= 0.5", False, 0.5, 0.4, 0.6, True),
        (">= 0.5", False, 0.4999, 0.4, 0.6, False),
        (">= 0.5", True, 0.6, 0.4, 0.7, False),
        (">= 0.5", True, 0.6, 0.5, 0.7, True),
        ("> 0.5", False, 0.5, 0.4, 0.6, False),
        ("<= 0.5", True, 0.4, 0.3, 0.6, False),
        ("< 0.5", True, 0.4, 0.3, 0.49, True),
        (">= -0.003", False, -0.003, -0.1, 0.1, True),
        ("<= 0.5", False, None, None, None, False),
        ("<= 0.5", True, 0.4, None, None, False),
    ],
)
def test_a_bound_is_met_by_nothing_that_was_not_measured(
    target: str, significant: bool, value: float | None, low: float | None, high: float | None, holds: bool
) -> None:
    """Catches: a number rounded up to its target, the wrong end of the interval, a missing value taken for 0."""
    bound = Bound(measure="accuracy", target=target, significant=significant)
    assert bound.holds(value, low, high) is holds


def test_groups_are_the_whole_and_its_parts() -> None:
    """Catches: a file's own group that holds other files; a condition that is left out."""
    data = Data(label="made", files=("made-*",), conditions=("clean", "adversary"), each=True)
    groups = data.groups({"made-a": 1, "made-b": 2, "other": 3}, ("vote",))
    assert [(g.label, g.files, g.condition) for g in groups] == [
        ("made", ("made-a", "made-b"), "clean"),
        ("made", ("made-a", "made-b"), "adversary"),
        ("made-a", ("made-a",), "clean"),
        ("made-a", ("made-a",), "adversary"),
        ("made-b", ("made-b",), "clean"),
        ("made-b", ("made-b",), "adversary"),
    ]
    assert [g.key for g in Data(label="x", files=("x",)).groups({"x": 1}, ("vote",))] == [
        {"data": "x", "condition": "all"}
    ]


def test_a_group_without_debates_is_noted(tmp_path: Path) -> None:
    """Catches: a misspelt condition whose figures are missing, and nothing says so."""
    folder = write_folder(tmp_path / "recorded")
    body = {"name": "small", "title": "t", "arms": ["vote"], "measures": ["accuracy"]}
    notes = []
    for conditions in (["clean", "adversary"], ["cleen", "adversary"]):
        data = [{"label": "made", "files": ["made-debates"], "conditions": conditions}]
        suite = Suite.model_validate({**body, "data": data})
        notes.append(run_suites([suite], [folder], tmp_path / conditions[0])[0].results.notes)
    assert notes[0] == ()
    assert notes[1] == (
        "No debates, so no figures: made, condition cleen. The conditions of the recordings are: adversary, clean.",
    )


def made(**fields: object) -> Suite:
    data = [{"label": "made", "files": ["made-debates"], "conditions": ["clean", "adversary"]}]
    body = {"name": "small", "title": "t", "arms": ["vote", "debate"], "measures": ["accuracy"], "data": data}
    return Suite.model_validate({**body, **fields})


BOUND = {"name": "n", "data": "made", "condition": "clean", "arm": "vote", "measure": "accuracy", "target": ">= 1"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"arms": ["vot"]}, r"suite small: arms: there is no arm 'vot' \(did you mean vote\?\); there are single, "),
        ({"measures": ["acuracy"]}, r"measures: there is no measure 'acuracy' \(did you mean accuracy\?\)"),
        ({"measures": ["oracle"]}, "measure oracle takes an argument"),
        ({"recorded": ["accuracy"]}, "recorded: measure accuracy is of an arm, not of what was said"),
        ({"recorded": ["adversary_loss"]}, "recorded: measure adversary_loss is of an arm"),
        ({"target": [{**BOUND, "arm": "recorded"}]}, r"\[\[target\]\] 'n': measure accuracy is of an arm"),
        ({"target": [{**BOUND, "against": "debate", "measure": "oracle:1"}]}, "it cannot be compared"),
        ({"comparison": [{"against": "vote", "measures": ["oracle:1"]}]}, "oracle:1 is of what was said"),
        ({"comparison": [{"against": "vote", "measures": ["detection"]}]}, "detection cannot be compared"),
        (
            {"measures": ["interception:7"]},
            "suite small: measures: measure 'interception:7': 7 is not a share .* 0 to 1",
        ),
        ({"measures": ["interception_outcome:nan"]}, "nan is not a share of false flags"),
        ({"recorded": ["oracle:99999999999"]}, "recorded: .*99999999999 is not a round, which is 1 to 64"),
        ({"recorded": ["unanimity:0"]}, "0 is not a round"),
        ({"recorded": ["latency_ms:101"]}, "101 is not a percentile, which is 0 to 100"),
        (
            {"target": [{**BOUND, "measure": "interception:-1"}]},
            r"\[\[target\]\] 'n': measure 'interception:-1': -1 is",
        ),
        ({"measures": ["adversary_loss:7"]}, "measure adversary_loss takes no argument"),
    ],
)
def test_what_a_suite_names_is_there_and_fits(fields: dict[str, object], said: str) -> None:
    """Catches: a typo without a hint, a measure in the wrong place, found as a KeyError when all is done, and one of
    nothing, which is silently null."""
    check_suite(made())
    with pytest.raises(ConfigError, match=said):
        check_suite(made(**fields))


def test_figures_that_an_arm_is_missing_for_are_noted(tmp_path: Path) -> None:
    """Catches: a measure that is in the suite, not in the results, and nowhere mentioned."""
    folder = write_folder(tmp_path / "recorded")
    data = [
        {"label": "all", "files": ["made-debates"]},
        {"label": "some", "files": ["made-sums"], "arms": ["debate"]},
    ]
    suite = made(data=data, measures=["swap_consistency:vote"])
    found = run_suites([suite], [folder], tmp_path / "out")[0].results
    assert {one.group["data"] for one in found.measures} == {"all"}
    assert found.notes == ("No swap_consistency:vote on data some: its arms leave out vote.",)


def test_the_documented_suite_has_every_key(tmp_path: Path) -> None:
    """Catches: a key that can be given and stands in no example, and an example that cannot be loaded."""
    text = (Path(__file__).parents[2] / "docs/reference/suites.md").read_text(encoding="utf-8")
    body = text.split("```toml file=mine.toml\n", 1)[1].split("```", 1)[0]
    path = tmp_path / "mine.toml"
    path.write_text(body, encoding="utf-8")
    assert set(tomllib.loads(body)) == set(Suite.model_fields)
    check_suite(load_suite(path))


def test_one_file_is_a_group_of_its_own() -> None:
    """Catches: a target on a file that is unmeasured because the others are not there; a group that is there twice."""
    data = Data(label="made", files=("made-*",), each=True)
    assert [g.label for g in data.groups({"made-a": 1}, ("vote",))] == ["made", "made-a"]
    assert [g.label for g in Data(label="made-a", files=("made-a",), each=True).groups({"made-a": 1}, ())] == ["made-a"]
