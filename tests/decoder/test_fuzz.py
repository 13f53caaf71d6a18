"""The short form of `make fuzz`: always the same cases, in processes of their own, as there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("kinds", "cases"),
    [
        (["images"], 100),
        (["image-messages", "orders", "rabbitmq-events", "direct-invocations", "render-answers"], 100),
    ],
    ids=["files", "messages"],
)
def test_any_input_is_done_or_dead_lettered_with_a_reason(kinds: list[str], cases: int) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "layers" / "common")])}
    command = [sys.executable, "-m", "tests.fuzz", "--seed", "1", "--cases", str(cases), "--kinds", *kinds]
    run = subprocess.run(  # noqa: S603 # this interpreter, our module
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    tried = [int(count.replace(",", "")) for count in re.findall(r"cases tried\W+([\d,]+)", run.stdout)]
    assert len(tried) == len(kinds)
    assert sum(tried) >= cases * 0.9  # hypothesis tells a few cases apart that are the same
