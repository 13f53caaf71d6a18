"""The stack as a whole: its parameters, the names of its resources, and its secrets."""

from __future__ import annotations

import json
import re

from tests.template.template import STACK_UUID, Findings, Template

# Resources that have a physical name, and why they need one.
_NAMED = {
    "UploadsBucket": "its queue's policy names it, and its notification names that queue",
    "ImageTasksQueue": "its dead-letter queue names it, and its redrive policy names that queue",
    "RerenderQueue": "its dead-letter queue names it, and its redrive policy names that queue",
    "ResultsQueue": "its dead-letter queue names it, and its redrive policy names that queue",
    "OrderQueue": "its dead-letter queue names it, and its redrive policy names that queue",
    "RabbitMqBroker": "AWS makes no broker without one",
}


def parameters_are_described_and_bounded(template: Template) -> Findings:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html"""
    for name, parameter in template["Parameters"].items():
        if not parameter.get("Description"):
            yield f"{name} has no description"
        if not (parameter.keys() & {"AllowedValues", "AllowedPattern"} or {"MinValue", "MaxValue"} <= parameter.keys()):
            yield f"{name} takes any value"


def parameters_are_used(template: Template) -> Findings:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html"""
    text = json.dumps([template.get(section) for section in ("Globals", "Conditions", "Resources", "Outputs")])
    for name in template["Parameters"]:
        if f'{{"Ref": "{name}"}}' not in text and f"${{{name}}}" not in text:
            yield f"{name} is not used"


def secrets_are_generated_or_filled_by_hand(template: Template) -> Findings:
    """A value in the template, in a parameter or in a variable is one that can be read there.

    Only a broker takes its users when it is made, from a secret.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/security-best-practices.html
    """
    for name, secret in template.secrets.items():
        filled = json.loads(secret.get("GenerateSecretString", {}).get("SecretStringTemplate", "{}"))
        if filled.keys() - {"username"}:
            yield f"{name} has a value in the template"
    yield from (f"{name} takes a secret" for name, parameter in template["Parameters"].items() if "NoEcho" in parameter)
    for name, resource in template["Resources"].items():
        values = {**resource.get("Properties", {}), "Metadata": resource.get("Metadata")}
        if name in template.brokers:
            del values["Users"]
        if re.search("{{resolve:(secretsmanager|ssm-secure):", json.dumps(values)):
            yield f"{name} holds a resolved secret"


def names_have_a_reason_and_are_the_stacks_own(template: Template) -> Findings:
    """A layer's versions are only ever added to, so the stack's name is enough there.

    Resources of other kinds have no name of their own: cfn_lint_rules.txt.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-name.html
    """
    for name, values in {**template.buckets, **template.queues, **template.brokers}.items():
        for key in values.keys() & {"BucketName", "QueueName", "BrokerName"}:
            if name not in _NAMED:
                yield f"{name} has a {key} without a reason"
            if STACK_UUID not in (values[key]["Fn::Join"][1] if "Fn::Join" in values[key] else []):
                yield f"{name}'s {key} does not hold the stack's whole id"
    for name, layer in template.layers.items():
        if "${AWS::StackName}" not in str(layer["LayerName"]):
            yield f"{name}'s LayerName does not hold the stack's name"
