"""The stories' reaction times: what counts as the reaction to a request, and what a watch and a log say."""

from storykit import reactions
from storykit.ledger_client import Entry
from storykit.reactions import Decided, PodTimes


def an_entry(began: float, first: float = 0.0, outcome: str = "ok") -> Entry:
    return Entry(0, began, first=first, outcome=outcome)


def test_a_reaction_is_the_first_of_each_thing_after_the_first_request() -> None:
    entries = [an_entry(5.0, 5.5), an_entry(100.0, 103.0), an_entry(100.5, 102.5)]
    decided = [Decided(50.0, "Idle", ""), Decided(100.2, "Woken", ""), Decided(100.3, "ScaledUp", "")]
    pods = PodTimes(made={"old": 20.0, "new": 100.5}, ready={"old": 22.0, "new": 102.0})

    seen = reactions.reaction(entries, decided, pods, since=99.0)

    assert (seen.held, seen.decided, seen.made, seen.ready, seen.first_token) == (100.0, 100.2, 100.5, 102.0, 102.5)
    assert str(seen) == ("held → decided +0.20 s → pod made +0.50 s → ready +2.00 s → first token +2.50 s")


def test_what_did_not_happen_is_no_time() -> None:
    seen = reactions.reaction([an_entry(10.0)], [], PodTimes(), since=0.0)

    assert (seen.decided, seen.made, seen.ready, seen.first_token) == (None, None, None, None)
    assert str(seen).endswith("first token –")


def test_a_watch_tells_the_first_time_of_each_state() -> None:
    pods = PodTimes()
    for now, line in enumerate(
        ["a-0  ", "a-0 False ", "a-1  ", "a-0 True ", "a-0 True ", "a-0 True 2026-11-21T17:00:00Z"]
    ):
        pods.take(line, float(now))

    assert (pods.made, pods.ready, pods.leaving) == ({"a-0": 0.0, "a-1": 2.0}, {"a-0": 3.0}, {"a-0": 5.0})


def test_lost_is_whatever_did_not_end_well() -> None:
    outcomes = ("ok", "cut", "lost", "refused", "ok")

    assert reactions.lost([an_entry(1.0, outcome=outcome) for outcome in outcomes]) == 3
