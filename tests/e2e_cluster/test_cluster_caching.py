"""What was built is found again by the hash of its inputs; a build that fails never looks finished."""

import os
from pathlib import Path

import pytest

from localkube import binaries, caching, images

INPUTS = {"go.mod": b"module a", "main.go": b"package main"}


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (dict(reversed(INPUTS.items())), True),
        ({**INPUTS, "go.mod": b"module b"}, False),
        ({**INPUTS, "go.sum": b""}, False),
        ({"go.mod": b"module a", "other.go": b"package main"}, False),
        ({"go.mo": b"dmodule a", "main.go": b"package main"}, False),
    ],
)
def test_the_key_follows_names_and_contents_and_nothing_else(changed: dict[str, bytes], same: bool) -> None:
    assert (caching.key_of(changed) == caching.key_of(INPUTS)) is same


def test_a_thing_is_made_once(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(draft: Path) -> None:
        made.append(draft)
        draft.write_text("done")

    for _ in range(2):
        assert caching.made_once(tmp_path / "deep" / "thing", make).read_text() == "done"

    assert len(made) == 1


def test_a_failed_build_is_no_finished_build(tmp_path: Path) -> None:
    def fail(draft: Path) -> None:
        draft.mkdir()
        (draft / "half").write_text("")
        raise RuntimeError("compiler")

    with pytest.raises(RuntimeError):
        caching.made_once(tmp_path / "thing", fail)

    assert not (tmp_path / "thing").exists()
    assert caching.made_once(tmp_path / "thing", lambda draft: draft.mkdir()).is_dir(), "the draft is no hindrance"


def test_removing_never_follows_a_link(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("")
    link = tmp_path / "link"
    link.symlink_to(kept)

    caching.remove(link)
    caching.remove(tmp_path / "never there")

    assert not link.is_symlink()
    assert (kept / "file").exists()


def test_the_version_is_stamped_into_the_programs() -> None:
    flags = binaries.linker_flags("v1.34.4")

    assert "gitVersion=v1.34.4" in flags
    assert "gitMajor=1 " in flags
    assert flags.endswith("gitMinor=34")


def test_the_modules_beside_the_tool_are_complete() -> None:
    for module in ("kubernetes", "companions"):
        assert {"go.mod", "go.sum"} <= set(caching.files_below(binaries.MODULES / module))
    assert f"k8s.io/kubernetes {binaries.VERSION}" in (binaries.MODULES / "kubernetes" / "go.mod").read_text()


@pytest.mark.parametrize(
    ("dockerfile", "arguments", "contents", "same"),
    [
        (b"FROM a", {"A": "1"}, {"x.py": b"1"}, True),
        (b"FROM b", {"A": "1"}, {"x.py": b"1"}, False),
        (b"FROM a", {"A": "2"}, {"x.py": b"1"}, False),
        (b"FROM a", {}, {"x.py": b"1"}, False),
        (b"FROM a", {"A": "1"}, {"x.py": b"2"}, False),
        (b"FROM a", {"A": "1"}, {"y.py": b"1"}, False),
    ],
)
def test_an_image_is_built_anew_when_an_input_changes(
    dockerfile: bytes, arguments: dict[str, str], contents: dict[str, bytes], same: bool
) -> None:
    before = images.image_key("localhost/a:1", b"FROM a", {"A": "1"}, {"x.py": b"1"})

    assert (images.image_key("localhost/a:1", dockerfile, arguments, contents) == before) is same


def test_outside_a_checkout_all_files_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "b.py").write_text("")
    (tmp_path / "Dockerfile").write_text("")

    assert images.tracked(tmp_path) == [tmp_path / "Dockerfile", tmp_path / "src" / "b.py"]


def test_of_an_image_only_the_newest_archives_are_kept(tmp_path: Path) -> None:
    archives = [tmp_path / f"engine-dev-{number:016x}.tar" for number in range(5)]
    other = tmp_path / f"engine-dev-cpu-{0:016x}.tar"
    for age, path in enumerate([*archives, other]):
        path.write_bytes(b"")
        os.utime(path, (1000 - age, 1000 - age))

    images.forget_older(archives[4], "engine-dev")

    assert sorted(tmp_path.iterdir()) == sorted([archives[4], archives[0], archives[1], other])
