"""The facts of the machine, from folders and sockets made for the purpose."""

import socket
from pathlib import Path

import pytest

from held_ports import a_port
from shoal_operator import machine


@pytest.mark.parametrize(
    ("devices", "variable", "found"),
    [
        ([], None, ()),
        ([], "0,1", ()),
        (["nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"], None, ("0", "1", "10")),
        (["nvidia0", "nvidia1"], "1", ("1",)),
        (["nvidia0"], "GPU-aa, GPU-bb", ("GPU-aa", "GPU-bb")),
        (["nvidia0"], "", ()),
        (["nvidia0"], "-1", ()),
    ],
)
def test_gpus_are_the_devices_that_the_user_allows(
    tmp_path: Path, devices: list[str], variable: str | None, found: tuple[str, ...]
) -> None:
    for name in devices:
        (tmp_path / name).touch()
    environment = {} if variable is None else {"CUDA_VISIBLE_DEVICES": variable}

    assert machine.gpus(environment, tmp_path) == found


def test_weights_are_counted_in_one_format_only(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 10)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 99)
    single = tmp_path / "model.gguf"
    single.write_bytes(b"x" * 7)

    assert (machine.weights_bytes(tmp_path), machine.weights_bytes(single)) == (10, 7)
    assert machine.weights_bytes(tmp_path / "absent") == 0


def test_a_port_is_free_until_somebody_listens() -> None:
    port = a_port()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        assert not machine.is_free("127.0.0.1", port)
    assert machine.is_free("127.0.0.1", port)
    with pytest.raises(OSError, match="assign"):
        machine.is_free("192.0.2.1", port)
