"""Settings come from flags and the environment, and every fault is told at once."""

from pathlib import Path

import pytest

from shoal_serving.gateway import settings
from shoal_serving.gateway.settings import Address, BadSettings, Cluster

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "gateway.md"


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_text("ab" * 32 + "\n")
    return str(path)


def test_defaults_listen_on_loopback_only(key: str) -> None:
    found = settings.read(["--routes", "r.json", "--master-key-file", key], {})
    assert (found.listen, found.internal) == (Address("127.0.0.1", 8000), Address("127.0.0.1", 9090))
    assert found.master_key == bytes.fromhex("ab" * 32)
    assert found.max_body_bytes == 32 * 1024 * 1024


def test_the_environment_counts_and_a_flag_counts_more(key: str) -> None:
    environment = {
        "SHOAL_GATEWAY_ROUTES": "e.json",
        "SHOAL_GATEWAY_MASTER_KEY_FILE": key,
        "SHOAL_GATEWAY_DRAIN_SECONDS": "7",
        "SHOAL_GATEWAY_ACCESS_LOG": "off",
    }
    found = settings.read(["--routes", "f.json"], environment)
    assert (str(found.routes), found.drain_seconds, found.access_log) == ("f.json", 7.0, False)


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--listen", "8000", "HOST:PORT is expected"),
        ("--listen", "127.0.0.1:99999", "HOST:PORT is expected"),
        ("--internal", "nowhere", "HOST:PORT is expected"),
        ("--listen", "0.0.0.0:8000", "--allow-anonymous"),
        ("--listen", "[::]:8000", "--allow-anonymous"),
        ("--drain-seconds", "-1", "at least 0"),
        ("--drain-seconds", "nan", "at least 0"),
        ("--max-body-bytes", "0", "at least 1"),
        ("--max-held-bytes", "1000", "less than one body may have"),
        ("--access-log", "maybe", "on or off"),
        ("--master-key-file", "/nowhere/key", "cannot be read"),
        ("--keys-file", "/nowhere/keys", "cannot be read"),
        ("--keys-file", "/dev/null", "a list of entries"),
    ],
)
def test_a_fault_names_its_flag(key: str, flag: str, value: str, said: str) -> None:
    with pytest.raises(BadSettings) as bad:
        settings.read(["--routes=r", f"--master-key-file={key}", f"{flag}={value}"], {})
    (fault,) = bad.value.faults
    assert fault.startswith(flag + ":")
    assert said in fault


@pytest.mark.parametrize("text", ["", "xyz", "ab" * 31, "ab" * 33])
def test_a_master_key_is_32_bytes_as_hex(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(BadSettings, match="--master-key-file"):
        settings.read(["--routes=r", f"--master-key-file={path}"], {})


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "[::1]:1", "localhost:1", "127.9.9.9:1"])
def test_loopback_needs_no_permission(key: str, listen: str) -> None:
    assert settings.read(["--routes=r", f"--master-key-file={key}", "--listen", listen], {}).listen.port == 1


def test_keys_replace_the_permission_and_exclude_it(key: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("[]")
    flags = ["--routes=r", f"--master-key-file={key}", "--listen=0.0.0.0:1"]
    assert settings.read([*flags, f"--keys-file={file}"], {}).keys_file == file
    assert settings.read(flags, {"SHOAL_GATEWAY_KEYS_FILE": str(file)}).keys_file == file
    with pytest.raises(BadSettings, match="--allow-anonymous: with --keys-file"):
        settings.read([*flags, f"--keys-file={file}", "--allow-anonymous"], {})


def test_other_addresses_need_the_explicit_switch(key: str) -> None:
    flags = ["--routes=r", f"--master-key-file={key}", "--listen=0.0.0.0:1"]
    assert settings.read([*flags, "--allow-anonymous"], {}).listen.host == "0.0.0.0"
    assert settings.read(flags, {"SHOAL_GATEWAY_ALLOW_ANONYMOUS": "true"}).listen.host == "0.0.0.0"


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text("{}")
    return str(path)


def test_the_models_come_from_a_file_or_from_a_cluster(key: str, kubeconfig: str) -> None:
    flags = [f"--master-key-file={key}"]
    assert settings.read([*flags, "--routes=r"], {}).routes == Path("r")
    on = settings.read([*flags, "--kubernetes", f"--kubeconfig={kubeconfig}", "--namespaces= a,b ,a,"], {})
    assert on.routes == Cluster(("a", "b"), Path(kubeconfig))
    by_environment = {"KUBERNETES": "1", "KUBECONFIG": kubeconfig, "NAMESPACES": "a"}
    on = settings.read(flags, {f"SHOAL_GATEWAY_{name}": value for name, value in by_environment.items()})
    assert on.routes == Cluster(("a",), Path(kubeconfig))


def test_without_a_kubeconfig_it_is_the_pods_own_cluster_or_the_users(key: str, tmp_path: Path) -> None:
    flags = [f"--master-key-file={key}", "--kubernetes"]
    assert settings.read(flags, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).routes == Cluster()
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text("{}")
    found = settings.read(flags, {"HOME": str(tmp_path)}).routes
    assert found == Cluster(kubeconfig=tmp_path / ".kube" / "config")


def test_on_kubernetes_balancers_get_time_to_notice_the_stop(key: str, kubeconfig: str) -> None:
    flags = [f"--master-key-file={key}", "--kubernetes", f"--kubeconfig={kubeconfig}"]
    assert settings.read(flags, {}).settle_seconds == 5
    assert settings.read([*flags, "--settle-seconds=0"], {}).settle_seconds == 0
    assert settings.read([f"--master-key-file={key}", "--routes=r"], {}).settle_seconds == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--routes: name the file"),
        (["--routes=r", "--kubernetes", "--kubeconfig=KUBECONFIG"], "--routes: with --kubernetes"),
        (["--routes=r", "--namespaces=a"], "--namespaces: means something only with --kubernetes"),
        (["--routes=r", "--kubeconfig=KUBECONFIG"], "--kubeconfig: means something only with --kubernetes"),
        (["--kubernetes", "--kubeconfig=/nowhere"], "--kubeconfig: /nowhere cannot be read"),
        (["--kubernetes", "--kubeconfig=KUBECONFIG", "--namespaces=Team A"], "--namespaces: 'Team A' is not"),
        (["--kubernetes"], "--kubernetes: no cluster is known here"),
    ],
)
def test_a_fault_of_the_source_names_its_flag(key: str, kubeconfig: str, flags: list[str], said: str) -> None:
    given = [flag.replace("KUBECONFIG", kubeconfig) for flag in flags]
    with pytest.raises(BadSettings) as bad:
        settings.read([f"--master-key-file={key}", *given], {"HOME": "/nowhere"})
    (fault,) = bad.value.faults
    assert fault.startswith(said)


def test_the_reference_lists_every_flag_with_its_variable_and_words() -> None:
    actions = [action for action in settings.parser_of({})._actions if action.dest != "help"]
    rows = [
        f"| `{flag}{f' {action.metavar}' if action.metavar else ''}` | `{settings.variable(flag)}` | {action.help} |"
        for action in actions
        for flag in action.option_strings
    ]
    page = REFERENCE.read_text().replace("\\|", "|").splitlines()
    assert [line for line in page if line.startswith("| `--")] == rows
