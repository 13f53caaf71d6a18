"""Every rule is silent on the template, and finds exactly what is broken in a broken copy."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.template.template import ROOT, Findings, Template, load

Rule = Callable[[Template], Findings]

TEMPLATE = load((ROOT / "template.yaml").read_text())
RULES: dict[str, Rule] = {
    name: function
    for path in sorted(Path(__file__).with_name("rules").glob("*.py"))
    for module in [import_module(f"tests.template.rules.{path.stem}")]
    for name, function in vars(module).items()
    if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
}
BROKEN: dict[str, list[list[Any]]] = yaml.load(
    Path(__file__).with_name("broken_templates.yaml").read_text(), yaml.CSafeLoader
)
CASES = [(rule, *case[:2], case[2:-1], case[-1]) for rule, cases in BROKEN.items() for case in cases]


def broken(how: str, path: str, arguments: list[Any]) -> Template:
    """A copy of the template with the value at a path changed; the path begins at a section or a resource."""
    template = deepcopy(TEMPLATE)
    parent, key = _find(template, path)
    match how, arguments:
        case "put", [value]:
            parent[key] = value
        case "drop", []:
            del parent[key]
        case "append", [value]:
            parent[key].append(value)
        case "copy", [new_path]:
            new_parent, new_key = _find(template, new_path)
            new_parent[new_key] = deepcopy(parent[key])
        case "replace", [old, new]:
            assert old in parent[key]
            parent[key] = parent[key].replace(old, new, 1)
        case _:
            raise ValueError(f"unknown change {how} {arguments}")
    return template


def _find(template: Template, path: str) -> tuple[Any, Any]:
    steps = [int(step) if step.isdecimal() else step.replace("~1", "/") for step in str(path).split("/")]
    parent: Any = template if steps[0] in template else template["Resources"]
    for step in steps[:-1]:
        parent = parent[step]
    return parent, steps[-1]


@pytest.mark.parametrize("name", RULES)
def test_the_template_keeps(name: str) -> None:
    assert list(RULES[name](TEMPLATE)) == []


@pytest.mark.parametrize(("rule", "how", "path", "arguments", "findings"), CASES, ids=[case[-1] for case in CASES])
def test_a_broken_copy_is_found(rule: str, how: str, path: str, arguments: list[Any], findings: str) -> None:
    assert "; ".join(RULES[rule](broken(how, path, arguments))) == findings


def _finds(rule: str, template: Template) -> bool:
    try:
        return any(RULES[rule](template))
    except (AttributeError, KeyError, TypeError, ValueError):  # a rule may need what the copy lacks: it fails too
        return True


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_finds_what_no_other_rule_does(rule: str) -> None:
    copies = (broken(how, path, arguments) for of, how, path, arguments, _ in CASES if of == rule)
    assert any(not any(_finds(other, copy) for other in RULES if other != rule) for copy in copies)


def test_each_rule_has_a_broken_copy_and_the_documentation_behind_it() -> None:
    assert BROKEN.keys() == RULES.keys()
    assert [name for name, rule in RULES.items() if "https://docs.aws.amazon.com/" not in (rule.__doc__ or "")] == []
