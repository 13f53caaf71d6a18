"""RabbitMQ is found, or installed into .local if it is missing; a failure is reported in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.config import PROJECT, LaptopError, LocalConfig
from local.emulators import rabbitmq, rabbitmq_install

SERVER = "usr/lib/rabbitmq/bin/rabbitmq-server"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without RabbitMQ, whose only programs are those in bin/."""
    folder = tmp_path / "rabbitmq-server"
    monkeypatch.setattr(rabbitmq_install, "_SYSTEM_WIDE", (str(tmp_path / "system"),))
    monkeypatch.setattr(rabbitmq_install, "FOLDER", folder)
    monkeypatch.setattr(rabbitmq_install, "_UNPACKED", folder / "root")
    monkeypatch.setattr(rabbitmq_install, "_LEFT_OUT", folder / "left-out")
    monkeypatch.setattr(sys, "argv", ["rabbitmq_install"])
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path


def _program(machine: Path, name: str, script: str) -> None:
    path = machine / "bin" / name
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\necho {name} >> {machine}/calls\n{script}\n")
    path.chmod(0o755)


def _calls(machine: Path) -> list[str]:
    path = machine / "calls"
    return path.read_text().split() if path.exists() else []


def _packages(machine: Path) -> None:
    """Programs of Debian: apt-get that brings a package, dpkg that unpacks a broker and an Erlang that starts."""
    root = machine / "rabbitmq-server/apt"
    _program(
        machine,
        "apt-get",
        f'case "$*" in *install*) touch {root}/archives/rabbitmq.deb;; *) touch {root}/lists/deb_Packages;; esac',
    )
    _program(machine, "dpkg", f"mkdir -p $3/{Path(SERVER).parent} $3/usr/lib/erlang/bin; touch $3/{SERVER}")
    _program(machine, "erl", "true")


def test_packages_are_unpacked_once(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _packages(machine)
    for _ in range(2):
        rabbitmq_install.main()
    assert rabbitmq_install.find() == machine / "rabbitmq-server/root" / SERVER
    assert _calls(machine) == ["apt-get", "apt-get", "dpkg", "erl"]
    assert capsys.readouterr().out.splitlines() == [
        "Installing RabbitMQ into .local/rabbitmq-server ...",
        "Installed  RabbitMQ",
    ]
    assert [path.name for path in (machine / "rabbitmq-server").iterdir()] == ["root"], "packages are removed"


def test_a_broker_of_the_system_is_used(machine: Path) -> None:
    _packages(machine)
    (machine / "system").touch()
    rabbitmq_install.main()
    assert rabbitmq_install.find() == machine / "system"
    assert _calls(machine) == []


def test_homebrew_installs_it_after_a_notice(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _program(machine, "brew", f"touch {machine}/system")
    rabbitmq_install.main()
    assert rabbitmq_install.find() == machine / "system"
    assert "brew install rabbitmq" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("programs", "reason"),
    [
        ({}, "this system has no apt"),
        ({"dpkg": "true", "apt-get": "exit 100"}, "apt-get cannot reach the system's package sources"),
        ({"brew": "echo 'Error: no network'; exit 1"}, "Error: no network"),
        ({"brew": "true"}, "its program is not where it should be"),
    ],
    ids=["no apt", "no network", "brew fails", "brew brings nothing"],
)
def test_a_failure_is_one_line_and_is_retried_only_on_demand(
    machine: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    programs: dict[str, str],
    reason: str,
) -> None:
    # given
    monkeypatch.setattr(sys, "platform", "linux")
    for name, script in programs.items():
        _program(machine, name, script)
    # when
    rabbitmq_install.main()
    calls = _calls(machine)
    # then setup goes on, and every command that needs the broker says the same
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert "apt-get install rabbitmq-server (Debian and Ubuntu) or brew install rabbitmq (macOS)" in line
    assert not rabbitmq.installed()
    with pytest.raises(LaptopError) as raised:
        rabbitmq.start(LocalConfig(PROJECT / ".local" / "none", 4566))
    assert str(raised.value) == line
    # and it is tried again only where that is asked for
    rabbitmq_install.main()
    assert _calls(machine) == calls
    monkeypatch.setattr(sys, "argv", ["rabbitmq_install", "--again"])
    rabbitmq_install.main()
    assert _calls(machine) == calls * 2


def test_links_out_of_the_unpacked_tree_are_fixed(tmp_path: Path) -> None:
    # given
    root, home = tmp_path / "root", tmp_path / "it's home"
    (root / "etc").mkdir(parents=True)
    (root / "etc/file").touch()
    (root / "usr/lib/erlang/bin").mkdir(parents=True)
    (root / "inside").symlink_to("/etc/file")
    (root / "outside").symlink_to("/dev/null")
    erl = root / "usr/lib/erlang/bin/erl"
    erl.write_text('#!/bin/sh\nif true\nthen\n    ROOTDIR="/usr/lib/erlang"\nfi\necho "$ROOTDIR"\n')
    # when
    rabbitmq_install.relocate(root, home)
    # then
    assert (root / "inside").resolve() == root / "etc/file"
    assert (root / "outside").readlink() == Path(os.devnull)
    said = subprocess.run(["sh", erl], stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603, S607
    assert said == f"{home}/usr/lib/erlang\n"
