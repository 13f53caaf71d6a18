"""Functions and layers: how they are built, what settings they get, and how a new version rolls out."""

from __future__ import annotations

import json
import re
from importlib import import_module
from typing import Any

from bundle.bundle import FUNCTIONS
from tests.template.template import ROOT, Findings, Template, listed, target


def functions_and_layers_are_built_by_bundle_for_the_runtime_parameters(template: Template) -> Findings:
    """A function has the import path in Lambda that it has in the tests.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
    https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html
    https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/building-custom-runtimes.html
    """
    runtime, architecture = {"Ref": "PythonRuntime"}, {"Ref": "Architecture"}
    functions, layers = template.functions, template.layers
    made_for: dict[str, tuple[Any, Any]] = {
        name: ([v.get("Runtime")], v.get("Architectures")) for name, v in functions.items()
    }
    made_for |= {name: (v.get("CompatibleRuntimes"), v.get("CompatibleArchitectures")) for name, v in layers.items()}
    for name in (*functions, *layers):
        if made_for[name] != ([runtime], [architecture]):
            yield f"{name} has a runtime or an architecture of its own"
        built_by = {"BuildMethod": "makefile", "ContextPath": {"Fn::Sub": "bundle/${PythonRuntime}/${Architecture}"}}
        if name in layers:
            built_by["BuildArchitecture"] = architecture
        if not built_by.items() <= template["Resources"][name].get("Metadata", {}).items():
            yield f"{name} is not built by bundle/ for its runtime and architecture"
    for name, values in functions.items():
        folder, handler = values["CodeUri"], values["Handler"]
        wanted = (f"{FUNCTIONS.get(name)}/", f"{folder.replace('/', '.')}app.lambda_handler")
        if (folder, handler) != wanted or not (ROOT / folder / "app.py").exists():
            yield f"{name} has no handler at {handler}"


def layers_are_those_of_the_template(template: Template) -> Findings:
    """https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html"""
    layers, functions = template.layers, template.functions
    used = [(name, target(layer)) for name, values in functions.items() for layer in values.get("Layers", [])]
    yield from (f"{name} uses a layer from elsewhere" for name, layer in used if layer not in layers)
    yield from (f"{name} is used by no function" for name in layers.keys() - {layer for _, layer in used})


def functions_get_exactly_what_their_settings_read(template: Template) -> Findings:
    """https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
    for name, values in template.functions.items():
        settings = import_module(f"{values['CodeUri'].replace('/', '.')}settings").Settings
        read = {variable for variable in settings.variables() if not variable.startswith("AWS_")}  # set by Lambda
        told = {key for key in template.environment(name) if not key.startswith("POWERTOOLS_")}
        yield from (f"{name} does not get {key}" for key in sorted(read - told))
        yield from (f"{name} gets {key}, which it does not read" for key in sorted(told - read))


def versions_follow_all_that_a_function_is_made_of(template: Template) -> Findings:
    """SAM compares the template's text, and layers only where they say so.

    So a parameter's new value makes no version by itself, but a version's description with another value does.

    https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-resource-function.html
    """
    layers = template.layers
    for name, values in _published(template).items():
        if values.get("AutoPublishAliasAllProperties") is not True:
            yield f"{name} is published for its code alone"
        for layer in map(target, values.get("Layers", [])):
            if layers.get(layer or "", {}).get("PublishLambdaVersion") is not True:
                yield f"{name} is not published with {layer}"
        made_of = {key: value for key, value in values.items() if key not in ("Events", "DeploymentPreference")}
        described = _refs(made_of.pop("VersionDescription", {}))
        unseen = (_refs(made_of) & template["Parameters"].keys()) - described
        yield from (f"{name} is not published for {parameter}" for parameter in sorted(unseen))


def versions_roll_out_gradually_behind_alarms(template: Template) -> Findings:
    """https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/automating-updates-to-serverless-apps.html"""
    for name, values in _published(template).items():
        preference = values.get("DeploymentPreference", {})
        switch = template["Parameters"].get(target(preference.get("Enabled")), {})
        if (switch.get("Default"), switch.get("AllowedValues")) != ("true", ["true", "false"]):
            yield f"{name} rolls out at once, or cannot"
        watched = {target(alarm) for alarm in preference.get("Alarms", [])}
        of_function = {alarm for alarm in template.alarms if _blames_release(template, alarm, name)}
        if not of_function or watched != of_function:
            yield f"{name} rolls out watched by {', '.join(sorted(map(str, watched))) or 'no alarm'}"


def rollouts_have_a_role_that_moves_their_alias_alone(template: Template) -> Findings:
    """https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSCodeDeployRoleForLambdaLimited.html"""
    for name, values in _published(template).items():
        condition, named, otherwise = (
            values.get("DeploymentPreference", {}).get("Role", {}).get("Fn::If", ["", None, None])
        )
        role = target(named) or ""
        if (template["Resources"].get(role, {}).get("Condition"), otherwise) != (condition, {"Ref": "AWS::NoValue"}):
            yield f"{name} rolls out by no role of the template"
            continue
        alias = [{"Fn::GetAtt": [name, "Arn"]}, {"Fn::Sub": f"${{{name}.Arn}}:{values['AutoPublishAlias']}"}]
        moves = ("lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetProvisionedConcurrencyConfig")
        allowed = {a: listed(s["Resource"]) for s in template.statements_of(role) for a in listed(s["Action"])}
        if allowed != dict.fromkeys(moves, alias) | {"cloudwatch:DescribeAlarms": ["*"]}:
            yield f"{role} does not move exactly the alias of {name}"


def _published(template: Template) -> dict[str, dict[str, Any]]:
    return {name: values for name, values in template.functions.items() if "AutoPublishAlias" in values}


def _refs(value: Any) -> set[str]:
    """All that the Refs and Subs in a value name."""
    text = json.dumps(value)
    return {first or second for first, second in re.findall(r'{"Ref": "([\w:]+)"}|\${(\w+)[.}]', text)}


def _blames_release(template: Template, alarm: str, function: str) -> bool:
    """Whether an alarm is about what a new version of a function may have brought."""
    values, of = template.alarms[alarm], template.functions[function]
    told = template.environment(function)
    match values.get("Namespace"), values.get("MetricName"):
        case "AWS/Lambda", "Errors":
            alias = {"Fn::Sub": f"${{{function}}}:{of['AutoPublishAlias']}"}
            wanted: dict[str, Any] = {"FunctionName": {"Ref": function}, "Resource": alias}
        case namespace, "Defects" if namespace == told.get("POWERTOOLS_METRICS_NAMESPACE"):
            wanted = {"service": told.get("POWERTOOLS_SERVICE_NAME")}
        case _:
            return False
    return {dimension["Name"]: dimension["Value"] for dimension in values["Dimensions"]} == wanted
