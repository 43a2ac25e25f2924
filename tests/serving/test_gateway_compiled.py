"""The relay says how it runs: as it stands in the checkout, compiled in a wheel."""

from pathlib import Path

from gateway_process import a_gateway
from shoal_serving.gateway import relay, token_ids


def test_the_gateway_says_at_its_start_whether_its_relay_is_compiled(tmp_path: Path) -> None:
    suffix = Path(relay.__file__).suffix

    assert {".py": "interpreted", ".so": "compiled"}[suffix] == relay.BUILD
    with a_gateway(tmp_path) as gateway:
        assert f"relay={relay.BUILD}" in gateway.log()


def test_where_the_relay_is_compiled_ids_are_cut_out_in_c() -> None:
    assert (token_ids.cut_out is token_ids.cut_out_by_python) is (relay.BUILD == "interpreted")
