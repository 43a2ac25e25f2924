"""Which core runs what."""

import pytest

from placement import Placement, pinned, place


@pytest.mark.parametrize(
    ("cores", "wanted"),
    [
        ([5], Placement(5, (5, 5), (5,))),
        ([0, 1], Placement(0, (1, 1), (1,))),
        ([4, 2, 3], Placement(2, (3, 3), (4,))),
        ([0, 1, 2, 3], Placement(0, (1, 2), (3,))),
        (range(16), Placement(0, (1, 2), (3, 4, 5, 6))),
    ],
)
def test_what_is_measured_has_a_core_to_itself_as_soon_as_there_are_two(cores: list[int], wanted: Placement) -> None:
    assert place(cores) == wanted


def test_a_placement_says_what_it_costs() -> None:
    assert "everything shares core 0" in place([0]).words
    assert "(shared:" in place([0, 1]).words
    assert "shared" not in place([0, 1, 2, 3]).words


def test_a_pinned_command_ends_with_its_parent_and_keeps_to_its_cores() -> None:
    words = pinned(["haproxy", "-db"], 3, 1, 3)

    assert words == ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", "1,3", "haproxy", "-db"]
