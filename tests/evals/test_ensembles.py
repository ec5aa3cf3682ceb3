"""Review ensembles: loading, credit by each reading, B³, and that no arm sees a label of what it is scored by."""

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from madflow.core.same import Group, Remark
from madflow.errors import ConfigError
from madflow.evals.bootstrap import total
from madflow.evals.ensembles import load_reviews, run_reviews
from madflow.evals.ensembles.arms import ARMS, Arm, apart, at_least, by_findings, by_words
from madflow.evals.ensembles.controls import CONTROLS, by_chance
from madflow.evals.ensembles.labelled import logistic
from madflow.evals.ensembles.reviews import Comment, Pull, review_files
from madflow.evals.ensembles.scoring import bcubed, credit, f1, pairs, precision, recall
from madflow.evals.special import reviews
from madflow.evals.suites import Data, Suite, list_suites, load_suite

# What a change is about, in three wordings; the first two issues of a change are golden.
ISSUES = (
    (
        "parseHeader dereferences a null header",
        "null header is dereferenced in parse_header",
        "header may be null here",
    ),
    (
        "the retry loop sleeps while holding queueLock",
        "queue_lock is held during sleep in retry",
        "sleeps under the lock",
    ),
    ("typo in the comment: recieve", "spelling: recieve in a comment", "comment has a typo, recieve"),
    ("magic number 4711 lacks a name", "name the constant 4711", "4711 should be a named constant"),
    ("tests for the empty upload are missing", "no test covers an empty upload", "upload of nothing is untested"),
)
# Which issues each reviewer raises, by change number modulo 3.
HABITS = {
    "ann": ((0, 1), (0,), (0, 1)),
    "ben": ((0,), (0, 1), (1,)),
    "cyd": ((1, 0), (1, 0, 3), (0,)),
    "dan": ((2, 3, 4), (2, 3), (4, 2, 3)),
    "eve": ((4, 2), (3,), (2,)),
}


def line(number: int, repo: str) -> dict[str, Any]:
    reviews = {
        name: [
            {
                "text": f"{ISSUES[issue][place % 3]} ({repo})",
                "matches": [issue] if issue < 2 else [],
                "verdict": "tp" if issue < 2 else "fp",
            }
            for issue in habits[number % 3]
        ]
        for place, (name, habits) in enumerate(HABITS.items())
    }
    unsorted = {"fay": [], **dict(reversed(reviews.items()))}
    return {"pr": f"{repo}/{number}", "repo": repo, "golden": [{"id": 0}, {"id": 1}], "reviews": unsorted}


def write(folder: Path, lines: list[Any], name: str = "hand.jsonl.gz") -> Path:
    text = "".join(json.dumps(one) + "\n" for one in lines)
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, [line(number, repo) for repo in ("one", "two", "six") for number in range(3)])
    return tmp_path


def pull(*comments: tuple[str, str, set[int]], golden: int = 3, judged: bool = True) -> Pull:
    said = tuple(
        Comment(Remark(by, text), frozenset(matches), judged or bool(matches)) for by, text, matches in comments
    )
    return Pull("p", "r", frozenset(range(golden)), said)


# ---- loading


def test_a_change_is_loaded_with_reviewers_in_order(folder: Path) -> None:
    """Catches comments whose order depends on the file, a silent reviewer that counts as one."""
    loaded = load_reviews(review_files(folder)[0])
    assert [one.name for one in loaded][:2] == ["one/0", "one/1"]
    assert [comment.remark.by for comment in loaded[0].comments] == [
        "ann",
        "ann",
        "ben",
        "cyd",
        "cyd",
        *["dan"] * 3,
        *["eve"] * 2,
    ]
    assert loaded[0].reviewers == set(HABITS)
    assert loaded[0].volume("dan") == 3


def test_without_matches_a_comment_matches_the_issue_with_its_text(tmp_path: Path) -> None:
    """Catches valid comments of a benchmark of the other kind being scored as false, and lost places."""
    said = [
        {"text": "valid", "path": "a.c", "from": 9, "to": 4, "verdict": "valid"},
        {"text": "other", "verdict": "invalid"},
    ]
    path = write(
        tmp_path,
        [{"pr": "p", "repo": "r", "golden": [{"text": "missed"}, {"text": "valid"}], "reviews": {"x": said}}],
        "b.jsonl",
    )
    (loaded,) = load_reviews(path)
    assert [comment.matches for comment in loaded.comments] == [{1}, set()]
    assert loaded.comments[0].remark == Remark("x", "valid", "a.c", (4, 9))
    assert all(comment.judged for comment in loaded.comments)


