"""`shoal operator`: every flag is also a variable, the flag counts first, and all faults are told together."""

import argparse
from pathlib import Path

import pytest

from shoal_operator import operator_settings
from shoal_operator.operator_settings import FLAGS, OperatorSettings
from shoal_operator.settings import BadSettings

ROOT = Path(__file__).resolve().parents[2]


def read(*arguments: str, **environment: str) -> OperatorSettings:
    parser = argparse.ArgumentParser()
    operator_settings.add_flags(parser)
    return operator_settings.read(parser.parse_args(arguments), environment, 7)


@pytest.fixture
def needed(tmp_path: Path) -> list[str]:
    key = tmp_path / "key"
    key.write_text("ab" * 32 + "\n")
    return ["--master-key-file", str(key), "--engine-image", "shoal/engine:1", "--lease-namespace", "system"]


def test_flags_and_variables(needed: list[str]) -> None:
    settings = read(*needed, "--namespaces", "a, b", SHOAL_OPERATOR_NAMESPACES="c", SHOAL_OPERATOR_OFFLINE="true")

    assert settings.namespaces == ("a", "b")
    assert settings.installation.offline
    assert not settings.installation.allow_remote_code
    assert settings.master_key == bytes.fromhex("ab" * 32)
    assert (settings.host, settings.port) == ("0.0.0.0", 9090)
    assert settings.identity.endswith("-7")
    assert read(*needed, POD_NAME="shoal-operator-x").identity == "shoal-operator-x"


BAD = [
    (["--engine-image", ""], "--engine-image: is needed"),
    (["--listen", "9090"], "--listen: '9090' is not HOST:PORT"),
    (["--file-roots", "models"], "--file-roots: 'models' is no absolute path"),
    (["--image-pull-policy", "Sometimes"], "--image-pull-policy: 'Sometimes' is none of"),
    (["--gateway-service", "gateway"], "--gateway-service: 'gateway' is not NAMESPACE/NAME"),
    (["--cache-claim", "a", "--cache-node-path", "/b"], "--cache-claim: with --cache-node-path"),
    (["--master-key-file", "/no/such"], "--master-key-file: /no/such cannot be read"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD)
def test_a_bad_setting_is_named(needed: list[str], arguments: list[str], sentence: str) -> None:
    with pytest.raises(BadSettings, match="--") as caught:
        read(*needed, *arguments)

    assert sentence in str(caught.value)


def test_all_faults_are_told_together() -> None:
    with pytest.raises(BadSettings, match="--") as caught:
        read("--listen", "x", "--lease-namespace", "a", SHOAL_OPERATOR_OFFLINE="perhaps")

    told = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in told] == ["--listen", "--engine-image", "--offline", "--master-key-file"]


def test_the_reference_page_names_every_flag() -> None:
    page = (ROOT / "docs/reference/operator.md").read_text()

    for flag in FLAGS:
        row = f"| `--{flag.name}{' ' + flag.metavar if flag.metavar else ''}` | `{flag.variable}` |"
        assert row in page, row
        assert flag.help in page, flag.name
