"""Untrusted text reaches a terminal as text, never as control sequences."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from botocore.exceptions import ParamValidationError
from rich.console import Console

from local.demo.images import tabulate
from local.demo.report import Shown
from operations.errors import reason_of
from operations.terminal import printable, printable_json

ATTACKS = [
    "\x1b]52;c;cm0gLXJmIH4=\x07",  # sets the clipboard
    "\x1b[2J\x1b[1;1H",  # clears the screen
    "\x9b31m",  # the same as ESC [, in one character
    "safe\rovertaken",
    "\u202egpj.exe",  # turns the direction
    "a\x00b\x08\x7f",
]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("attack", ATTACKS, ids=ascii)
@pytest.mark.parametrize("field", ["name", "error_code"])
def test_a_row_of_the_demo_shows_no_control_character(attack: str, field: str) -> None:
    row = Shown("lake.jpg", "demo/lake.jpg", "t-1", None)
    setattr(row, field, attack)
    console = Console(file=io.StringIO(), force_terminal=True, no_color=True, width=200)
    console.print(tabulate([row], narrow=False))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())  # type: ignore[attr-defined] # rich's own styles
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


def test_names_are_not_markup_and_valid_names_stay() -> None:
    assert printable("[red]Käthe 1 – 猫.jpg") == r"\[red]Käthe 1 – 猫.jpg"


def test_a_name_shows_no_line_of_its_own() -> None:
    forged = "lake.jpg\n✓ All is removed."
    assert printable(forged) == "lake.jpg\ufffd✓ All is removed."
    assert reason_of(ParamValidationError(report=forged)).endswith("lake.jpg ✓ All is removed.")


@pytest.mark.parametrize("attack", ATTACKS, ids=ascii)
def test_json_shows_no_control_character_and_stays_the_same(attack: str) -> None:
    text = json.dumps({"key": f"Käthe {attack}"}, ensure_ascii=False)
    shown = printable_json(f"{text}\n{text}")
    assert all(letter.isprintable() or letter == "\n" for letter in shown)
    assert [json.loads(line) for line in shown.split("\n")] == [json.loads(text)] * 2


def test_commands_escape_all_foreign_text() -> None:
    for path in [*ROOT.glob("local/**/*.py"), *ROOT.glob("operations/**/*.py")]:
        if path.name != "terminal.py":
            assert not re.search("rich.markup|markup=False", path.read_text()), path
