"""Every metric is described, and the description and the program name the same ones."""

import re
from pathlib import Path

from shoal_serving.gateway import metrics
from shoal_serving.gateway.cluster_wire import WatchState
from shoal_serving.gateway.exposition import Exposition
from shoal_serving.gateway.metrics import Histogram, ModelGauges, ModelMetrics, Reading

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def text() -> str:
    counted = ModelMetrics()
    counted.count_request("/v1/embeddings", "ok")
    counted.count_attempt("complete")
    gauges = {"d/m": ModelGauges(1, 2, {"open": 1, "busy": 0, "out": 0}, 3)}
    watches = {"endpointslices": WatchState(3.5, 2, {"Closed": 4})}
    exposition = Exposition(lambda: Reading({"d/m": counted}, gauges, 5, 6, watches))
    return b"".join(exposition.pieces()).decode()


def test_the_program_shows_what_it_describes() -> None:
    families = {name.removesuffix("_total") for name in re.findall(r"^# TYPE (\S+)", text(), re.MULTILINE)}
    assert families == set(metrics.HELP)


def test_the_reference_has_one_line_for_each_metric_with_the_same_words() -> None:
    lines = REFERENCE.read_text().splitlines()
    for name, told in metrics.HELP.items():
        shown = name + "_total" if f"# TYPE {name}_total counter" in text() else name
        assert [line for line in lines if f"`{shown}`" in line and told in line], name


def test_a_histogram_counts_each_reading_once() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(seconds)
    assert histogram.buckets() == [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)]
    assert histogram.total == 7.65


def test_labels_are_there() -> None:
    assert 'shoal_requests_total{model="d/m",outcome="ok",route="/v1/embeddings"} 1.0' in text()
    assert 'shoal_requests_waiting{model="d/m"} 1.0' in text()
    assert 'shoal_watch_losses_total{reason="Closed",resource="endpointslices"} 4.0' in text()
    assert 'shoal_watch_age_seconds{resource="endpointslices"} 3.5' in text()