def test_a_comment_nobody_judged_is_not_judged(tmp_path: Path) -> None:
    """Catches the judge's `null` being read as a denial."""
    one = line(0, "r")
    one["reviews"]["dan"][0]["verdict"] = None
    (loaded,) = load_reviews(write(tmp_path, [one]))
    assert [comment.judged for comment in loaded.comments if comment.remark.by == "dan"] == [False, True, True]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"repo": ""}, "hand.jsonl.gz:1: repo"),
        ({"golden": [{"id": 0}, {"id": 0}]}, "not distinct"),
        ({"golden": [{"id": 1}]}, r"ann matches \[0\], but the golden ids are \[1\]"),
        ({"reviews": {"ann": [{"path": "x"}]}}, "reviews.ann.0.text"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, broken: dict[str, Any], message: str) -> None:
    """Catches rows that are skipped or half read."""
    with pytest.raises(ConfigError, match=message):
        load_reviews(write(tmp_path, [{**line(0, "r"), **broken}]))


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """Catches an empty result where there is nothing to read."""
    with pytest.raises(ConfigError, match="no file that ends in"):
        run_reviews(tmp_path)
    with pytest.raises(ConfigError, match="no folder"):
        run_reviews(tmp_path / "absent")
    with pytest.raises(ConfigError, match="there twice"):
        load_reviews(write(tmp_path, [line(0, "r"), line(0, "r")]))
    (tmp_path / "cut.jsonl.gz").write_bytes(write(tmp_path, [line(0, "r")]).read_bytes()[:-20])
    with pytest.raises(ConfigError, match="is it whole"):
        load_reviews(tmp_path / "cut.jsonl.gz")


# ---- scoring


def test_credit_by_each_reading() -> None:
    """Catches an issue that counts twice, a group that finds two, a spokesman or a half not asked for."""
    one = pull(("a", "x", {0}), ("b", "y", {0, 1}), ("c", "z", set()), ("a", "u", {0}), ("b", "v", set()))
    published = (Group((0, 1, 2), 2, 1.0), Group((3,), 3, 1.0), Group((4,), 4, 1.0))
    made = credit(one, published)
    assert (made.published, made.golden, made.repeated) == (3, 3, 1)
    assert (made.strict, made.half, made.merged) == (1, 1, 1)
    assert total(f1([made])) == pytest.approx(2 * 1 / (3 + 3))
    assert total(f1([made], "loose")) == pytest.approx(2 * 1 / (2 + 3))
    assert total(precision([made])) == pytest.approx(1 / 3)
    assert total(recall([made])) == pytest.approx(1 / 3)
    both = credit(one, (Group((0, 1), 1, 1.0),))
    assert (both.strict, both.half, both.merged) == (2, 1, 1)
    lump = credit(one, (Group((0, 2, 4), 2, 1.0),))
    assert (lump.strict, lump.half, lump.merged) == (0, 0, 1)
    assert credit(one, ()) == replace(made, published=0, strict=0, quoted=0, half=0, merged=0, repeated=0)


def test_credit_for_what_is_quoted() -> None:
    """Catches a comment that finds two issues by quoting two, members that count though nobody reads them."""
    one = pull(("a", "x", {1}), ("b", "y", {0}), ("c", "z", set()), ("d", "u", {0}), ("e", "v", {2}))

    def quoted(*groups: Group) -> int:
        return credit(one, groups).quoted

    assert quoted(Group((0, 1, 2), 2, 1.0)) == 0
    assert quoted(Group((0, 1, 2), 2, 1.0, (1,))) == 1
    assert quoted(Group((0, 1, 2), 0, 1.0, (1, 2))) == 1
    assert quoted(Group((0, 1, 3), 0, 1.0, (1, 3)), Group((4,), 4, 1.0)) == 2
    assert quoted(Group((0, 1, 3), 0, 1.0, (1, 3)), Group((1,), 1, 1.0)) == 1  # both are on issue 0
    assert total(f1([credit(one, (Group((2, 3), 2, 1.0, (3,)),))], "quoted")) == pytest.approx(2 / (1 + 3))


def test_bcubed_and_pairs_by_hand() -> None:
    """Catches recall over unmatched comments, precision without them, unjudged company that counts."""
    one = pull(("a", "x", {0}), ("b", "y", {0}), ("c", "z", set()), ("d", "w", {0}), ("e", "v", {1}))
    groups = (Group((0, 1, 2), 0, 1.0), Group((3, 4), 3, 1.0))
    precise, found = bcubed(one, groups)
    assert precise.whole == found.whole == 4
    assert precise.part == pytest.approx(2 / 3 + 2 / 3 + 1 / 2 + 1 / 2)
    assert found.part == pytest.approx(2 / 3 + 2 / 3 + 1 / 3 + 1)
    joined, same = pairs(one, groups)
    assert (joined.part, joined.whole, same.part, same.whole) == (1, 4, 1, 3)
    unjudged = pull(("a", "x", {0}), ("b", "y", set()), judged=False)
    together = (Group((0, 1), 0, 1.0),)
    assert bcubed(unjudged, together)[0].part == 1
    assert pairs(unjudged, together)[0].whole == 0


