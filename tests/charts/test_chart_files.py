"""What the chart carries is what the rest of the repository says."""

import json
import re
import tomllib

import yaml

from chart import CHART
from shoal_api import crd

ROOT = CHART.parents[1]


def test_the_chart_carries_the_generated_crd() -> None:
    carried = (CHART / "files/modeldeployments.yaml").read_text()

    assert carried == (ROOT / "crds/modeldeployments.yaml").read_text(), "run `make crds`"
    assert carried == crd.render()


def test_the_chart_has_the_version_of_the_programs() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert chart["version"] == chart["appVersion"] == project["version"]


def test_the_dashboard_asks_only_for_metrics_that_exist() -> None:
    reference = (ROOT / "docs/reference/metrics.md").read_text()
    known = set(re.findall(r"^\| `(shoal_\w+)` \|", reference, re.MULTILINE))
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]

    named = {name.removesuffix("_bucket") for query in asked for name in re.findall(r"\bshoal_\w+", query)}

    assert named
    assert named - known == set()
    assert all(re.search(r"\bshoal_\w+", query) for query in asked)
