"""Which files are read before the engine asks for them, and where reading them ends."""

import os
from pathlib import Path

import pytest

from replica_builders import a_config
from shoal_serving.replica import limits, weights_ahead

CHUNK = 4 * 1024 * 1024


def fill(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


@pytest.mark.parametrize(
    ("there", "read"),
    [
        (["b.safetensors", "a.safetensors", "pytorch_model.bin"], ["a.safetensors", "b.safetensors"]),
        (["pytorch_model.bin", "training.pt"], ["pytorch_model.bin"]),
        (["config.json"], []),
        ([], []),
    ],
)
def test_of_a_folder_the_first_kind_of_weights(there: list[str], read: list[str], tmp_path: Path) -> None:
    fill(tmp_path, *there)
    assert [file.name for file in weights_ahead.files(str(tmp_path), {})] == read


def test_a_file_is_read_itself_and_a_missing_folder_is_nobodys_fault(tmp_path: Path) -> None:
    fill(tmp_path, "model.gguf")
    assert weights_ahead.files(str(tmp_path / "model.gguf"), {}) == [tmp_path / "model.gguf"]
    assert weights_ahead.files(str(tmp_path / "nowhere"), {}) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [("org/model", "new"), ("org/model@v1", "old"), ("org/model@old", "old"), ("org/model@v9", ""), ("org/other", "")],
)
@pytest.mark.parametrize("variable", ["HF_HOME", "XDG_CACHE_HOME", "HOME"])
def test_of_a_hubs_model_what_its_cache_holds(source: str, found: str, variable: str, tmp_path: Path) -> None:
    home = {"HF_HOME": tmp_path, "XDG_CACHE_HOME": tmp_path / "huggingface", "HOME": tmp_path / ".cache/huggingface"}
    folder = home[variable] / "hub" / "models--org--model"
    for commit in ("old", "new"):
        fill(folder / "snapshots" / commit, f"{commit}.safetensors")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("new")
    (folder / "refs" / "v1").write_text("old")

    names = [file.stem for file in weights_ahead.files(source, {variable: str(tmp_path)})]

    assert names == ([found] if found else [])


def evicted(folder: Path, size: int) -> Path:
    """A file of which nothing is in memory, where the file system lets go of it."""
    file = folder / "weights"
    with file.open("wb") as stream:
        stream.write(bytes(size))
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return file


def is_in_memory(file: Path, offset: int) -> bool:
    with file.open("rb", buffering=0) as stream:
        try:
            return os.preadv(stream.fileno(), [bytearray(1)], offset, os.RWF_NOWAIT) == 1
        except OSError:
            return False


def test_every_page_is_in_memory_afterwards(tmp_path: Path) -> None:
    file = evicted(tmp_path, size := 3 * CHUNK + 5000)
    if is_in_memory(file, 0):
        pytest.skip("this file system lets go of nothing")

    assert weights_ahead.read([file], 100 * CHUNK, lambda: False) == size

    assert [offset for offset in range(0, size, 4096) if not is_in_memory(file, offset)] == []


@pytest.mark.parametrize(("room", "passed"), [(CHUNK - 1, 0), (2 * CHUNK, 2 * CHUNK), (100 * CHUNK, 3 * CHUNK)])
def test_it_ends_where_memory_is_short(room: int, passed: int, tmp_path: Path) -> None:
    assert weights_ahead.read([evicted(tmp_path, 3 * CHUNK)], room, lambda: False) == passed


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    answers = iter([False, True])
    assert weights_ahead.read([evicted(tmp_path, 3 * CHUNK)], 100 * CHUNK, lambda: next(answers)) == CHUNK


def test_a_file_that_went_away_keeps_nobody_from_the_next(tmp_path: Path) -> None:
    assert weights_ahead.read([tmp_path / "gone", evicted(tmp_path, 10)], 100 * CHUNK, lambda: False) == 10


def test_a_replica_without_weights_here_begins_nothing(tmp_path: Path) -> None:
    stop = weights_ahead.begin(a_config(tmp_path, source="org/model"), {"HOME": str(tmp_path)})
    assert not stop.is_set()


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("memory.max", "1000\n", 1000),
        ("memory.max", "max\n", 2048),
        ("memory/memory.limit_in_bytes", "1500\n", 1500),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", 2048),
        ("none", "", 2048),
    ],
)
def test_memory_is_what_the_machine_has_or_the_limit(file: str, text: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / file).write_text(text)
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2 kB\n")

    assert limits.memory_available_bytes(tmp_path, tmp_path / "meminfo") == expected