def test_logistic_is_at_its_optimum() -> None:
    """Catches a wrong gradient, a penalty on the wrong weight, an elimination that mixes rows."""
    rows = [((1.0, x / 3, math.sin(x)), x * 7 % 5 > 1) for x in range(-10, 20)]
    weights = logistic(rows, ridge=0.5)
    slope = [-cost * weight for cost, weight in zip((0.01, 0.5, 0.5), weights, strict=True)]
    for features, outcome in rows:
        chance = 1 / (1 + math.exp(-sum(w * x for w, x in zip(weights, features, strict=True))))
        slope = [s + (outcome - chance) * x for s, x in zip(slope, features, strict=True)]
    assert max(map(abs, slope)) < 1e-6


# ---- arms


def test_groups_hold_every_comment_once(folder: Path) -> None:
    """Catches a merge, or the review protocol's, that loses comments on its way."""
    for one in load_reviews(review_files(folder)[0]):
        places = list(range(len(one.comments)))
        for groups in (by_words()(one, 0.18), tuple(group for _, group in by_findings(one)), apart(one)):
            assert sorted(place for group in groups for place in group.members) == places
            assert all(group.told in group.members for group in groups)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_no_arm_sees_a_label_of_what_it_is_scored_by(folder: Path, arm: Arm) -> None:
    """Catches a leak: with every match and verdict of the scored repository turned round, the same is published."""
    pulls = load_reviews(review_files(folder)[0])
    scored, others = [one for one in pulls if one.repo == "one"], [one for one in pulls if one.repo != "one"]
    turned = [
        replace(
            one,
            golden=frozenset({0, 7}),
            comments=tuple(replace(c, matches=frozenset({7}) - c.matches, judged=not c.judged) for c in one.comments),
        )
        for one in scored
    ]
    assert arm.review(scored, others, by_words()) == arm.review(turned, others, by_words())


def test_at_least_k_reviewers_not_comments() -> None:
    """Catches a reviewer who says it twice counting as two."""
    text = "parseHeader dereferences null"
    one = pull(("a", text, set()), ("a", text, set()), ("b", text, set()), ("c", "unrelated words entirely", set()))
    assert [group.members for group in at_least(2)([one], (), by_words())["p"]] == [(0, 1, 2)]
    assert at_least(3)([one], (), by_words())["p"] == ()


def test_the_lump_quotes_the_spokesmen_of_its_largest_groups(folder: Path) -> None:
    """Catches a control that is made to look bad: one group of everything, quoting one thing three times."""
    (one, *_) = load_reviews(review_files(folder)[0])
    lump = next(arm for arm in ARMS if arm.name == "lump")
    (group,) = lump.review([one], (), by_words())[one.name]
    sizes = {made.told: len(made.members) for made in by_words()(one, 0.18)}
    assert group.members == tuple(range(len(one.comments)))
    assert [sizes[place] for place in group.quoted] == sorted(sizes.values(), reverse=True)[:3]


def test_controls_publish_as_much_and_nothing_that_belongs_together() -> None:
    """Catches a padding from within the group, a shuffle that uses a comment twice, other amounts of text."""
    one = pull(*((chr(97 + place), f"text {place}", {place % 3}) for place in range(9)))
    published = (Group((0, 1, 2, 3), 1, 1.0, (0, 3)), Group((4, 5), 4, 1.0, (5,)), Group((6,), 6, 1.0))
    drawn = set()
    for seed in range(30):
        padded = CONTROLS["padded"](Random(seed), one, published)
        for was, made in zip(published, padded, strict=True):
            assert (made.told, made.members, len(made.also)) == (was.told, was.members, len(was.also))
            assert len({*made.also} - {*was.members}) == len(was.also)
        shuffled = CONTROLS["shuffled"](Random(seed), one, published)
        places = [place for group in shuffled for place in group.members]
        assert len(places) == len(set(places)) == 7
        for was, made in zip(published, shuffled, strict=True):
            assert (len(made.members), len(made.quoted)) == (len(was.members), len(was.quoted))
            assert {*made.quoted} <= {*made.members}
        drawn.add(shuffled)
    assert len(drawn) > 20


def test_chance_is_a_mean_over_draws_and_the_same_again() -> None:
    """Catches sums in place of means, draws that are one draw, a generator without a seed."""
    one = pull(("a", "x", set()), ("b", "y", {0}), ("c", "z", set()), ("d", "u", {1}), golden=2)
    published = {"p": (Group((0, 1), 0, 1.0, (1,)),)}
    (padded,) = by_chance("padded", "quoted", [one], published)
    assert padded.whole == 1 + 2
    assert 0.5 < padded.part < 1.5  # d, which matches, is drawn half of the time: 2 TP is 1 on average
    assert total(by_chance("padded", "strict", [one], published)) == 0
    assert by_chance("padded", "quoted", [one], published) == [padded]


