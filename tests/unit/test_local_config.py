"""One laptop stack's settings: its keys, its port, and the user's variables that it ignores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local import config as local
from local.config import LocalConfig, keep_out_the_person, local_config, sam_command


@pytest.fixture(autouse=True)
def _a_sam_cli(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "tool", lambda environment, name: Path(environment) / name)


def test_keys_last_until_the_stop_and_only_this_user_can_read_them(tmp_path: Path) -> None:
    config = LocalConfig(tmp_path / "stack", 6200)
    keys = config.keys
    assert LocalConfig(config.folder, 6200).keys == keys
    assert {path.stat().st_mode & 0o077 for path in config.folder.iterdir()} == {0}
    assert keys.rabbitmq_password in config.rabbitmq_url
    # when
    config.forget_start()
    # then
    assert config.keys != keys
    assert len({config.keys.aws_access_key_id, keys.aws_access_key_id, "test"}) == 3


def test_without_port_the_stacks_own_port_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_FOLDER", str(tmp_path))
    monkeypatch.delenv("PORT", raising=False)
    assert local_config().port == 4566
    assert LocalConfig(tmp_path, 4800).keys
    assert local_config().port == 4800
    monkeypatch.setenv("PORT", "5000")
    assert local_config().port == 5000


@pytest.mark.parametrize(
    ("given", "last"),
    [
        (["deploy"], "ResultsAreRead=true"),
        (["deploy", "--parameter-overrides", "MaxImageBytes=1000000", "KeepLocation=true"], "KeepLocation=true"),
        (["deploy", "--parameter-overrides", "ProcessOrderConcurrency=9", "--no-progressbar"], "--no-progressbar"),
        (["deploy", "--parameter-overrides=ProcessOrderConcurrency=9"], "ProcessOrderConcurrency=9"),
    ],
)
def test_the_users_parameters_come_last(tmp_path: Path, given: list[str], last: str) -> None:
    command = [str(word) for word in sam_command(LocalConfig(tmp_path, 6200), given)]
    assert command[-3:] == [last, "--config-env", "local"]
    start = command.index("--parameter-overrides")
    assert command.count("--parameter-overrides") == 1
    words = command[start:]
    assert "PaymentsUrl=http://127.0.0.1:6202" in words
    if "ProcessOrderConcurrency=9" in words:
        assert words.index("ProcessOrderConcurrency=9") > words.index("ProcessOrderConcurrency=4")


def test_sync_builds_elsewhere_than_deploy(tmp_path: Path) -> None:
    command = sam_command(LocalConfig(tmp_path, 6200), ["sync", "--code"])
    assert local.PROJECT / "template.yaml" in command
    assert local.PROJECT / "samconfig.toml" in command


def test_the_users_settings_for_other_stacks_are_ignored() -> None:
    environment = {
        "AWS_PROFILE": "nope",
        "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "no_proxy": "intranet",
        "PATH": "/bin",
    }
    # when
    assert keep_out_the_person(environment) == ["AWS_PROFILE", "AWS_ENDPOINT_URL_SQS"]
    # then
    assert environment == {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "http_proxy": "http://127.0.0.1:9",
        "no_proxy": "intranet,127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
        "PATH": "/bin",
    }
