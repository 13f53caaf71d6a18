"""Read template.yaml as CloudFormation does, and the few questions that the rules ask of it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import yaml

ROOT = Path(__file__).parents[2]
Findings: TypeAlias = Iterator[str]
Statement: TypeAlias = dict[str, Any]

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
# The stack's whole UUID. Its last group alone is the same for many stacks: it names the machine that made it.
STACK_UUID = {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}
# The kinds of policy that are set on a resource, and their property that names it.
_POLICIES_ON = {"AWS::S3::BucketPolicy": "Bucket", "AWS::SQS::QueuePolicy": "Queues", "AWS::SNS::TopicPolicy": "Topics"}


class _Kind:
    """The properties of every resource of a kind, by logical id; a function's with the Globals in them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __get__(self, template: Template, _: object) -> dict[str, dict[str, Any]]:
        common = template.get("Globals", {}).get(self.kind.rpartition("::")[2], {})
        return {
            name: _merged(common, resource.get("Properties", {}))
            for name, resource in template["Resources"].items()
            if resource["Type"] == self.kind
        }


class Template(dict[str, Any]):
    """The template as a dictionary, and the questions that the rules ask of it."""

    alarms = _Kind("AWS::CloudWatch::Alarm")
    apis = _Kind("AWS::Serverless::Api")
    brokers = _Kind("AWS::AmazonMQ::Broker")
    buckets = _Kind("AWS::S3::Bucket")
    change_guards = _Kind("Custom::RabbitMqChangeGuard")
    composite_alarms = _Kind("AWS::CloudWatch::CompositeAlarm")
    dashboards = _Kind("AWS::CloudWatch::Dashboard")
    distributions = _Kind("AWS::CloudFront::Distribution")
    event_rules = _Kind("AWS::Events::Rule")
    event_source_mappings = _Kind("AWS::Lambda::EventSourceMapping")
    functions = _Kind("AWS::Serverless::Function")
    layers = _Kind("AWS::Serverless::LayerVersion")
    log_groups = _Kind("AWS::Logs::LogGroup")
    managed_policies = _Kind("AWS::IAM::ManagedPolicy")
    plain_functions = _Kind("AWS::Lambda::Function")
    permissions = _Kind("AWS::Lambda::Permission")
    policies = _Kind("AWS::IAM::Policy")
    queues = _Kind("AWS::SQS::Queue")
    roles = _Kind("AWS::IAM::Role")
    saved_queries = _Kind("AWS::Logs::QueryDefinition")
    secrets = _Kind("AWS::SecretsManager::Secret")
    subscriptions = _Kind("AWS::SNS::Subscription")
    tables = _Kind("AWS::DynamoDB::Table")
    topics = _Kind("AWS::SNS::Topic")
    usage_plans = _Kind("AWS::ApiGateway::UsagePlan")

    def exists(self, resource: str, parameters: dict[str, str] | None = None) -> bool:
        """Whether a resource is made with these parameters and the others' defaults."""
        condition = self["Resources"][resource].get("Condition")
        return condition is None or holds(self, {"Condition": condition}, parameters)

    def waits_for(self, resource: str) -> list[str]:
        """What a resource depends on by its `DependsOn`."""
        return listed(self["Resources"][resource].get("DependsOn", []))

    def environment(self, function: str) -> dict[str, Any]:
        """The variables of a function."""
        common = self.get("Globals", {}).get("Function", {}).get("Environment", {})
        own = self["Resources"][function]["Properties"].get("Environment", {})
        variables: dict[str, Any] = _merged(common, own).get("Variables", {})
        return variables

    def role_of(self, function: str) -> str:
        """The logical id of a function's role, empty if the template does not hold it."""
        return target(self.functions[function].get("Role")) or ""

    def sqs_mappings(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Function, the queue that Lambda polls for it, and the mapping's properties."""
        for function, values in self.functions.items():
            for event in values.get("Events", {}).values():
                if event["Type"] == "SQS":
                    yield function, target(event["Properties"]["Queue"]) or "", event["Properties"]

    def mq_mappings(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Each mapping of a broker's queue: its logical id, its function, its properties."""
        for name, values in self.event_source_mappings.items():
            if "Queues" in values:
                yield name, target(values["FunctionName"]) or "", values

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
        """Each method of each API: its API, its name such as `GET /results`, its description, and what it calls."""
        for api, values in self.apis.items():
            for path, methods in values["DefinitionBody"]["paths"].items():
                for method, operation in methods.items():
                    name = "ANY" if method == "x-amazon-apigateway-any-method" else method.upper()
                    yield api, f"{name} {path}", operation, integration_of(operation)

    def dead_letter_queues(self) -> dict[str, list[str]]:
        """Each dead-letter queue, by redrive policy or by name, with the queues that give up into it."""
        sources: dict[str, list[str]] = defaultdict(list)
        for name, values in self.queues.items():
            if name.endswith("DeadLetterQueue"):
                sources[name] += []
            if "RedrivePolicy" in values:
                sources[target(values["RedrivePolicy"]["deadLetterTargetArn"]) or ""].append(name)
        return dict(sources)

    def source_queues(self) -> dict[str, dict[str, Any]]:
        """The queues that are no dead-letter queues."""
        aside = self.dead_letter_queues()
        return {name: values for name, values in self.queues.items() if name not in aside}

    def policies_on(self, resource: str) -> list[str]:
        """The bucket, queue or topic policies that are set on a resource."""
        policies = [(name, one.get("Properties", {}), one["Type"]) for name, one in self["Resources"].items()]
        return [n for n, v, kind in policies if resource in map(target, listed(v.get(_POLICIES_ON.get(kind, ""))))]

    def statements_on(self, resource: str) -> list[Statement]:
        """The statements of those policies, without their names."""
        policies = [self["Resources"][name]["Properties"] for name in self.policies_on(resource)]
        return [{k: v for k, v in s.items() if k != "Sid"} for policy in policies for s in _statements(policy)]

    def statements_of(self, role: str) -> list[Statement]:
        """What a role's inline policies allow, and those that stand apart because of a condition."""
        inline = self.roles.get(role, {}).get("Policies", [])
        policies = [*inline, *(self.policies[name] for name in self.policies_apart(role))]
        return [s for policy in policies for s in _statements(policy) if s["Effect"] == "Allow"]

    def policies_apart(self, role: str) -> list[str]:
        """The policies of a role that are resources of their own."""
        return [name for name, v in self.policies.items() if role in map(target, v.get("Roles", []))]


def _statements(policy: dict[str, Any]) -> list[Statement]:
    return listed(policy["PolicyDocument"]["Statement"])


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
    return Template(_with_files(_Loader(text).get_single_data(), folder))


def load(text: str) -> Template:
    """The same of a stack that leaves no flow out: an `Fn::If` on a flow is what it is with that flow."""
    template = Template(_with_every_flow(as_written(text)))
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


def granted(statements: Iterable[Statement]) -> Iterator[tuple[str, Any]]:
    """Each action that statements are about, with each of its resources."""
    for statement in statements:
        yield from product(listed(statement["Action"]), listed(statement["Resource"]))


def arn_of_named(service: str, name: Any) -> Any:
    """The ARN, as the template must build it, of what has the physical name `!Join [-, [prefix, ...]]`."""
    match name:
        case {"Fn::Join": [separator, [str(prefix), *rest]]}:
            return {"Fn::Join": [separator, [{"Fn::Sub": f"arn:${{AWS::Partition}}:{service}:{prefix}"}, *rest]]}
    return None


def code_in(folder: str) -> str:
    """All Python code below a folder of the project."""
    return "\n".join(file.read_text() for file in sorted((ROOT / folder).rglob("*.py")))
