"""The table "What happens to a request" of semantics.md, row by row."""

import pytest

from shoal_serving.gateway.retrying import NONE_YET, Happening, History, Step, of_status, verdict


@pytest.mark.parametrize(
    ("happening", "history", "untried", "step", "after"),
    [
        (Happening.UNREACHABLE, NONE_YET, True, Step.ANOTHER, History()),
        (Happening.UNREACHABLE, History(2, 1), False, Step.ANOTHER, History(2, 1)),
        (Happening.BUSY, NONE_YET, False, Step.ANOTHER, History()),
        (Happening.BUSY, History(2, 1), False, Step.ANOTHER, History(2, 1)),
        (Happening.STALE, NONE_YET, False, Step.SAME_AGAIN, History(doubted=True)),
        (Happening.STALE, History(doubted=True), True, Step.ANOTHER, History(1, 1)),
        (Happening.CLOSED, NONE_YET, True, Step.ANOTHER, History(1, 1)),
        (Happening.CLOSED, NONE_YET, False, Step.OVERLOADED, History(1, 1)),
        (Happening.CLOSED, History(1, 1), True, Step.DEADLY, History(2, 2)),
        (Happening.CUT, NONE_YET, True, Step.ANOTHER, History(1, 1)),
        (Happening.CUT, History(1, 1), True, Step.DEADLY, History(2, 2)),
        (Happening.OVERLOADED, NONE_YET, True, Step.ANOTHER, History(1, 0)),
        (Happening.OVERLOADED, History(1, 0), True, Step.ANOTHER, History(2, 0)),
        (Happening.OVERLOADED, History(2, 0), True, Step.OVERLOADED, History(3, 0)),
        (Happening.OVERLOADED, NONE_YET, False, Step.OVERLOADED, History(1, 0)),
        (Happening.FAILED, NONE_YET, True, Step.ANOTHER, History(1, 1)),
        (Happening.FAILED, NONE_YET, False, Step.PASS_ON, History(1, 1)),
        (Happening.FAILED, History(1, 1), True, Step.PASS_ON, History(2, 2)),
        (Happening.REJECTED, NONE_YET, True, Step.PASS_ON, History(1, 0)),
        (Happening.NO_FIRST_BYTE, NONE_YET, True, Step.TIMED_OUT, History(1, 0)),
        (Happening.SILENT, NONE_YET, True, Step.ANOTHER, History(1, 0)),
        (Happening.SILENT, NONE_YET, False, Step.TIMED_OUT, History(1, 0)),
    ],
)
def test_before_the_commit(happening: Happening, history: History, untried: bool, step: Step, after: History) -> None:
    decided = verdict(happening, history, committed=False, untried=untried)
    assert (decided.step, decided.history) == (step, after)


@pytest.mark.parametrize("happening", [Happening.CUT, Happening.SILENT])
def test_after_the_commit_nothing_is_tried_elsewhere_from_the_start(happening: Happening) -> None:
    assert verdict(happening, NONE_YET, committed=True, untried=True).step is Step.LOST


@pytest.mark.parametrize("happening", [Happening.UNREACHABLE, Happening.BUSY, Happening.STALE])
def test_what_never_got_out_does_not_use_up_the_pod(happening: Happening) -> None:
    assert not verdict(happening, NONE_YET, committed=False, untried=True).tried


def test_a_stale_connection_whose_pod_then_refuses_was_a_death() -> None:
    doubted = verdict(Happening.STALE, NONE_YET, committed=False, untried=True).history
    decided = verdict(Happening.UNREACHABLE, doubted, committed=False, untried=True)
    assert decided.history == History(1, 1)
    assert decided.tried


def test_no_sequence_of_happenings_kills_three_engines_or_makes_four_attempts() -> None:
    ends = [
        Happening.STALE,
        Happening.CLOSED,
        Happening.CUT,
        Happening.FAILED,
        Happening.OVERLOADED,
        Happening.SILENT,
        Happening.UNREACHABLE,
    ]
    seen: set[History] = set()
    edge = [NONE_YET]
    while edge:
        history = edge.pop()
        for happening in ends:
            decided = verdict(happening, history, committed=False, untried=True)
            assert decided.history.attempts <= 3
            assert decided.history.deaths <= 2
            if decided.step in (Step.ANOTHER, Step.SAME_AGAIN) and decided.history not in seen:
                assert decided.history.deaths < 2
                seen.add(decided.history)
                edge.append(decided.history)


@pytest.mark.parametrize(
    ("status", "happening"),
    [
        (200, Happening.COMPLETE),
        (400, Happening.REJECTED),
        (404, Happening.REJECTED),
        (422, Happening.REJECTED),
        (429, Happening.OVERLOADED),
        (500, Happening.FAILED),
    ]
    + [(status, Happening.OVERLOADED) for status in (502, 503, 504)],
)
def test_what_an_engines_status_means(status: int, happening: Happening) -> None:
    assert of_status(status) is happening
