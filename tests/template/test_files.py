"""What the template's text, samconfig.toml and cfn-lint say of it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint  # type: ignore[import-untyped]

from tests.template.template import ROOT, Template, holds, load

TEXT = (ROOT / "template.yaml").read_text()
TEMPLATE = load(TEXT)
SAMCONFIG = tomllib.loads((ROOT / "samconfig.toml").read_text())


def samconfig_faults(samconfig: dict[str, Any], template: Template) -> list[str]:
    """https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-cli-config.html"""
    faults = [f"there is no environment {name}" for name in ("default", "prod", "local") if name not in samconfig]
    commands = {
        f"{environment}.{command}": values["parameters"]
        for environment, commands in samconfig.items()
        if environment != "version"
        for command, values in commands.items()
    }
    faults += [f"there is no {name}" for name in ("default.local_invoke", "default.sync") if name not in commands]
    for name, parameters in commands.items():
        match name.split(".")[1]:
            case "local_invoke" if parameters.get("function_logical_id") not in template.functions:
                faults.append(f"{name} calls {parameters.get('function_logical_id')}")
            case "sync" if parameters.get("dependency_layer") is not False:
                faults.append(f"{name} makes a nested stack of layers")
            case "deploy":
                overridden = [override.partition("=")[0] for override in parameters.get("parameter_overrides", [])]
                faults += [f"{name} sets {key}" for key in overridden if key not in template["Parameters"]]
    return faults


def test_samconfig_fits_the_template() -> None:
    assert samconfig_faults(SAMCONFIG, TEMPLATE) == []


def _without_prod(samconfig: dict[str, Any]) -> None:
    del samconfig["prod"]


def _without_local_invoke(samconfig: dict[str, Any]) -> None:
    del samconfig["default"]["local_invoke"]


def _with_another_function(samconfig: dict[str, Any]) -> None:
    samconfig["default"]["local_invoke"]["parameters"]["function_logical_id"] = "ResizeFunction"


def _with_a_dependency_layer(samconfig: dict[str, Any]) -> None:
    del samconfig["local"]["sync"]["parameters"]["dependency_layer"]


def _with_an_unknown_parameter(samconfig: dict[str, Any]) -> None:
    samconfig["default"]["deploy"]["parameters"]["parameter_overrides"].append("Stage=dev")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (_without_prod, "there is no environment prod"),
        (_without_local_invoke, "there is no default.local_invoke"),
        (_with_another_function, "default.local_invoke calls ResizeFunction"),
        (_with_a_dependency_layer, "local.sync makes a nested stack of layers"),
        (_with_an_unknown_parameter, "default.deploy sets Stage"),
    ],
)
def test_a_broken_samconfig_is_found(damage: Callable[[dict[str, Any]], None], fault: str) -> None:
    broken = deepcopy(SAMCONFIG)
    damage(broken)
    assert samconfig_faults(broken, TEMPLATE) == [fault]


def refusals(template: Template, parameters: dict[str, str]) -> list[str]:
    """Why CloudFormation would not begin with these parameters.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html
    """
    return [
        assertion["AssertDescription"]
        for rule in template["Rules"].values()
        if "RuleCondition" not in rule or holds(template, rule["RuleCondition"], parameters)
        for assertion in rule["Assertions"]
        if not holds(template, assertion["Assert"], parameters)
    ]


INTAKE = {"RabbitMqIntake": "true"}
BROKER = INTAKE | {"RabbitMqBrokerArn": "arn:aws:mq:eu-central-1:123456789012:broker:mq:b-1"}
SECRET = INTAKE | {"RabbitMqSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mq-AbCdEf"}
CREATED = INTAKE | {"CreateRabbitMqBroker": "true"}
PUBLIC = {"RabbitMqPubliclyAccessible": "true"}
SUBNET = {"RabbitMqSubnetIds": "subnet-1"}
GROUP = {"RabbitMqSecurityGroupIds": "sg-1"}


@pytest.mark.parametrize(
    ("parameters", "reasons"),
    [
        ({}, []),
        (BROKER | SECRET, []),
        (BROKER, ["RabbitMqBrokerArn and RabbitMqSecretArn go together."]),
        (SECRET, ["RabbitMqBrokerArn and RabbitMqSecretArn go together."]),
        (
            BROKER | SECRET | {"RabbitMqIntake": "false"},
            ["A RabbitMQ broker needs RabbitMqIntake=true. RabbitMqReads=false stops the reading alone."],
        ),
        (CREATED | SUBNET | GROUP, []),
        (CREATED | PUBLIC, []),
        (
            CREATED,
            ["A private broker needs RabbitMqSubnetIds.", "A private broker needs RabbitMqSecurityGroupIds."],
        ),
        (CREATED | PUBLIC | GROUP, ["Amazon MQ takes no RabbitMqSecurityGroupIds for a public broker."]),
        (
            CREATED | PUBLIC | BROKER | SECRET,
            ["With CreateRabbitMqBroker, leave RabbitMqBrokerArn empty."],
        ),
        ({"RabbitMqOrdersQueueName": "image-tasks"}, ["Image tasks and orders need a RabbitMQ queue each."]),
    ],
)
def test_incompatible_parameters_are_refused(parameters: dict[str, str], reasons: list[str]) -> None:
    assert refusals(TEMPLATE, parameters) == reasons


@pytest.mark.parametrize(
    ("parameter", "fitting", "unfitting"),
    [
        ("RabbitMqBrokerArn", BROKER["RabbitMqBrokerArn"], "arn:aws:mq:eu-central-1:123456789012:broker:mq"),
        ("RabbitMqSecretArn", SECRET["RabbitMqSecretArn"], "my-secret"),
        ("RabbitMqSubnetIds", "subnet-1,subnet-2", "subnet-1, subnet-2"),
        ("RabbitMqSecurityGroupIds", "sg-1,sg-2", "sg-1;sg-2"),
        ("RabbitMqVirtualHost", "/shop", '/"'),
        ("RabbitMqOrdersQueueName", "shop:orders", "${orders}"),
        ("PaymentsUrl", "https://api.stripe.com", "http://api.stripe.com"),
        ("AlarmEmail", "oncall@example.com", "oncall"),
    ],
)
def test_parameters_accept_valid_values(parameter: str, fitting: str, unfitting: str) -> None:
    values = TEMPLATE["Parameters"][parameter]
    assert re.fullmatch(values["AllowedPattern"], values["Default"])
    assert re.fullmatch(values["AllowedPattern"], fitting)
    assert not re.fullmatch(values["AllowedPattern"], unfitting)


LINT_RULES = Path(__file__).with_name("cfn_lint_rules.txt")
# What the rules of our own must find, on every resource that they are about.
UNSAFE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Queue: {Type: AWS::SQS::Queue, Properties: {VisibilityTimeout: 300}}
  Topic: {Type: AWS::SNS::Topic, Properties: {TopicName: orders}}
  Bucket: {Type: AWS::S3::Bucket, Properties: {OwnershipControls: {Rules: [{ObjectOwnership: ObjectWriter}]}}}
  Table:
    Type: AWS::DynamoDB::Table
    Properties: {TableName: orders}
  Function:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: orders
      ReservedConcurrentExecutions: 3
      FunctionUrlConfig: {AuthType: NONE}
      DeploymentPreference: {Type: AllAtOnce}
      Policies: [AdministratorAccess]
      LoggingConfig: {LogFormat: JSON, ApplicationLogLevel: WARN}
  Role:
    Type: AWS::IAM::Role
    Properties: {RoleName: orders, ManagedPolicyArns: ["arn:aws:iam::aws:policy/AdministratorAccess"]}
  Alarm: {Type: AWS::CloudWatch::Alarm, Properties: {AlarmName: orders}}
  CompositeAlarm: {Type: AWS::CloudWatch::CompositeAlarm, Properties: {AlarmName: orders}}
  Dashboard: {Type: AWS::CloudWatch::Dashboard, Properties: {DashboardName: orders}}
  Broker: {Type: AWS::AmazonMQ::Broker, Properties: {AutoMinorVersionUpgrade: false}}
  Api: {Type: AWS::Serverless::Api, Properties: {StageName: v1}}
  OtherApi: {Type: AWS::Serverless::Api, Properties: {MethodSettings: [{ResourcePath: /orders, HttpMethod: GET}]}}
  UsagePlan: {Type: AWS::ApiGateway::UsagePlan, Properties: {Description: Orders}}
  Logs: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: orders}}
  Rule: {Type: AWS::Events::Rule, Properties: {Name: orders}}
  Secret: {Type: AWS::SecretsManager::Secret, Properties: {Name: orders, SecretString: "1234"}}
  Parameter: {Type: AWS::SSM::Parameter, Properties: {Name: orders}}
"""


def _lint(text: str) -> list[str]:
    config = ManualArgs(custom_rules=str(LINT_RULES))
    return [f"{match.rule.id} {match.message}" for match in lint(text, config=config)]


def test_cfn_lint_checks_each_rule_of_ours() -> None:
    found = {message.partition(" ")[2] for message in _lint(UNSAFE) if message.startswith("E90")}
    assert found == set(re.findall('ERROR "(.*)"$', LINT_RULES.read_text(), re.MULTILINE))


def test_cfn_lint_finds_a_misspelt_property() -> None:
    queue = re.search(r"  ResultsDeadLetterQueue:\n(    .*\n)+", TEXT)  # one resource: the whole takes seconds again
    assert queue
    broken = f"Resources:\n{queue[0].replace('MessageRetentionPeriod', 'MessageRetention')}"
    assert "'MessageRetention' was unexpected" in " ".join(_lint(broken))
