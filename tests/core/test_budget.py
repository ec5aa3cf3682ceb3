"""The budget: billed ≤ cap whatever happens to a call, the landing always fits, a fold rebuilds the same account."""

from __future__ import annotations

import json
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.core.budget import (
    Account,
    Amount,
    Budget,
    Calibration,
    Entry,
    Limits,
    Reservation,
    Settlement,
    elapsed_ms,
    require_prices,
    usd_text,
)
from madflow.errors import BudgetExceeded, ConfigError, MadflowError, ResumeRefused, UnknownModel

NONE = Amount()
CALL = Amount(50, 30, 1000, 1)


def account(**limits: Any) -> Account:
    return Account(Budget.of(**limits))


# --- limits


def test_the_defaults_are_bounded() -> None:
    assert Budget().model_dump() == {
        "tokens": 250_000,
        "usd_nanos": None,
        "calls": 200,
        "seconds": 900,
        "call_seconds": 60,
    }
    assert Budget is Limits
    assert Budget.of() == Budget()


@pytest.mark.parametrize(
    ("usd", "nanos"),
    [
        ("0.50", 500_000_000),
        ("1e-9", 1),
        ("0.1", 100_000_000),
        (3, 3_000_000_000),
        (Decimal("0.123456789"), 123_456_789),
        ("0.10000000000000", 100_000_000),
        (1_000_000_000, 10**18),
    ],
)
def test_dollars_convert_exactly(usd: Any, nanos: int) -> None:
    """Catches Decimal arithmetic that rounds by the host application's context."""
    with localcontext() as context:
        context.prec = 2
        assert Budget.of(usd=usd).usd_nanos == nanos


