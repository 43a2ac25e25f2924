"""What requests cost, from several turns."""

import cpu


def _turn(json: float, streams: float) -> dict[str, float]:
    return {"json_c32_cpu_us": json, "streams_cpu_us": streams}


def test_a_cost_is_the_smallest_of_all_turns_beside_their_median() -> None:
    readings = {"haproxy": [_turn(20, 24), _turn(22, 30), _turn(30, 26)], "shoal": [_turn(44, 50), _turn(40, 48)]}

    assert cpu.report(readings, ["json", "streams"]).splitlines() == [
        "| CPU time (µs) | haproxy | shoal | shoal: of haproxy's per core |",
        "|---|---|---|---|",
        "| JSON request | 20.0 (22.0) | 40.0 (40.0) | 50% (55%) |",
        "| short stream, 18 events in one read | 24.0 (26.0) | 48.0 (48.0) | 50% (54%) |",
    ]


def test_what_could_not_be_measured_is_no_figure() -> None:
    readings = {"haproxy": [_turn(20, 24)], "shoal": [{"json_c32_cpu_us": 40.0}]}

    assert cpu.report(readings, ["streams"]).splitlines()[-1] == (
        "| short stream, 18 events in one read | 24.0 (24.0) | – | – |"
    )


def test_without_haproxy_nothing_is_compared() -> None:
    assert cpu.report({"shoal": [_turn(40, 50)]}, ["json"]).splitlines()[0] == "| CPU time (µs) | shoal |"
