"""Read template.yaml as CloudFormation does, and the few questions that the rules ask of it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import yaml

ROOT = Path(__file__).parents[2]
Template: TypeAlias = dict[str, Any]

ALARM = "AWS::CloudWatch::Alarm"
API = "AWS::Serverless::Api"
BROKER = "AWS::AmazonMQ::Broker"
BUCKET = "AWS::S3::Bucket"
COMPOSITE_ALARM = "AWS::CloudWatch::CompositeAlarm"
DASHBOARD = "AWS::CloudWatch::Dashboard"
EVENT_RULE = "AWS::Events::Rule"
FUNCTION = "AWS::Serverless::Function"
GUARD = "Custom::RabbitMqChangeGuard"
LAYER = "AWS::Serverless::LayerVersion"
LOG_GROUP = "AWS::Logs::LogGroup"
MANAGED_POLICY = "AWS::IAM::ManagedPolicy"
MAPPING = "AWS::Lambda::EventSourceMapping"
POLICY = "AWS::IAM::Policy"
QUERY = "AWS::Logs::QueryDefinition"
QUEUE = "AWS::SQS::Queue"
ROLE = "AWS::IAM::Role"
SECRET = "AWS::SecretsManager::Secret"
TABLE = "AWS::DynamoDB::Table"
DISTRIBUTION = "AWS::CloudFront::Distribution"
PERMISSION = "AWS::Lambda::Permission"
TOPIC = "AWS::SNS::Topic"
SUBSCRIPTION = "AWS::SNS::Subscription"
USAGE_PLAN = "AWS::ApiGateway::UsagePlan"
#: Hold in a stack that leaves no flow out, reads existing buckets too, and has a key for uploads.
FLOW_CONDITIONS = {
    "HasDelivery",
    "HasOrders",
    "HasRabbitMqIntake",
    "HasHttpApi",
    "OffersOrders",
    "OffersRabbitMqDeadLetters",
    "HasExistingUploadsBuckets",
    "HasUploadsKmsKey",
}
POLICY_OF = {
    BUCKET: ("AWS::S3::BucketPolicy", "Bucket"),
    QUEUE: ("AWS::SQS::QueuePolicy", "Queues"),
    TOPIC: ("AWS::SNS::TopicPolicy", "Topics"),
}


class _Loader(yaml.CSafeLoader):
    """Keeps `!Ref x` as `{"Ref": "x"}` and `!Sub x` as `{"Fn::Sub": "x"}`."""


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.MappingNode):
        value: Any = loader.construct_mapping(node, deep=True)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = node.value.split(".", 1) if suffix == "GetAtt" else node.value
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long_form)


def as_written(text: str, folder: Path = ROOT) -> Template:
    """The template with its short function forms written out, and the files that it includes in their places."""
    template: Template = _with_files(_Loader(text).get_single_data(), folder)
    return template


def load(text: str) -> Template:
    """The same of a stack that leaves no flow out: an `Fn::If` on a flow is what it is with that flow."""
    template: Template = _with_every_flow(as_written(text))
    for resource in template["Resources"].values():
        if resource.get("Condition") in FLOW_CONDITIONS:
            del resource["Condition"]
    return template


def _with_files(value: Any, folder: Path) -> Any:
    match value:
        case {"Fn::Transform": {"Name": "AWS::Include", "Parameters": {"Location": str(path)}}}:
            return _Loader((folder / path).read_text()).get_single_data()
        case dict():
            return {key: _with_files(one, folder) for key, one in value.items()}
        case list():
            return [_with_files(one, folder) for one in value]
    return value


def _with_every_flow(value: Any) -> Any:
    match value:
        case {"Fn::If": [str(condition), one, _]} if condition in FLOW_CONDITIONS:
            return _with_every_flow(one)
        case dict():
            return {key: _with_every_flow(one) for key, one in value.items()}
        case list():
            return [_with_every_flow(one) for one in value]
    return value


def listed(value: Any) -> list[Any]:
    """What CloudFormation and IAM take as one value or as a list."""
    return value if isinstance(value, list) else [value]


def target(value: Any) -> str | None:
    """The logical id that a Ref, a GetAtt or a `${Id.Arn}` at the start of a Sub names."""
    match value:
        case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), *_]}:
            return name
        case {"Fn::Sub": str(text)} if found := re.match(r"\$\{(\w+)(\.\w+)?\}", text):
            return found[1]
    return None


def either(value: Any) -> list[Any]:
    """Both values of an If, or the value alone."""
    match value:
        case {"Fn::If": [_, one, other]}:
            return [*either(one), *either(other)]
    return [value]


def holds(template: Template, test: Any, parameters: dict[str, str] | None = None) -> bool:
    """Whether a condition, or a test in the section Rules, holds with these parameters and the others' defaults."""
    values = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()} | (parameters or {})

    def value(of: Any) -> Any:
        match of:
            case {"Ref": str(name)} | {"Fn::Join": ["", {"Ref": str(name)}]}:  # a list is given as text
                return values[name]
        return of

    match test:
        case {"Condition": str(name)}:
            return holds(template, template["Conditions"][name], parameters)
        case {"Fn::Equals": [one, other]}:
            return bool(value(one) == value(other))
        case {"Fn::Not": [part]}:
            return not holds(template, part, parameters)
        case {"Fn::Or": [*parts]}:
            return any(holds(template, part, parameters) for part in parts)
        case {"Fn::And": [*parts]}:
            return all(holds(template, part, parameters) for part in parts)
    raise ValueError(f"unknown test {test}")


