"""Everything that people read is in plain words and within the limits of its layout; links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.template.prose import files, prose_faults
from tests.template.template import ROOT


def test_the_prose_is_plain() -> None:
    faults = [fault for name in files() for fault in prose_faults(name, (ROOT / name).read_text())]
    assert not faults, "\n".join(["", *faults])


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("docs/a.md", "One line.\n\nSQS is not to be had.\n", 'docs/a.md:3: "to be had"'),
        ("a.py", '"""The usual sample."""\n', 'a.py:1: "usual sample"'),
        ("a.py", "x = 1  # kept for ever\n", 'a.py:1: "for ever"'),
        ("a.py", 'print(f"{x} is no folder.")\n', 'a.py:1: "is no folder"'),
        ("a.py", "def test_it_is_set_aside() -> None: ...\n", 'a.py:1: "set aside"'),
        ("Makefile", "audit: ## look for known faults\n", 'Makefile:1: "known faults"'),
        ("a.yaml", "    Description: Mend it\n", 'a.yaml:1: "Mend"'),
        ("README.md", "Short.\n" * 6, "README.md:6: a paragraph of more than 5 lines"),
        ("README.md", "| " + "x" * 120 + "\n", "README.md:1: a line of 122 characters"),
        ("README.md", "A line.\n\n" * 76, "README.md:150: the README has more than 150 lines"),
    ],
)
def test_a_fault_is_found(name: str, text: str, fault: str) -> None:
    assert any(found.startswith(fault) for found in prose_faults(name, text))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("docs/a.md", "There is no folder.\n\n    mend --for ever\n\n`is no folder`\n"),
        ("docs/a.md", "- An item\n- Another\n" * 20 + "| " + "x" * 200 + "\n"),
        ("a.py", "mend = 1\n"),
    ],
)
def test_code_tables_and_lists_pass(name: str, text: str) -> None:
    assert prose_faults(name, text) == []


@pytest.mark.parametrize("page", [name for name in files() if name.endswith(".md")])
def test_links_lead_to_files_and_headings(page: str) -> None:
    for path, _, heading in (link.partition("#") for link in _links((ROOT / page).read_text())):
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), path
        if heading:
            assert heading in _headings(target), f"{path}#{heading}"


def _links(text: str) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith(("http", "mailto"))]


def _headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
