"""The configuration: YAML, options over it, and messages that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from probe.operators import OPERATORS
from serve.config import Config, ConfigError, read_config


def yaml(folder: Path, text: str) -> Path:
    path = folder / "bank.yaml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_hold() -> None:
    assert read_config() == Config()
    assert read_config().server.url == "http://127.0.0.1:8000"


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    config = read_config(yaml(tmp_path, "server: {port: 9000}\npolicy:\n  target_retention: 0.9\n"))
    assert (config.server.port, config.policy.target_retention) == (9000, 0.9)
    assert config.server.host == Config().server.host
    assert config.engine == Config().engine


def test_options_go_over_the_file_and_none_means_not_given(tmp_path: Path) -> None:
    path = yaml(tmp_path, "server: {port: 9000, host: localhost}\nstate: /from/file\n")
    config = read_config(path, server__port=9001, server__host=None, state=Path("/from/option"), policy__max_trials=0)
    assert (config.server.port, config.server.host, config.state) == (9001, "localhost", Path("/from/option"))
    assert config.policy.max_trials == 0, "zero is given"


def test_every_operator_may_be_a_recipe_and_those_that_read_data_want_signals(tmp_path: Path) -> None:
    for operator, row in OPERATORS.items():
        text = f"policy: {{predictor: none, recipes: [[{operator}, mean_source]]}}"
        config = read_config(yaml(tmp_path, text))
        assert config.policy.recipes == ((operator, "mean_source"),)
        assert config.reads_signals is bool(row.needs)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert read_config(yaml(tmp_path, "")) == Config()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("server: {prot: 9000}", ["server.prot", "Extra inputs are not permitted", "9000"]),
        ("sevrer: {}", ["sevrer", "Extra inputs are not permitted"]),
        ("server: {port: 70000}", ["server.port", "less than or equal to 65535", "70000"]),
        ("engine: {max_lora_rank: 7}", ["engine.max_lora_rank", "7"]),
        ("engine: {accelerator: tpu}", ["engine.accelerator", "'cpu' or 'gpu'", "tpu"]),
        ("policy: {max_group_size: 1}", ["policy.max_group_size", "1"]),
        ("policy: {recipes: [[mean, loudest]]}", ["policy.recipes", "(mean, loudest) is unknown", "mean_source"]),
        ("policy: {recipes: [[tess, none]]}", ["policy.recipes", "(tess, none) is unknown", "operators are ta, mean"]),
        (
            "{policy: {recipes: [[regmean, none]]}, signals: {calibrate: false}}",
            ["operator regmean reads the", "signals.calibrate is off"],
        ),
        ("policy: {recipes: []}", ["policy.recipes", "at least 1"]),
        ("policy: {mode: manual}", ["policy.mode", "'auto' or 'approve'", "manual"]),
        ("policy: {weights: fair}", ["policy.weights", "'uniform' or 'traffic'", "fair"]),
        ("policy: {traffic_window_seconds: 0}", ["policy.traffic_window_seconds", "greater than 0"]),
        ("merge: {memory_bytes: 0}", ["merge.memory_bytes", "greater than or equal to 1048576"]),
        ("merge: {timeout_seconds: 0}", ["merge.timeout_seconds", "greater than 0"]),
        ("controller: {interval_seconds: 0}", ["controller.interval_seconds", "greater than 0"]),
        ("server: 5", ["server", "5"]),
        ("- a\n- b", ["holds a list", "expected a mapping"]),
        ("server: [", ["cannot read the configuration"]),
    ],
)
def test_a_bad_file_is_refused_with_key_value_and_expectation(tmp_path: Path, text: str, told: list[str]) -> None:
    path = yaml(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(path) in str(caught.value)
    assert [part for part in told if part not in str(caught.value)] == []


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(yaml(tmp_path, "server: {prot: 1}\npolicy: {max_trials: -1}\n"))
    assert "server.prot" in str(caught.value)
    assert "policy.max_trials" in str(caught.value)


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b"a: \x00"])
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "bank.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        read_config(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: .*No such file"):
        read_config(tmp_path / "absent.yaml")


def test_an_option_into_a_section_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="server"):
        read_config(yaml(tmp_path, "server: 5"), server__port=9000)


def test_an_empty_section_takes_options(tmp_path: Path) -> None:
    assert read_config(yaml(tmp_path, "server:\n"), server__port=9000).server.port == 9000


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2"])
@pytest.mark.parametrize(("api_key", "admin_key"), [(None, None), ("k", None), (None, "k")])
def test_off_loopback_both_keys_are_required(host: str, api_key: str | None, admin_key: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(server__host=host, server__api_key=api_key, server__admin_key=admin_key)
    for part in (f"server.host {host}", "server.api_key and server.admin_key are both required", "127.0.0.1"):
        assert part in str(caught.value)
    assert read_config(server__host=host, server__api_key="a", server__admin_key="b").server.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_loopback_keys_are_optional(host: str) -> None:
    assert read_config(server__host=host).server.is_loopback


def test_a_host_name_that_is_no_address_is_not_taken_for_loopback() -> None:
    with pytest.raises(ConfigError, match="both required"):
        read_config(server__host="bank.example.org")
    assert not read_config(
        server__host="bank.example.org", server__api_key="a", server__admin_key="b"
    ).server.is_loopback


@pytest.mark.parametrize("key", ["api_key", "admin_key"])
def test_an_empty_key_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"server.{key}"):
        read_config(**{f"server__{key}": ""})


def test_an_ipv6_host_makes_a_url_that_can_be_used() -> None:
    assert read_config(server__host="::1").server.url == "http://[::1]:8000"


def test_the_state_folder_holds_registry_and_store() -> None:
    config = read_config(state=Path("/var/bank"))
    assert config.registry == "sqlite:////var/bank/registry.db"
    assert config.store == Path("/var/bank/store")
    assert read_config(registry_url="postgresql://host/bank").registry == "postgresql://host/bank"


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().server.port = 1