def exists(template: Template, resource: str, parameters: dict[str, str] | None = None) -> bool:
    """Whether a resource is made with these parameters and the others' defaults."""
    condition = template["Resources"][resource].get("Condition")
    return condition is None or holds(template, {"Condition": condition}, parameters)


def properties(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    """The properties of every resource of a kind, by logical id; a function's with the Globals in them."""
    common = template.get("Globals", {}).get("Function", {}) if kind == FUNCTION else {}
    return {
        name: _merged(common, resource.get("Properties", {}))
        for name, resource in template["Resources"].items()
        if resource["Type"] == kind
    }


def _merged(common: Any, own: Any) -> Any:
    # https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-template-anatomy-globals.html
    if isinstance(common, list) and isinstance(own, list):
        return common + own
    if not (isinstance(common, dict) and isinstance(own, dict)) or _is_call(common) or _is_call(own):
        return own
    merged = common | own
    for key in common.keys() & own.keys():
        merged[key] = _merged(common[key], own[key])
    return merged


def _is_call(value: dict[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::"))


def sqs_mappings(template: Template) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Function, the queue that Lambda polls for it, and the mapping's properties."""
    for function, values in properties(template, FUNCTION).items():
        for event in values.get("Events", {}).values():
            if event["Type"] == "SQS":
                yield function, target(event["Properties"]["Queue"]) or "", event["Properties"]


def mq_mappings(template: Template) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each mapping of a broker's queue: its logical id, its function, its properties."""
    for name, values in properties(template, MAPPING).items():
        if "Queues" in values:
            yield name, target(values["FunctionName"]) or "", values


def operations(template: Template) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each method of each API: its API, its name such as `GET /results`, and what the description says of it."""
    for api, values in properties(template, API).items():
        for path, methods in values["DefinitionBody"]["paths"].items():
            for method, operation in methods.items():
                name = "ANY" if method == "x-amazon-apigateway-any-method" else method.upper()
                yield api, f"{name} {path}", operation


def integration_of(operation: dict[str, Any]) -> dict[str, Any]:
    """What API Gateway calls for a method, and how."""
    integration: dict[str, Any] = operation.get("x-amazon-apigateway-integration", {})
    return integration


def queue_of(integration: dict[str, Any]) -> str | None:
    """The queue that an integration calls."""
    found = re.search(
        r":sqs:path/\$\{AWS::AccountId\}/\$\{(\w+)\.QueueName\}$", str(integration.get("uri", {}).get("Fn::Sub"))
    )
    return found[1] if found else None


def access_of(mapping: dict[str, Any], kind: str) -> Any:
    """What an MQ mapping gives as BASIC_AUTH or as VIRTUAL_HOST."""
    return next((x["URI"] for x in mapping.get("SourceAccessConfigurations", []) if x["Type"] == kind), None)


def dead_letter_queues(template: Template) -> dict[str, list[str]]:
    """Each dead-letter queue, by redrive policy or by name, with the queues that give up into it."""
    sources: dict[str, list[str]] = defaultdict(list)
    for name, values in properties(template, QUEUE).items():
        if name.endswith("DeadLetterQueue"):
            sources[name] += []
        if "RedrivePolicy" in values:
            sources[target(values["RedrivePolicy"]["deadLetterTargetArn"]) or ""].append(name)
    return dict(sources)


def source_queues(template: Template) -> dict[str, dict[str, Any]]:
    """The queues that are no dead-letter queues."""
    aside = dead_letter_queues(template)
    return {name: values for name, values in properties(template, QUEUE).items() if name not in aside}


def resource_policies(template: Template, kind: str, resource: str) -> dict[str, list[dict[str, Any]]]:
    """The statements of the bucket, queue or topic policies set on one resource, by the policy's logical id."""
    policy_kind, attached_to = POLICY_OF[kind]
    return {
        name: listed(values["PolicyDocument"]["Statement"])
        for name, values in properties(template, policy_kind).items()
        if resource in map(target, listed(values[attached_to]))
    }


def role_statements(template: Template, role: str) -> list[dict[str, Any]]:
    """What a role's inline policies allow, and those that stand apart because of a condition."""
    policies = [
        *properties(template, ROLE).get(role, {}).get("Policies", []),
        *(properties(template, POLICY)[name] for name in policies_apart(template, role)),
    ]
    statements = [statement for policy in policies for statement in listed(policy["PolicyDocument"]["Statement"])]
    return [statement for statement in statements if statement["Effect"] == "Allow"]


def policies_apart(template: Template, role: str) -> list[str]:
    """The policies of a role that are resources of their own."""
    return [name for name, v in properties(template, POLICY).items() if role in map(target, v.get("Roles", []))]


def role_of(function: dict[str, Any]) -> str:
    """The logical id of a function's role, empty if the template does not hold it."""
    return target(function.get("Role")) or ""


def arn_of_named(service: str, name: Any) -> Any:
    """The ARN, as the template must build it, of what has the physical name `!Join [-, [prefix, ...]]`."""
    match name:
        case {"Fn::Join": [separator, [str(prefix), *rest]]}:
            return {"Fn::Join": [separator, [{"Fn::Sub": f"arn:${{AWS::Partition}}:{service}:{prefix}"}, *rest]]}
    return None


def code_of(function: dict[str, Any]) -> str:
    """A function's own Python code, and what it shares with others."""
    files = [*sorted((ROOT / function["CodeUri"]).rglob("*.py")), *sorted((ROOT / "layers/common").rglob("*.py"))]
    return "\n".join(file.read_text() for file in files)
