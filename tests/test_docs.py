"""The reference pages say what the code says."""

import re
from pathlib import Path

import pytest

from shoal_api import reference

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", sorted(reference.pages()))
def test_a_generated_page_is_the_rendered_one(name: str) -> None:
    assert (ROOT / "docs/reference" / name).read_text() == reference.pages()[name], "run `make crds`"


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "e2e").rglob("*.md")]
    links = [(page, target) for page in pages for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())]

    broken = [
        (page.name, target) for page, target in links if "://" not in target and not (page.parent / target).exists()
    ]

    assert broken == []


def test_every_reason_for_not_being_ready_has_its_remedy() -> None:
    told = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text()
    conditions = (ROOT / "docs" / "reference" / "conditions.md").read_text()
    reasons = re.findall(r"^\| `(\w+)` \| Not (?:Ready|NamesGranted)", conditions, re.MULTILINE)

    assert len(reasons) >= 11
    assert [reason for reason in reasons if f"`{reason}`" not in told] == []


def test_the_page_of_stories_names_each_of_them() -> None:
    told = (ROOT / "e2e" / "README.md").read_text()
    stories = {test.parent.name for test in (ROOT / "e2e").glob("*/test_*.py")}

    assert len(stories) > 20
    assert [
        story for story in sorted(stories) if f"]({story})" not in told and f"({story}/README.md)" not in told
    ] == []
