"""The folder of one run: exclusive, private, and cleared of what a killed run left."""

import fcntl
import stat
import threading
from pathlib import Path

import pytest

from shoal_operator import run_directory
from shoal_operator.run_directory import InUse, RunDirectory


def test_one_run_at_a_time(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with RunDirectory(root):
        assert run_directory.is_held(root)
        with pytest.raises(InUse):
            RunDirectory(root)
    assert not run_directory.is_held(root)


def test_a_look_at_the_folder_is_no_other_run(tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    with (root / "lock").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        release = threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN))
        release.start()
        with RunDirectory(root):
            assert run_directory.is_held(root)
        release.join()


def test_keys_are_for_the_owner_alone_and_go_with_the_run(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run") as run:
        assert stat.S_IMODE(run.master_key_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(run.keys.stat().st_mode) == 0o700
        assert bytes.fromhex(run.master_key_file.read_text()) == run.master_key
    assert not run.master_key_file.exists()


def test_what_an_earlier_run_left_is_removed_and_its_logs_are_kept_until_then(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with RunDirectory(root) as first:
        left = first.scratch()
        log = first.logs / "a.log"
        log.write_text("words")
        first.status_file.write_text("{}")
        listed = (root / "scratch").read_text()
    assert not left.exists()
    assert log.exists()

    left.mkdir()
    (root / "scratch").write_text(f"{listed}/etc\n{tmp_path}\n")  # only what `scratch` made is ever removed
    with RunDirectory(root):
        assert not left.exists()
        assert not log.exists()
        assert Path("/etc").exists()
        assert tmp_path.exists()


def test_readers_see_the_old_text_or_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "routes.json"
    run_directory.write_whole(file, "old")
    with file.open() as reader:
        run_directory.write_whole(file, "new")
        assert reader.read() == "old"
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]
