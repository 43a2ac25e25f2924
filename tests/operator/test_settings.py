"""Settings from the command line and the environment."""

from pathlib import Path

import pytest

from shoal_operator import settings
from shoal_operator.settings import BadSettings


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("8000", ("127.0.0.1", 8000)),
        (":80", ("127.0.0.1", 80)),
        ("[::1]:8000", ("::1", 8000)),
    ],
)
def test_listen_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert settings.listen(text) == address


@pytest.mark.parametrize("text", ["", "localhost", "a:b", "a:0", "a:65536"])
def test_a_wrong_address_names_the_flag(text: str) -> None:
    with pytest.raises(BadSettings, match=r"^--listen .*: give HOST:PORT"):
        settings.listen(text)


def test_home_is_shoals_own_variable_then_the_users_data_folder() -> None:
    assert settings.home({"SHOAL_HOME": "/a", "XDG_DATA_HOME": "/b"}) == Path("/a")
    assert settings.home({"XDG_DATA_HOME": "/b"}) == Path("/b/shoal")
    assert settings.home({}) == Path.home() / ".local/share/shoal"


def test_replica_ports_lie_below_those_of_outgoing_connections() -> None:
    assert settings.replica_ports({}).stop <= 32768
    assert settings.replica_ports({"SHOAL_REPLICA_PORTS": "100-102"}) == range(100, 103)


@pytest.mark.parametrize("text", ["100", "a-b", "9-1", "0-5", "1-65536"])
def test_wrong_replica_ports_name_the_variable(text: str) -> None:
    with pytest.raises(BadSettings, match=r"^SHOAL_REPLICA_PORTS="):
        settings.replica_ports({"SHOAL_REPLICA_PORTS": text})
