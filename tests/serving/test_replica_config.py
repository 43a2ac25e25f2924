"""What a replica is told: from its file, completed from the environment; what is wrong is one sentence."""

from pathlib import Path

import pytest

from replica_builders import KEY, a_config, a_config_file
from shoal_serving.replica import config as configuration
from shoal_serving.replica import source
from shoal_serving.replica.config import BadConfig


def test_name_and_uid_come_from_the_environment_where_the_file_has_none(tmp_path: Path) -> None:
    file = a_config_file(tmp_path, replica="", replica_uid="")
    config = configuration.read(file, {"POD_NAME": "llama-7", "POD_UID": "uid-7"})
    assert (config.replica, config.replica_uid) == ("llama-7", "uid-7")


def test_the_files_own_name_wins_over_the_environment(tmp_path: Path) -> None:
    config = configuration.read(a_config_file(tmp_path), {"POD_NAME": "other", "POD_UID": "other"})
    assert (config.replica, config.replica_uid) == ("llama-0", "uid-0")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file"),
        ('{"model": 3}', "wrong at model"),
        ('{"frobnicate": 1}', "wrong at"),
    ],
)
def test_a_wrong_file_is_named_with_the_place_of_the_fault(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(BadConfig, match=says):
        configuration.read(file, {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"nowhere\.json cannot be read: No such file"):
        configuration.read(tmp_path / "nowhere.json", {})


def test_a_replica_without_a_uid_says_which_variable_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="POD_UID"):
        configuration.read(a_config_file(tmp_path, replica_uid=""), {"POD_NAME": "llama-7"})


@pytest.mark.parametrize(
    ("text", "says"), [(None, "cannot be read"), ("xyz", "not hex"), ("00ff", "2 bytes instead of 32")]
)
def test_a_bad_model_key_is_refused(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "key").write_text(text)
    with pytest.raises(BadConfig, match=says):
        configuration.read_model_key(a_config(tmp_path))


def test_the_model_key_is_read_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY.hex() + "\n")
    assert configuration.read_model_key(a_config(tmp_path)) == KEY


def test_a_key_file_that_was_replaced_is_read_again_and_a_bad_one_is_not_taken(tmp_path: Path) -> None:
    file, other = tmp_path / "key", bytes(reversed(KEY))

    def replace(text: str) -> None:
        (tmp_path / "next").write_text(text)
        (tmp_path / "next").replace(file)

    replace(KEY.hex())
    keys = configuration.KeyFile(a_config(tmp_path))
    assert [keys.changed(), keys.changed()] == [KEY, None]

    replace(other.hex())
    assert [keys.changed(), keys.changed()] == [other, None]

    replace("half of a ke")
    assert keys.changed() is None
    file.unlink()
    assert keys.changed() is None
    replace(KEY.hex())
    assert keys.changed() == KEY


def test_an_empty_ray_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    with pytest.raises(BadConfig, match="is empty"):
        configuration.read_ray_token(a_config(tmp_path))


def test_a_model_directory_is_looked_at_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(source.BadSource, match="does not exist"):
        source.check(a_config(source=str(tmp_path / "llama")))
    (tmp_path / "llama").mkdir()
    with pytest.raises(source.BadSource, match=r"holds no config\.json"):
        source.check(a_config(source=str(tmp_path / "llama")))
    (tmp_path / "llama" / "config.json").write_text("{}")
    source.check(a_config(source=str(tmp_path / "llama")))


def test_a_file_is_no_model_directory(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").touch()
    with pytest.raises(source.BadSource, match="is a file"):
        source.check(a_config(source=str(tmp_path / "weights.bin")))


def test_a_hubs_id_is_left_to_the_engine() -> None:
    source.check(a_config(source="org/model@main"))
