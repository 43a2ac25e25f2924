"""The edits of tests/mutations still fit the code, so that the night does not spend itself on finding that out."""

from pathlib import Path

import pytest
from all_features import ALL
from features import Feature

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("feature", ALL, ids=[feature.name.replace(" ", "-") for feature in ALL])
def test_a_feature_can_be_taken_out_and_its_test_is_there(feature: Feature) -> None:
    file, _, test = feature.tests.partition("::")

    assert (ROOT / feature.file).read_text().count(feature.old) == 1
    assert feature.old != feature.new
    assert f"def {test.partition('[')[0]}" in (ROOT / file).read_text()
