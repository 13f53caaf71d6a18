"""The part of template.yaml that the API needs, to deploy without the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from api.description import with_every_flow
from tests.template.template import ROOT, Template

_A_FUNCTION = "arn:aws:lambda:eu-central-1:000000000000:function:none"
_API = ("AWS::ApiGateway::", "AWS::Serverless::Api")


def part_for_api(template: Template) -> Template:
    """The API and every resource that it names, directly or through another, as a template of its own."""
    # Functions are not deployed: see run_localstack.py.
    text = json.dumps(_with_includes(template))
    template = json.loads(text.replace("${AnswerRequestsFunction.Arn}", _A_FUNCTION))
    resources = template["Resources"]
    wanted: set[str] = set()
    found = {name for name, resource in resources.items() if resource["Type"].startswith(_API)}
    while found - wanted:
        wanted |= found
        found = {name for chosen in wanted for name in names_in(resources[chosen])} & resources.keys()
    return template | {
        "Metadata": {},
        "Rules": {},
        "Globals": {key: value for key, value in template.get("Globals", {}).items() if key == "Api"},
        "Resources": {name: resources[name] for name in resources if name in wanted},
        "Outputs": {
            name: output
            for name, output in template["Outputs"].items()
            if set(names_in(output)) & wanted and not set(names_in(output)) & (resources.keys() - wanted)
        },
    }


def names_in(value: Any) -> Iterator[str]:
    """Every logical id that a part of a template names."""
    match value:
        case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), *_]}:
            yield name
        case {"Fn::GetAtt": str(name)}:
            yield name.split(".")[0]
        case {"DependsOn": str(name), **rest}:
            yield name
            yield from names_in(rest)
        case {"DependsOn": [*names], **rest}:
            yield from names
            yield from names_in(rest)
        case {"Fn::Sub": str(text)} | {"Fn::Sub": [str(text), *_]}:
            yield from re.findall(r"\$\{([A-Za-z0-9]+)[.}]", text)
            if isinstance(value["Fn::Sub"], list):
                yield from names_in(value["Fn::Sub"][1])
        case dict():
            for part in value.values():
                yield from names_in(part)
        case list():
            for part in value:
                yield from names_in(part)


def _with_includes(value: Any) -> Any:
    """The same with the files in place of `AWS::Include`, which reads them from S3."""
    match value:
        case {"Fn::Transform": {"Name": "AWS::Include", "Parameters": {"Location": str(path)}}, **rest}:
            included = with_every_flow(yaml.safe_load((ROOT / path).read_text()))
            return _with_includes({**included, **rest})
        case dict():
            return {key: _with_includes(part) for key, part in value.items()}
        case list():
            return [_with_includes(part) for part in value]
    return value