@pytest.mark.parametrize(
    ("usd", "says"),
    [
        (0.5, "float"),
        (True, "bool"),
        ("half", "not a decimal"),
        ("", "not a decimal"),
        ("nan", "out of bounds"),
        ("inf", "out of bounds"),
        ("0", "out of bounds"),
        ("-1", "out of bounds"),
        ("1e999999999", "out of bounds"),
        ("1000000001", "out of bounds"),
        ("1e-10", "finer"),
        ("1e-999999999", "finer"),
        ("0.1234567891", "finer"),
        ("1" * 100, "characters"),
    ],
)
def test_dollars_that_are_no_exact_cap_are_refused(usd: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Budget.of(usd=usd)


@pytest.mark.parametrize("name", ["tokens", "calls", "seconds", "call_seconds"])
@pytest.mark.parametrize("value", [0, -1, 10**13, 1.5, True, None, "7", float("inf")])
def test_every_limit_is_a_bounded_whole_number(name: str, value: Any) -> None:
    """Catches an unlimited, a zero or a silently converted cap, by either way in."""
    with pytest.raises(ConfigError, match=name):
        Budget.of(**{name: value})
    with pytest.raises(ValueError, match=name):
        Budget(**{name: value})


@given(st.integers(0, 10**20))
def test_usd_text_is_exact(nanos: int) -> None:
    assert Fraction(usd_text(nanos)) == Fraction(nanos, 10**9)
    assert usd_text(500_000_000) == "0.50"


def test_a_resumed_budget_may_only_be_raised() -> None:
    old = Budget.of(tokens=100, usd="1")
    assert old.raised_over(old) == []
    assert Budget.of(tokens=200, usd="1", calls=300).raised_over(old) == ["tokens", "calls"]
    assert Budget.of(tokens=100).raised_over(old) == ["usd_nanos"]  # no cap is more than any cap
    with pytest.raises(ResumeRefused, match=r"tokens from 100 to 50.*call_seconds from 60 to 9"):
        Budget.of(tokens=50, usd="2", call_seconds=9).raised_over(old)
    with pytest.raises(ResumeRefused, match="usd_nanos from no limit to 1000000000"):
        Budget.of(tokens=100, usd="1").raised_over(Budget.of(tokens=100))
    running = account(tokens=100)
    assert running.raise_limits(Budget.of(tokens=150)) == ["tokens"]
    assert running.remaining("tokens") == 150
    with pytest.raises(ResumeRefused):
        running.raise_limits(Budget.of(tokens=149))
    assert running.limits.tokens == 150


def test_unknown_prices_under_a_money_cap_are_refused_by_name() -> None:
    require_prices(Budget.of(), {"a/b": None})
    require_prices(Budget.of(usd="1"), {"a/b": 0})
    with pytest.raises(UnknownModel, match="a/b, c/d"):
        require_prices(Budget.of(usd="1"), {"c/d": None, "x": 5, "a/b": None})
    with pytest.raises(UnknownModel):
        account(usd="1").reserve("k", Amount(1, 1, None, 1), hold=NONE)


# --- one call


@pytest.mark.parametrize(
    ("resource", "limits", "amount", "hold", "actual", "held"),
    [
        ("tokens", {"tokens": 179}, CALL, Amount(90, 10), 80, 100),
        ("calls", {"calls": 3}, CALL, Amount(0, 0, 0, 3), 1, 3),
        ("usd_nanos", {"usd": "0.000001999"}, CALL, Amount(0, 0, 1000), 1000, 1000),
    ],
)
def test_a_reservation_is_refused_by_one_and_admitted_at_the_cap(
    resource: str, limits: Any, amount: Amount, hold: Amount, actual: int, held: int
) -> None:
    """Catches an off-by-one, a resource that is not checked, and a refused reservation that is charged."""
    tight = account(**limits)
    with pytest.raises(BudgetExceeded) as caught:
        tight.reserve("k", amount, hold=hold)
    error = caught.value
    assert (error.resource, error.limit, error.actual, error.held) == (resource, actual + held - 1, actual, held)
    assert tight == account(**limits)
    raised = {key: value + 1 if isinstance(value, int) else "0.000002" for key, value in limits.items()}
    enough = account(**raised)
    enough.reserve("k", amount, hold=hold)
    assert enough.committed == amount
    assert str(enough.affordable(CALL, hold)).startswith(f"exceeded the {resource} limit")


def test_settling_frees_what_was_not_used_but_never_the_call() -> None:
    running = account(tokens=100, usd="0.5")
    running.reserve("k", CALL, hold=NONE)
    assert running.remaining("tokens") == 20
    running.settle("k", Amount(10, 5, 200, 0))
    assert running.committed == Amount(10, 5, 200, 1)
    assert running.remaining("tokens") == 85
    assert running.remaining("calls") == 199
    assert running.remaining("usd_nanos") == 500_000_000 - 200
    assert account().remaining("usd_nanos") is None


def test_unreported_usage_stays_at_the_reservation() -> None:
    running = account()
    running.reserve("k", CALL, hold=NONE)
    running.settle("k", None)
    assert running.committed == running.unreported == CALL
    assert running.open_keys == ()


def test_usage_without_a_price_keeps_the_reserved_money() -> None:
    """Catches a priced reservation that becomes free, or unknown, because the reply carries no price."""
    running = account(usd="1")
    running.reserve("k", CALL, hold=NONE)
    running.settle("k", Amount(1, 1, None))
    assert running.committed == Amount(1, 1, 1000, 1)


def test_an_overshoot_is_charged_and_reported() -> None:
    running = account(tokens=100)
    running.reserve("k", CALL, hold=NONE)
    running.settle("k", Amount(70, 40, 1500))
    assert running.committed == Amount(70, 40, 1500, 1)
    assert running.overshoot == Amount(20, 10, 500, 1)
    assert running.remaining("tokens") == 0
    running = account()
    running.reserve("k", CALL, hold=NONE)
    running.settle("k", Amount(60, 20, 1000))
    assert running.overshoot == NONE, "prompt and output share one cap: more of one and less of the other is within it"


def test_a_key_is_used_once_and_settled_once() -> None:
    """Catches a retry that overwrites its first attempt, and a late second report that refunds."""
    running = account()
    running.reserve("k", CALL, hold=NONE)
    with pytest.raises(MadflowError, match="'k' is already used"):
        running.reserve("k", CALL, hold=NONE)
    running.settle("k", None)
    for key, says in (("k", "settled already"), ("other", "never reserved")):
        with pytest.raises(MadflowError, match=says):
            running.settle(key, NONE)
    with pytest.raises(MadflowError, match="'k' is already used"):
        running.reserve("k", CALL, hold=NONE)
    assert running.seen("k")
    assert not running.seen("other")
    assert running.committed == CALL


def test_hostile_amounts_are_refused() -> None:
    """Catches a negative report that would refund what others spent."""
    for bad in ({"prompt_tokens": -1}, {"output_tokens": 1.5}, {"usd_nanos": -1}, {"calls": True}):
        with pytest.raises(MadflowError, match=next(iter(bad))):
            Amount(**bad)  # type: ignore[arg-type]


def test_time() -> None:
    running = account(seconds=100, call_seconds=60)
    assert not running.expired(99_999)
    assert running.expired(100_000)
    exceeded = running.time_exceeded(101_500)
    assert exceeded is not None
    assert (exceeded.resource, exceeded.limit, exceeded.actual) == ("seconds", 100, 101)
    assert [running.call_timeout_ms(ms) for ms in (0, 40_000, 99_999, 200_000)] == [60_000, 60_000, 1, 0]
    assert elapsed_ms([(1000, 1500), (9000, 8000), (10_000, 10_250)]) == 750


def test_the_report_is_json_and_adds_up() -> None:
    running = account(usd="0.5")
    running.reserve("1", CALL, hold=NONE, agent="ada", purpose="turn")
    running.reserve("2", CALL, hold=NONE, agent="ada", purpose="ballot")
    running.reserve("3", CALL, hold=NONE, agent="bob", purpose="turn")
    running.settle("1", Amount(10, 10, 100))
    running.settle("2", None)
    report = json.loads(json.dumps(running.report()))
    assert report["caps"] == {"tokens": 250_000, "usd": "0.50", "calls": 200, "seconds": 900, "call_seconds": 60}
    assert (report["prompt_tokens"], report["output_tokens"], report["usd"], report["calls"]) == (
        110,
        70,
        "0.0000021",
        3,
    )
    assert report["unreported"] == report["open"] == report["by_agent"]["bob"]
    assert report["by_agent"]["ada"]["prompt_tokens"] == 60
    assert report["by_purpose"]["turn"]["calls"] == 2
    unpriced = account()
    unpriced.reserve("1", Amount(1, 1, None, 1), hold=NONE)
    assert unpriced.report()["usd"] is None
    unpriced.settle("1", Amount(1, 1, 7))
    assert unpriced.report()["usd"] == usd_text(7), "a price that came with the reply makes the sum known again"


def test_a_refused_request_costs_its_call_and_nothing_else() -> None:
    """Catches: a refusal that stays charged, one that frees its call, one that counts as a report of 0 tokens and makes
    later estimates unsafe, and a price that a refusal makes up."""
    running = account(usd="0.5")
    entries: list[Entry] = [running.reserve("k", CALL, hold=NONE, model="m", utf8_bytes=400)]
    refused = running.settle("k", None, refused=True)
    entries.append(Settlement.from_json(json.loads(json.dumps(refused.to_json()))))
    assert running.committed == Amount(0, 0, 0, 1)
    assert running.unreported == running.overshoot == NONE and running.calibration == Calibration()
    assert Account.fold(running.limits, entries) == running
    unpriced = account()
    unpriced.reserve("k", Amount(5, 5, None, 1), hold=NONE)
    unpriced.settle("k", None, refused=True)
    assert unpriced.committed == Amount(0, 0, None, 1)


def test_a_refusal_that_reports_usage_is_charged_for_it() -> None:
    """Catches: a word that makes reported work free: `billed ≤ committed` would not hold."""
    running = account(usd="0.5")
    running.reserve("k", CALL, hold=NONE, model="m", utf8_bytes=400)
    running.settle("k", Amount(60, 5, 7, 1), refused=True)
    assert running.committed == Amount(60, 5, 7, 1)


def test_a_settlement_recorded_without_a_word_on_refusals_was_none() -> None:
    """Catches: an older ledger that cannot be read, or one that gives back what its debate had charged."""
    assert Settlement.from_json({"key": "k", "usage": None}) == Settlement("k", None, refused=False)
    assert Settlement("k", None).to_json() == {"key": "k", "usage": None}


# --- calibration


def test_bytes_are_reserved_until_a_report_calibrates() -> None:
    start = Calibration()
    assert start.estimate("m", 1000) == 1016
    assert start.observe("m", 199, 5) == start, "too short to tell"
    seen = start.observe("m", 1000, 250)
    assert seen.estimate("m", 1001) == 16 + 313  # ceil(1001 × 1/4 × 5/4)
    assert seen.estimate("other", 1000) == 1016
    assert start == Calibration(), "immutable"


def test_a_report_of_nothing_does_not_make_estimates_unsafe() -> None:
    """Catches a provider that reports 0 prompt tokens and thereby empties every later reservation."""
    assert Calibration().observe("m", 10_000, 0).estimate("m", 8000) == 16 + 1250  # 1/8 × 5/4
    worst = Calibration().observe("m", 1000, 900)
    assert worst.observe("m", 1000, 100) == worst
    assert worst.estimate("m", 1000) == 1016, "never above the bytes"
    assert Calibration().observe("m", 1000, 1200).estimate("m", 1000) == 1516, "unless a report was"


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 4000)), max_size=8), st.integers(0, 10_000), st.randoms()
)
def test_calibration_against_fractions(seen: list[tuple[int, int]], size: int, rng: Any) -> None:
    """The integer arithmetic against exact fractions; and the order of observations does not matter."""
    counted = [(size_, tokens) for size_, tokens in seen if size_ >= 200]
    expected = size
    if counted:
        ratio = max([Fraction(1, 8), *(Fraction(tokens, size_) for size_, tokens in counted)])
        raw = ratio * size * Fraction(5, 4)
        ceiling = -(-raw.numerator // raw.denominator)
        expected = ceiling if ratio > 1 else min(ceiling, size)
    for _ in range(2):
        calibration = Calibration()
        for size_, tokens in seen:
            calibration = calibration.observe("m", size_, tokens)
        assert calibration.estimate("m", size) == expected + 16
        rng.shuffle(seen)


def test_the_account_calibrates_and_a_fold_does_so_again() -> None:
    running = account()
    entries: list[Entry] = [running.reserve("k", CALL, hold=NONE, model="m", utf8_bytes=400)]
    entries.append(running.settle("k", Amount(100, 1)))
    entries.append(running.reserve("exact", CALL, hold=NONE, model="n"))
    entries.append(running.settle("exact", Amount(100, 1)))
    assert running.calibration.worst == {"m": (100, 400)}
    assert Account.fold(running.limits, entries).calibration == running.calibration


# --- random schedules


class Twin:
    """The dumb twin: every call in a list, sums made anew each time."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.calls = limits, dict[str, tuple[Amount, Amount | None]]()

    def charged(self) -> Amount:
        total = Amount()
        for worst, used in self.calls.values():
            total += worst if used is None else used
        return total

    def fits(self, amount: Amount, hold: Amount) -> bool:
        total = self.charged() + amount + hold
        caps = ((total.tokens, self.limits.tokens), (total.calls, self.limits.calls))
        money = self.limits.usd_nanos is None or (total.usd_nanos or 0) <= self.limits.usd_nanos
        return money and all(value <= cap for value, cap in caps)


AMOUNTS = st.builds(Amount, st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.just(1))
STEPS = st.tuples(
    st.sampled_from(["reserve", "reserve", "landing", "settle", "settle", "drop", "refuse", "crash"]),
    AMOUNTS,
    st.integers(0, 100),
    st.integers(0, 100),
)


@settings(max_examples=300)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 12), AMOUNTS, st.lists(STEPS, max_size=40))
def test_random_schedules(tokens: int, nanos: int, calls: int, hold: Amount, steps: list[Any]) -> None:
    """Billed ≤ cap, the landing never eaten by other calls, the fold identical, all against the twin.

    `billed` is what the provider charges in truth: up to the reservation, also for calls that are dropped or killed.
    Catches: a reservation freed by a drop or a crash, the hold not counted, a fold that forgets, a cap checked late.
    """
    limits = Limits(tokens=tokens, usd_nanos=nanos, calls=calls)
    running, twin, entries, billed, landed = Account(limits), Twin(limits), list[Entry](), Amount(), False
    for number, (step, amount, percent, which) in enumerate(steps):
        open_keys = running.open_keys
        key = open_keys[which % len(open_keys)] if open_keys else ""
        if step in ("reserve", "landing"):
            held = hold if step == "reserve" else NONE
            fits = twin.fits(amount, held)
            assert (running.affordable(amount, held) is None) == fits
            if not fits:
                with pytest.raises(BudgetExceeded):
                    running.reserve(f"k{number}", amount, hold=held)
                continue
            landed = landed or step == "landing"
            entries.append(
                running.reserve(f"k{number}", amount, hold=held, landing=step == "landing", agent=f"a{which}")
            )
            twin.calls[f"k{number}"] = (amount, None)
            billed += amount  # the worst: billed in full, whether or not anyone reports it
            if not landed:
                assert running.affordable(hold, NONE) is None, "the landing still fits after every admitted call"
        elif step == "crash":
            running = Account.fold(limits, entries)
            entries += running.abandon_open()
        elif key and step == "drop":
            entries.append(running.settle(key, None))
        elif key and step == "refuse":
            entries.append(running.settle(key, None, refused=True))
            twin.calls[key] = (twin.calls[key][0], Amount(0, 0, 0, 1))
            billed = twin.charged()
        elif key:
            worst = twin.calls[key][0]
            used = Amount(worst.prompt_tokens * percent // 100, worst.output_tokens, worst.usd_nanos, 1)
            entries.append(running.settle(key, used))
            twin.calls[key] = (worst, used)
            billed = twin.charged()
        assert running.committed == twin.charged()
        assert billed.tokens <= tokens
        assert (billed.usd_nanos or 0) <= nanos
        assert billed.calls <= calls
    recorded = [json.loads(json.dumps(entry.to_json())) for entry in entries]
    again = [Reservation.from_json(data) if "amount" in data else Settlement.from_json(data) for data in recorded]
    assert Account.fold(limits, again) == running
    assert running.overshoot == NONE
