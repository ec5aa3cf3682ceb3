"""The gate against a dumb twin, and against the order in which things happen to be written."""

import json
import tomllib
from collections.abc import Mapping
from typing import Any

from gate_world import EVERY_KIND, POLICY, body_of, codes, facts_of, judge, known_of, reasons
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.core.gate import Admitted, Request, admit
from madflow.core.permits import demands, denials, never, suggestion
from madflow.core.plan import parse_step
from madflow.core.policy import Policy, glob_match, parse_policy

NAMES = ("a", "b", "src/a", "src/b", "x*", "**")
PATTERNS = ("a", "src/*", "**", "b", "*")
NAME, PATTERN_LIST = st.sampled_from(NAMES), st.lists(st.sampled_from(PATTERNS), max_size=2)
HOST = st.sampled_from(("a", "b", "a:81"))
METHOD = st.sampled_from(("GET", "PUT", "POST"))


def request(host: str, method: str) -> dict[str, Any]:
    return {"method": method, "url": f"http://{host}/"}


STEPS = st.one_of(
    st.builds(lambda p: {"step": "read", "target": f"file:{p}"}, NAME),
    st.builds(lambda p: {"step": "patch", "target": f"file:{p}", "patch": "x"}, NAME),
    st.builds(
        lambda c, p, u, d: {"step": "command", "cmd": [c], "probe": [p], "undo": u, "cwd": d},
        NAME,
        NAME,
        st.lists(NAME, max_size=1),
        NAME,
    ),
    st.builds(lambda c: {"step": "test", "cmd": [c, "-q"]}, NAME),
    st.builds(
        lambda h, m, u: {"step": "http", **request(h, m), "undo": u},
        HOST,
        METHOD,
        st.one_of(st.just(False), st.builds(request, HOST, METHOD)),
    ),
    st.builds(lambda n: {"step": "sql", "target": f"db:{n}", "statement": "x"}, st.sampled_from(("a", "b", "ledger"))),
    st.builds(
        lambda r, p: {"step": "git_commit", "target": f"git:refs/heads/{r}", "paths": p, "message": "m"},
        st.sampled_from(("a", "b")),
        st.lists(NAME, min_size=1, max_size=3),
    ),
    st.builds(lambda n: {"step": "call", "name": n}, st.sampled_from(("a", "b"))),
)
KIND = st.sampled_from(("read", "patch", "command", "test", "http", "sql", "git_commit", "call"))
ENTRY = st.fixed_dictionaries(
    {"step": st.lists(KIND, min_size=1, max_size=4)},
    optional={
        "paths": PATTERN_LIST,
        "commands": PATTERN_LIST,
        "hosts": st.lists(st.sampled_from(("a", "**", "a:*", "b")), max_size=2),
        "methods": st.lists(METHOD, max_size=2),
        "databases": PATTERN_LIST,
        "refs": st.lists(st.sampled_from(("refs/heads/*", "refs/heads/a")), max_size=1),
        "names": PATTERN_LIST,
        "roles": st.lists(st.sampled_from(("debater", "critic")), max_size=1),
    },
)
POLICIES = st.lists(ENTRY, max_size=4).map(lambda entries: {"allow": entries, "databases": {"a": "a.db", "b": "b.db"}})


def allowed(step: Mapping[str, Any], policy: Mapping[str, Any], role: str) -> bool:
    """The contract as a sentence, in terms of the JSON alone: some entry allows every part of the step."""
    for entry in policy["allow"]:

        def in_list(part: str, value: str, entry: Mapping[str, Any] = entry) -> bool:
            return any(glob_match(pattern, value) for pattern in entry.get(part, ()))

        def host_of(url: str) -> str:
            return url.removeprefix("http://").removesuffix("/")

        parts = [step["step"] in entry["step"], not entry.get("roles") or role in entry["roles"]]
        for argv in (step.get("cmd"), step.get("probe"), step.get("undo")):
            if isinstance(argv, list) and argv:
                parts.append(in_list("commands", argv[0]))
        for http in (step, step.get("undo")):
            if isinstance(http, Mapping) and "url" in http:
                parts.append(in_list("hosts", host_of(http["url"])))
                parts.append(not entry.get("methods") or http["method"] in entry["methods"])
        target = str(step.get("target"))
        if target.startswith("file:"):
            parts.append(in_list("paths", target.removeprefix("file:")))
        if target.startswith("db:"):
            parts.append(in_list("databases", target.removeprefix("db:")))
        if target.startswith("git:"):
            parts.append(in_list("refs", target.removeprefix("git:")))
        parts += [
            in_list("paths", path) for path in (*step.get("paths", ()), *([step["cwd"]] if "cwd" in step else []))
        ]
        if "name" in step:
            parts.append(in_list("names", step["name"]))
        if all(parts):
            return True
    return False


def verdict_on(plan: list[dict[str, Any]], policy: Mapping[str, Any]) -> Any:
    registered = {"a": "none", "b": "none"}
    return admit(Request("plan-1"), known_of(body_of(plan)), parse_policy(policy), facts(plan), registered)  # type: ignore[arg-type]


