"""`make test` says what failed, with all that it said, and what did not run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local.emulators import rabbitmq_install
from tests import side_by_side

Run = Callable[..., tuple[int, str]]
MAKEFILE = """
passes:
	@echo "[1/2] first"; echo "=== 3 passed in 1.0s ==="
fails:
	@echo "[gw0] [ 50%] PASSED tests/test_a.py::test_a"; echo "it broke"; echo "= 1 failed, 1 passed in 1.0s ="; exit 3
skips:
	@echo "SKIPPED [2] tests/test_b.py:7: no broker"; echo "SKIPPED [1] tests/test_c.py:9: no broker"
	@echo "=== 4 passed, 3 skipped in 1.0s ==="
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs targets of a Makefile; returns the exit code and what was said."""
    (tmp_path / "Makefile").write_text(MAKEFILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(side_by_side, "_LOGS", tmp_path / "logs")
    monkeypatch.setattr(rabbitmq_install, "find", lambda: Path("rabbitmq-server"))

    def run_targets(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["side_by_side", *arguments])
        return side_by_side.main(), capsys.readouterr().out

    return run_targets


def test_a_success_is_shown_with_its_last_line(run: Run) -> None:
    code, said = run("passes")
    assert code == 0
    assert "passes: 3 passed in 1.0s" in said
    assert said.splitlines()[-1].startswith("Passed in")


def test_a_failure_is_shown_with_its_output_without_passed_tests(run: Run) -> None:
    code, said = run("passes", "fails")
    assert code == 1
    assert "it broke" in said
    assert "fails: 1 failed, 1 passed in 1.0s" in said
    assert "PASSED" not in said
    assert said.splitlines()[-1].endswith(": fails")


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--complete"], 1)])
def test_skipped_tests_are_shown_and_fail_a_complete_run(run: Run, options: list[str], code: int) -> None:
    assert run(*options, "skips")[0] == code
    assert "Did not run: 3 tests, because: no broker" in run(*options, "skips")[1]


def test_a_machine_without_rabbitmq_gets_a_warning_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq_install, "find", lambda: None)
    assert run("passes")[1].startswith("! Tests will be left out. RabbitMQ is missing")
