"""Reading manifests: every fault in one sentence with its file and field, and edits noticed when they lie still."""

import os
from pathlib import Path

import pytest
import yaml

from builders import a_manifest
from shoal_operator import manifests
from shoal_operator.manifests import Refused, Watch

_OTHER = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}


def write(folder: Path, text: str, name: str = "models.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_several_documents_in_several_files(tmp_path: Path) -> None:
    first = write(tmp_path, yaml.safe_dump_all([a_manifest("a"), None, a_manifest("b")]), "first.yaml")
    second = write(tmp_path, yaml.safe_dump(a_manifest("c")), "second.yaml")

    assert [md.metadata.name for md in manifests.read((first, second))] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", ["holds no ModelDeployment"]),
        ("--- \n--- \n", ["holds no ModelDeployment"]),
        ("a: [", ["is not YAML: line 1: "]),
        ("just words", ["a manifest is a mapping with apiVersion, kind, metadata and spec"]),
        (yaml.safe_dump_all([a_manifest(), _OTHER]), ["document 2: this is a Secret; only shoal.dev/v1alpha1"]),
        (yaml.safe_dump(a_manifest() | {"apiVersion": "shoal.dev/v9"}), ["kind: expected shoal.dev/v1alpha1"]),
        (yaml.safe_dump(a_manifest(replcas=1)), ["spec.replcas: there is no such field; check the spelling"]),
        (
            yaml.safe_dump(a_manifest(engine={"image": "x"})),
            ["spec.engine.image: one machine runs the installed engine"],
        ),
        (
            yaml.safe_dump_all([a_manifest(replicas=-1), a_manifest("b", engine={"image": "x"})]),
            ["document 1: spec.replicas", "document 2: spec.engine.image"],
        ),
        (yaml.safe_dump_all([a_manifest(), a_manifest()]), ["default/qwen is defined in"]),
        ("since: 2026-02-30", ["holds a value that cannot be read (day is out of range for month): put it in quotes"]),
        ("since: !!timestamp soon", ["holds a value that cannot be read"]),
        ("[" * 5000, ["is not YAML: it is nested too deeply"]),
        (yaml.safe_dump(a_manifest()) + "more: {2026-11-22: x}", ["this cannot be written as JSON (keys must be str"]),
        (yaml.safe_dump(a_manifest()) + "more: &m [*m]", ["this cannot be written as JSON (Circular reference"]),
    ],
)
def test_each_fault_is_one_sentence_with_its_place(tmp_path: Path, text: str, sentences: list[str]) -> None:
    file = write(tmp_path, text)

    with pytest.raises(Refused) as refused:
        manifests.read((file,))

    assert len(refused.value.sentences) == len(sentences)
    for said, expected in zip(refused.value.sentences, sentences, strict=True):
        assert said.startswith(str(file))
        assert expected in said


def test_files_that_cannot_be_read_are_told_all_together(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(Refused) as refused:
        manifests.read((tmp_path / "absent.yaml", tmp_path, binary))

    assert [s.split(" ", 1)[1] for s in refused.value.sentences] == [
        "cannot be read: No such file or directory",
        "cannot be read: Is a directory",
        "is not UTF-8 text",
    ]


def test_an_edit_is_told_once_and_only_when_the_file_lies_still(tmp_path: Path) -> None:
    file = write(tmp_path, "a: 1")
    watch = Watch((file,))
    assert [watch.has_changed() for _ in range(2)] == [False, False]

    file.write_text("a: 22")
    assert not watch.has_changed(), "it may be half written"
    file.write_text("a: 333")
    assert not watch.has_changed()
    assert [watch.has_changed() for _ in range(2)] == [True, False]


def test_an_editor_that_replaces_the_file_is_noticed(tmp_path: Path) -> None:
    file = write(tmp_path, "a: 1")
    before = file.stat()
    watch = Watch((file,))
    other = write(tmp_path, "a: 2", "other")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)

    assert [watch.has_changed() for _ in range(2)] == [False, True]


def test_a_file_that_vanishes_is_a_change(tmp_path: Path) -> None:
    file = write(tmp_path, "a: 1")
    watch = Watch((file,))
    file.unlink()

    assert [watch.has_changed() for _ in range(2)] == [False, True]