def facts(plan: list[dict[str, Any]]) -> Any:
    found = facts_of(plan)
    paths = {**found.paths, **facts_of([{"step": "read", "target": f"file:{name}.db"} for name in "ab"]).paths}
    return facts_of(plan, paths=paths)


@settings(max_examples=400)
@given(st.lists(STEPS, min_size=1, max_size=3), POLICIES)
def test_admitted_exactly_where_every_step_is_allowed(plan: list[dict[str, Any]], policy: dict[str, Any]) -> None:
    """Would catch a plan that gets in with a step, or a part of one, that no entry allows; one refused in vain."""
    verdict = verdict_on(plan, policy)
    twin = all(allowed(step, policy, "debater") for step in plan)
    assert isinstance(verdict, Admitted) == twin, codes(verdict)
    assert {reason.step for reason in reasons(verdict)} == {
        index for index, step in enumerate(plan) if not allowed(step, policy, "debater")
    }


def backwards(value: Any) -> Any:
    """The same JSON with every object written in the other order."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=60)
@given(st.lists(STEPS, min_size=1, max_size=3), POLICIES, st.booleans())
def test_the_order_of_keys_decides_nothing(plan: list[dict[str, Any]], policy: dict[str, Any], edited: bool) -> None:
    """Would catch a verdict, or an order of reasons, that depends on how an object happens to be written."""
    body = body_of(plan)
    file = {**json.loads(json.dumps(body)), **({"task_id": "other", "rule": "plurality"} if edited else {})}
    world = facts(plan)
    turned = facts_of(plan, paths=dict(reversed(world.paths.items())), folders=dict(reversed(world.folders.items())))
    registered = {"a": "none", "b": "none"}
    one = admit(Request("plan-1", file), known_of(body), parse_policy(policy), world, registered)  # type: ignore[arg-type]
    two = admit(
        Request("plan-1", backwards(file)),
        known_of(backwards(body)),
        parse_policy(backwards(policy)),
        turned,
        dict(reversed(registered.items())),  # type: ignore[arg-type]
    )
    assert reasons(one) == reasons(two) and one.policy_digest == two.policy_digest
    assert isinstance(one, Admitted) is isinstance(two, Admitted)


@settings(max_examples=200)
@given(st.lists(STEPS, min_size=1, max_size=4), STEPS)
def test_the_suggested_policy_allows_this_plan_and_no_other_step(
    plan: list[dict[str, Any]], other: dict[str, Any]
) -> None:
    """Would catch a hint that lets a hostile plan write `**` into its reader's policy, or does not help."""
    steps = [parse_step(step) for step in plan]
    text = suggestion(steps)
    policy = parse_policy(tomllib.loads(text))
    plain = [step for step in steps if not any("*" in value for _, value in demands(step))]
    assert all(denials(step, "debater", policy) == () for step in plain)
    stranger = parse_step(other)
    if not any(denials(stranger, "debater", policy)):
        assert any(
            step.step == stranger.step
            and set(demands(stranger)) <= {d for s in plain if s.step == step.step for d in demands(s)}
            for step in plain
        )
    assert "*" not in text.partition("#")[0]


def test_the_suggestion_for_every_kind() -> None:
    """Would catch a hint that is not TOML, or that a strange name breaks out of."""
    text = suggestion([parse_step(step) for step in EVERY_KIND])
    policy = parse_policy({**tomllib.loads(text), "databases": POLICY["databases"]})
    assert isinstance(judge(EVERY_KIND, policy=policy), Admitted)
    two = [parse_step({"step": "http", **request("a", "GET")}), parse_step({"step": "http", **request("b", "PUT")})]
    mixed = parse_step({"step": "http", **request("a", "PUT")})
    assert denials(mixed, "", parse_policy(tomllib.loads(suggestion(two)))) != ()
    odd = parse_step({"step": "test", "cmd": ['x"]\n[[allow]]\n\x7f\u2028é\\']})
    assert parse_policy(tomllib.loads(suggestion([odd]))).allow[0].commands == (odd.cmd[0],)  # type: ignore[union-attr]
    long = [parse_step({"step": "read", "target": f"file:{n}{'x' * 900}"}) for n in range(20)]
    assert suggestion(long).startswith("#") and len(suggestion(long)) < 200


@given(st.sampled_from((".git", ".madflow")), st.data())
def test_no_spelling_of_our_folders_is_free(name: str, data: st.DataObject) -> None:
    """Would catch a spelling that a file system folds to one of them: cases, widths, ends, invisible characters."""
    spelt = ""
    for char in name:
        form = data.draw(
            st.sampled_from((char, char.upper(), chr(ord(char) + 0xFEE0), char + "\u200d", "\ufeff" + char))
        )
        spelt += form
    spelt += data.draw(st.sampled_from(("", ".", " ", ". .", ":x", "::$DATA")))
    before, after = data.draw(st.sampled_from(("", "a/", "a/b/"))), data.draw(st.sampled_from(("", "/x", "/x/y")))
    assert never(before + spelt + after, ())
    assert never(f"{before}x{name}{after}", ()) == ""


def test_nothing_is_allowed_by_the_empty_policy() -> None:
    """Would catch a default that is not denial."""
    assert not any(isinstance(judge([step], policy=Policy()), Admitted) for step in EVERY_KIND)
