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
    rooms = ("docs", "e2e", "benchmarks")
    pages = [*ROOT.glob("*.md"), *(page for room in rooms for page in (ROOT / room).rglob("*.md"))]
    links = [
        (page, (page.parent / target) if target else page, part)
        for page in pages
        for target, part in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text())
        if "://" not in target
    ]

    assert any(part for _, _, part in links)
    broken = [
        (page.name, target.name, part)
        for page, target, part in links
        if not target.exists() or (part and part not in _parts(target))
    ]
    assert broken == []


def _parts(page: Path) -> list[str]:
    """What a link can name of a page: its headings, as forges spell them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


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
