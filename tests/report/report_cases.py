"""Made-up results for the tests of reports: a small suite, an empty one, one with many arms, a hostile one."""

import random
from typing import Any

HOSTILE = "</title></script><script>alert(1)</script> \"'>|`[x](http://x.test)\x1b[31m\u202eevil\u0000"


def group(data: str = "attack", condition: str = "clean") -> dict[str, str]:
    return {"data": data, "condition": condition}


def figures(value: float | None, half: float = 0.01) -> dict[str, float | None]:
    if value is None:
        return {"value": None, "low": None, "high": None}
    return {"value": value, "low": value - half, "high": value + half}


def measured(
    arm: str, measure: str, value: float | None, *, on: dict[str, str] | None = None, n: int = 120
) -> dict[str, Any]:
    return {"group": on or group(), "arm": arm, "measure": measure, "n": n, "questions": 40, **figures(value)}


def empty() -> dict[str, Any]:
    """A suite that measured nothing."""
    return {
        "schema": "madflow.results/1",
        "suite": "none",
        "title": "Nothing",
        "created_at": "2026-01-02T03:04:05Z",
        "madflow": "0.1.0",
        "code": {"digest": "ab" * 32},
        "command": "madflow eval run none",
        "config": {},
        "data": [],
        "seeds": {},
        "elapsed_s": 0.0,
    }


def _targets() -> list[dict[str, Any]]:
    target = {"group": group(), "arm": "robust", "known": "0.5109 at 0.111"}
    return [
        {
            "name": "cheap",
            "note": "token share ≤ 0.15: 0.149, yes",
            "measure": "accuracy − that of vote",
            "target": ">= 0.006",
            "met": True,
            **target,
            **figures(0.0092, 0.006),
        },
        {
            "name": "adversary",
            "measure": "accuracy",
            "target": ">= 0.535",
            "n": 1234,
            "met": False,
            **target,
            **figures(0.534996),
        },
        {
            "name": "dear",
            "measure": "accuracy",
            "target": ">= 0.5169",
            "n": 1,
            "met": False,
            "why": "token_share 0.1840 is not <= 0.15",
            **target,
            **figures(0.6),
        },
        {
            "name": "absent",
            "measure": "accuracy",
            "target": ">= 0.5",
            "met": None,
            "why": "no data",
            **target,
            **figures(None),
        },
        {"name": "later", "measure": "samples", "target": "<= 4.0", "met": False, **target, **figures(None)},
    ]


def small() -> dict[str, Any]:
    """Two arms on one group, two rounds, five targets: met, missed by a hair, by a given, unmeasured, without data."""
    here = group()
    flips = [("right_to_wrong", 0.12), ("wrong_to_right", 0.08)]
    shares = [("accuracy", (0.5, 0.48)), ("unanimity", (0.25, 0.625))]
    return empty() | {
        "suite": "small",
        "title": "Two arms on one group",
        "code": {"digest": "cd" * 32, "commit": "0123456789abcdef"},
        "command": "madflow eval run small --out results/",
        "config": {"draws": 2000},
        "data": [{"file": "attack-a.jsonl.gz", "sha256": "ef" * 32, "rows": 120}],
        "seeds": {"bootstrap": 0},
        "elapsed_s": 12.34,
        "arms": [
            {"arm": "vote", "title": "The vote of round 1"},
            {"arm": "robust", "title": "The default", "policy": {"lead": 3}},
        ],
        "measures": [
            measured("vote", "accuracy", 0.5109),
            measured("vote", "token_share", 0.111),
            measured("robust", "accuracy", 0.5201),
            measured("robust", "token_share", 0.149),
            measured("robust", "interception:0.216", None, n=17),
            measured("recorded", "oracle:1", 0.81),
        ],
        "comparisons": [
            {"group": here, "arm": "robust", "against": "vote", "measure": "accuracy", **figures(0.0092, 0.006)}
        ],
        "rounds": [
            *({"group": here, "round": 1, "measure": name, **figures(value)} for name, value in flips),
            *(
                {"group": here, "round": number, "measure": name, **figures(value)}
                for name, values in shares
                for number, value in enumerate(values, start=1)
            ),
        ],
        "targets": _targets(),
        "notes": ["A note."],
    }


def crowded(arms: int, groups: int = 3, seed: int = 0) -> dict[str, Any]:
    """Many arms close together."""
    chance = random.Random(seed)
    names = [f"arm-{number}-{'x' * chance.randrange(12)}" for number in range(arms)]
    places = [group(f"data-{number}") for number in range(groups)]
    return empty() | {
        "arms": [{"arm": name, "title": f"The arm called {name}"} for name in names],
        "measures": [
            measured(name, measure, value, on=place)
            for place in places
            for name in names
            for measure, value in (
                ("accuracy", chance.gauss(0.5, 0.03)),
                ("token_share", chance.uniform(0.05, 1.2)),
            )
        ],
    }


def hostile() -> dict[str, Any]:
    """Every text of it wants to be something else."""
    bad, long = HOSTILE, "n" * 10_000
    here = {"data": bad, "condition": long, "k" + bad: bad}
    one = {"group": here, "arm": bad, "measure": "<b>m</b>"}
    both = [
        one | {"measure": name, "n": 1, "questions": 1, **figures(0.5)} for name in ("accuracy", "token_share", bad)
    ]
    return empty() | {
        "suite": bad,
        "title": bad + long,
        "created_at": bad,
        "madflow": bad,
        "code": {"digest": bad, "commit": bad},
        "command": bad + "\n" + "``` " * 1_000,
        "config": {bad: {bad: [bad]}},
        "data": [{"file": bad, "sha256": bad, "rows": 1}],
        "seeds": {bad: 1},
        "arms": [{"arm": bad, "title": bad, "policy": {bad: long}}, {"arm": long, "title": long}],
        "measures": [*both, *({**cell, "arm": long} for cell in both)],
        "comparisons": [one | {"against": long, **figures(0.1)}],
        "rounds": [
            {"group": here, "round": 1, "measure": name, **figures(0.5)} for name in (bad, long, "right_to_wrong")
        ],
        "targets": [one | {"name": bad, "target": bad, "known": bad, "met": True, "note": bad + long, **figures(0.1)}],
        "failed": [{"key": bad, "error": bad + long}],
        "notes": [bad, long, "\u05d0\u05d1 right to left"],
    }
