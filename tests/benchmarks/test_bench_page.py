"""The page, the plot and the ratios that are made of what was measured."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

import outcome
import page
import plot
from outcome import Outcome, PeerOutcome

ROOT = Path(__file__).resolve().parents[2]

DIRECT = {"json_c1_per_s": 14_200.0, "json_c1_p50_us": 68.0, "json_c1_p99_us": 900.0, "json_c32_per_s": 142_000.0}
HAPROXY = {
    "json_c1_per_s": 10_000.0,
    "json_c1_p50_us": 97.0,
    "json_c1_p99_us": 400.0,
    "json_c32_per_s": 80_000.0,
    "json_c32_busy": 0.99,
    "json_c32_cpu_us": 12.0,
    "events_per_s": 50_000.0,
    "events_busy": 0.4,
    "first_8_p50_ms": 51.6,
    "first_8_p99_ms": 57.0,
}
SHOAL = {**HAPROXY, "json_c1_p50_us": 1_568.0, "json_c32_per_s": 44_000.0, "json_c32_cpu_us": 20.0}


def found(**peers: PeerOutcome) -> Outcome:
    return Outcome(
        date="2026-11-21 10:00 UTC",
        command="python benchmarks/run.py",
        machine={"CPU": "2 cores"},
        placement="what is measured has core 0",
        rounds=1,
        trust="",
        idle=[0.99],
        peers=peers,
    )


FOUND = found(
    direct=PeerOutcome(rounds=[DIRECT]),
    haproxy=PeerOutcome(version="2.6", rounds=[HAPROXY]),
    shoal=PeerOutcome(rounds=[SHOAL], faults=["streams: 3 of 4 failed"]),
    smg=PeerOutcome(left_out="smg is missing"),
)


def row(text: str, name: str) -> list[str]:
    """All rows of a peer, cell by cell."""
    rows = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for line in rows for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("direct", ["14,200 (68 µs / 900 µs)", "142,000"]),
        ("haproxy", ["80,000", "≥ 50,000", "29 µs / ≤ 0", "51.6 / 57.0", "12 µs"]),
        ("shoal", ["44,000", "1.5 ms / ≤ 0", "20 µs"]),
    ],
)
def test_a_peer_has_its_figures_and_a_mark_where_it_was_not_the_limit(name: str, cells: list[str]) -> None:
    shown = row(page.page(FOUND), name)

    assert [cell for cell in cells if cell not in shown] == []


def test_columns_that_nobody_has_are_left_out() -> None:
    text = page.page(FOUND)

    assert "short streams/s" not in text.split("`≥`")[0]
    assert "gap, 128 streams" not in text


def test_what_was_left_out_or_went_wrong_is_told() -> None:
    text = page.page(FOUND)

    assert "| smg | – | smg is missing |" in text
    assert "- shoal: streams: 3 of 4 failed" in text


def test_ratios_turn_costs_round() -> None:
    shares = {ratio.name: ratio.share for ratio in outcome.ratios(SHOAL, HAPROXY)}

    assert shares["JSON requests/s, 32 connections"] == pytest.approx(0.55)
    assert shares["JSON requests per CPU second"] == pytest.approx(0.6)
    assert "220 KB bodies/s" not in shares


def test_the_log_shows_ours_beside_haproxy() -> None:
    lines = page.ratio_lines(FOUND)

    assert lines[0].split() == [
        "JSON",
        "requests/s,",
        "32",
        "connections",
        "shoal",
        "44,000",
        "haproxy",
        "80,000",
        "55%",
    ]
    assert page.ratio_lines(found(direct=PeerOutcome(rounds=[DIRECT]))) == []


def test_a_figure_is_the_median_of_the_rounds_that_have_it() -> None:
    peer = PeerOutcome(rounds=[{"a": 1.0, "b": 5.0}, {"a": 9.0}, {"a": 2.0}])

    assert peer.values() == {"a": 2.0, "b": 5.0}


def test_results_survive_being_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(FOUND.to_text())

    assert outcome.read(path) == FOUND


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0.0"), (93.4, "93.4"), (1_286.4, "1,286"), (44_049.0, "44,000"), (142_180.0, "142,200")]
)
def test_counts_show_no_more_digits_than_they_have(value: float, shown: str) -> None:
    assert page.count(value) == shown


def test_the_plot_is_an_svg_with_a_bar_for_every_figure() -> None:
    drawing = ElementTree.fromstring(plot.svg(FOUND))  # noqa: S314  (our own)
    texts = [node.text for node in drawing.iter("{http://www.w3.org/2000/svg}text")]
    bars = list(drawing.iter("{http://www.w3.org/2000/svg}rect"))

    assert texts.count("haproxy") == 3
    assert texts.count("direct") == 1, "its CPU is an engine's and stands beside no peer's"
    assert "44,000" in texts
    assert len(bars) == 1 + 7


@pytest.mark.parametrize(("values", "longest"), [([1], 1), ([1, 2, 3], 3), ([20, 20, 24, 9_000], 120)])
def test_a_bar_far_longer_than_the_others_runs_out_of_the_chart(values: list[float], longest: float) -> None:
    assert plot.scale(values) == longest


def test_a_run_without_figures_still_makes_a_page_and_a_plot() -> None:
    nothing = found(smg=PeerOutcome(left_out="smg is missing"))

    assert "smg is missing" in page.page(nothing)
    ElementTree.fromstring(plot.svg(nothing))  # noqa: S314  (our own)


def test_the_committed_page_is_what_the_committed_results_render_to() -> None:
    results = ROOT / "docs/reference/benchmarks.json"
    if not results.exists():
        pytest.skip("no results are committed")
    assert (results.with_suffix(".md")).read_text() == page.page(outcome.read(results))