# ---- the whole


def test_a_run_measures_every_arm_and_says_the_same_again(folder: Path) -> None:
    """Catches an arm that is dropped, results that differ from run to run, text of the data in the results."""
    made = run_reviews(folder, draws=50)
    assert made == run_reviews(folder, draws=50) == run_reviews(review_files(folder), draws=50)
    assert {row["arm"] for row in made.rows} == {
        *(arm.name for arm in ARMS),
        "best-single-hindsight",
        "k-of-n-hindsight",
    }
    assert len(made.rows) == 9 * (len(ARMS) + 2)
    assert not any(isinstance(value, str) and "recieve" in value for row in made.rows for value in row.values())
    values = {(one.arm, one.measure): one.value or 0.0 for one in made.measures if "repo" not in one.group}
    strict = {arm.name: values[arm.name, "f1_strict"] for arm in ARMS}
    assert strict["union"] < strict["k-of-n"] < strict["agreement"] == strict["labelled"] == 1.0
    assert values["merge-words", "b3_f1"] > values["merge-overlap", "b3_f1"]
    against = {one.against for one in made.comparisons}
    assert against == {"k-of-n", "k-of-n-hindsight", "best-single-hindsight", "padded", "shuffled"}
    assert values["padded", "f1_strict"] == strict["agreement"]
    assert values["shuffled", "f1_quoted"] < values["agreement", "f1_quoted"]
    assert {one.against for one in made.comparisons if one.measure == "f1_quoted"} >= {"padded", "shuffled"}
    assert made.files == (("hand.jsonl.gz", 9),)


def test_names_of_reviewers_changes_and_repositories_change_nothing_but_the_names(folder: Path, tmp_path: Path) -> None:
    """Catches an arm that goes by the order of names."""
    other = tmp_path / "renamed"
    other.mkdir()
    lines = []
    for repo in ("six", "two", "one"):
        for number in range(3):
            one = line(number, repo)
            one["reviews"] = {f"zz-{9 - place}": said for place, said in enumerate(one["reviews"].values())}
            lines.append({**one, "pr": f"new-{repo}-{number}", "repo": f"repo-{repo}"})
    write(other, lines)

    def f1s(where: Path) -> dict[str, float | None]:
        return {
            one.arm: one.value
            for one in run_reviews(where, draws=1).measures
            if one.measure == "f1_strict" and "repo" not in one.group and one.arm not in CONTROLS
        }

    assert f1s(folder) == f1s(other)


def test_one_repository_has_no_arms_that_learn_from_others(tmp_path: Path) -> None:
    """Catches an arm that is tuned on what it is scored by because there is nothing else."""
    write(tmp_path, [line(number, "one") for number in range(3)])
    made = run_reviews(tmp_path, draws=10)
    assert not {"labelled", "k-of-n", "best-single", "agreement-nested"} & {row["arm"] for row in made.rows}
    assert "labelled is left out" in " ".join(made.notes)


def test_an_arm_with_nothing_to_learn_is_left_out_with_a_note(tmp_path: Path) -> None:
    """Catches a repository without a match that ends the run of all other arms."""
    bare = [line(number, "bare") for number in range(3)]
    for one in bare:
        for said in one["reviews"].values():
            for comment in said:
                comment.update(matches=[], verdict="fp")
    write(tmp_path, [*bare, *(line(number, "one") for number in range(3))])
    made = run_reviews(tmp_path, draws=10)
    assert {row["arm"] for row in made.rows} >= {"agreement", "k-of-n", "union"}
    assert "labelled" not in {row["arm"] for row in made.rows}
    assert any("labelled is left out: 0 of" in note for note in made.notes)


def test_the_target_is_on_an_arm_whose_threshold_is_chosen_elsewhere() -> None:
    """Catches a target measured on the arm whose threshold was chosen looking at what is scored."""
    suite = load_suite(list_suites()["review-ensembles"])
    assert [target.arm for target in suite.target] == ["agreement-nested"]


def test_a_suite_measures_the_files_it_names_and_no_others(folder: Path) -> None:
    """Catches a suite that reads whatever else lies in the folder."""
    write(folder, ["nonsense"], "other.jsonl")
    suite = Suite(name="hand", title="by hand", about="", source="reviews", data=(Data(label="hand", files=("hand",)),))
    made = reviews(suite, {"hand": folder / "hand.jsonl.gz"}, 0)
    assert {row["data"] for rows in made.lines.values() for row in rows} == {"hand"}
