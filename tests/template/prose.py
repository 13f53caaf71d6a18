"""A linter for what people read: documentation, help, output, error reasons, docstrings, comments, names of tests."""

from __future__ import annotations

import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.template.template import ROOT

_LONGEST_LINE = 120  # characters
_LONGEST_PARAGRAPH = {"README.md": 5}  # lines; of other pages:
_LONGEST_PARAGRAPH_ELSEWHERE = 12
_README_LINES = 150
_COMMENT = re.compile(r"(?:^|\s)#+:? (.*)|^\s*(?:Description|AlarmDescription|description|summary): (.*)")


def prose_faults(name: str, text: str) -> list[str]:
    """Return what is wrong with a file's prose, one fault per line: ``docs/sam.md:12: ...``."""
    found = [
        f'{name}:{line}: "{match.group()}"; write: {instead}'
        for line, words in _prose(name, text)
        for pattern, instead in _banned()
        if (match := pattern.search(words))
    ]
    if name.endswith(".md"):
        found += [f"{name}:{line}: {fault}" for line, fault in _layout_faults(name, text)]
    return found


def files() -> list[str]:
    """Return the project's files that hold prose, relative to its root."""
    folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    found = [path for path in ROOT.iterdir() if path.is_file()]
    found += [path for folder in folders for path in folder.rglob("*") if "node_modules" not in path.parts]
    return sorted(
        str(path.relative_to(ROOT))
        for path in found
        if path.suffix in {".md", ".py", ".yaml", ".toml", ".html"} or path.name == "Makefile"
        if path.name not in {"banned_words.toml", "test_prose.py"}
    )


@cache
def _banned() -> tuple[tuple[re.Pattern[str], str], ...]:
    words = tomllib.loads(Path(__file__).with_name("banned_words.toml").read_text())
    return tuple((re.compile(rf"\b(?:{phrase})\b", re.IGNORECASE), instead) for phrase, instead in words.items())


def _prose(name: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield the numbers and texts of the pieces that people read."""
    if name.endswith(".py"):
        yield from _python_prose(text)
    elif name.endswith((".md", ".html")):
        for number, line in _outside_code(text):
            yield number, re.sub(r"`[^`]*`", "", line)
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if match := _COMMENT.search(line):
                yield number, match.group(1) or match.group(2)


def _python_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield docstrings, comments, strings with a space in them, and the names of tests as words."""
    previous = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        if kind in {"STRING", "FSTRING_MIDDLE", "COMMENT"} and " " in token.string.strip():
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, line
        elif previous in {"def", "class"} and token.string.lower().startswith("test"):
            yield token.start[0], re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", token.string)
        previous = token.string


def _layout_faults(name: str, text: str) -> Iterator[tuple[int, str]]:
    if name == "README.md" and text.count("\n") > _README_LINES:
        yield _README_LINES, f"the README has more than {_README_LINES} lines"
    longest = _LONGEST_PARAGRAPH.get(name, _LONGEST_PARAGRAPH_ELSEWHERE)
    length = 0
    for number, line in _outside_code(text):
        if len(line) > _LONGEST_LINE and (name == "README.md" or not line.startswith(("|", "[", "([", "<", "!"))):
            yield number, f"a line of {len(line)} characters; at most {_LONGEST_LINE}"
        is_text = line.strip() and not line.startswith(("|", "#", "<"))
        starts = re.match(r"\s*([-*]|\d+\.) ", line)
        length = 1 if starts else length + 1 if is_text else 0
        if length == longest + 1:
            yield number, f"a paragraph of more than {longest} lines"


def _outside_code(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page, with those of code blocks emptied."""
    fenced = in_list = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        if line and not line.startswith(" "):
            in_list = bool(re.match(r"([-*]|\d+\.) ", line))
        is_code = fenced or line.startswith(("```", "      " if in_list else "    "))
        yield number, "" if is_code else line
