"""`make audit`, with a pip-audit of ours: "nobody could be asked" never looks like "no vulnerabilities"."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOUND = "echo 'Found 1 known vulnerability in 1 package' >&2; echo 'pillow 1.0 GHSA-1'; exit 1"
UNREACHABLE = "echo 'ERROR:pip_audit._cli:cffi: Dependency not found on PyPI and could not be audited' >&2; exit 1"


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit(tmp_path / "pip-audit")


class Audit:
    def __init__(self, program: Path) -> None:
        self.program = program

    def of(self, *files: str, script: str) -> subprocess.CompletedProcess[str]:
        """Audit files with a pip-audit that runs this script; $arguments are what it is given."""
        self.program.write_text(f'#!/bin/sh\narguments="$*"\n{script}\n')
        self.program.chmod(0o755)
        return subprocess.run(  # noqa: S603
            ["/bin/sh", "requirements/audit.sh", *files],
            cwd=ROOT,
            env=os.environ | {"PIP_AUDIT": str(self.program)},
            capture_output=True,
            text=True,
            check=False,
        )


def test_it_says_so_if_there_are_none(audit: Audit) -> None:
    done = audit.of("a.txt", "b.txt", script="exit 0")
    assert (done.returncode, done.stdout) == (0, "a.txt\nb.txt\nNo known vulnerabilities in 2 files.\n")


def test_it_fails_with_those_of_every_file(audit: Audit) -> None:
    done = audit.of("a.txt", "b.txt", "c.txt", script=f'case "$arguments" in *c.txt*) exit 0;; esac; {FOUND}')
    assert done.returncode == 1
    assert done.stdout.count("GHSA-1") == 2
    assert "No known" not in done.stdout


def test_it_fails_loudly_if_nobody_can_be_asked(audit: Audit) -> None:
    done = audit.of("a.txt", "b.txt", script=UNREACHABLE)
    assert done.returncode == 3
    assert "b.txt" not in done.stdout
    pypi, osv, verdict = done.stderr.splitlines()
    assert pypi.startswith("  pypi: ERROR")
    assert osv.startswith("  osv: ERROR")
    assert verdict == "NOT AUDITED: neither PyPI nor OSV says which vulnerabilities are known; the reasons are above."


@pytest.mark.parametrize(("answer", "code"), [("exit 0", 0), (FOUND, 1)], ids=["none", "one"])
def test_the_second_is_asked_if_the_first_does_not_answer(audit: Audit, answer: str, code: int) -> None:
    done = audit.of("a.txt", script=f'case "$arguments" in *" osv "*) {answer};; esac; {UNREACHABLE}')
    assert done.returncode == code


def test_a_missing_program_is_no_good_news(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "chmod", lambda *_: None)
    assert audit.of("a.txt", script="exit 0").returncode == 3


def test_the_workflows_run_it() -> None:
    for name in ("audit", "test"):
        assert "- run: make audit" in (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()


def test_updates_are_looked_for_wherever_versions_are_pinned() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    looked_at = {folder for update in updates for folder in update.get("directories", [update.get("directory")])}
    pinned = [
        *ROOT.glob("layers/*/requirements.txt"),
        *ROOT.glob("requirements/dev.txt"),
        *ROOT.glob("benchmarks/*/*/package.json"),
    ]
    assert looked_at == {"/", *(f"/{file.parent.relative_to(ROOT)}" for file in pinned)}
