"""Have parliament look at every IAM policy of the templates: `.local/security/bin/python -m tests.template.iam_lint`.

It knows which actions exist, which resources and conditions each takes, and what lets a role raise its own rights.
It runs in the environment of the security linters, which has neither boto3's types nor pytest.
https://github.com/duo-labs/parliament
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from tests.template.template import ROOT, Template, load

_TEMPLATES = ("template.yaml", "deployment/deploy-role.yaml")
_ACCOUNT = "eu-central-1:123456789012"
# The ARNs that names of the template stand for, by resource type. All other types have no policies of ours.
_ARNS = {
    "AWS::AmazonMQ::Broker": f"arn:aws:mq:{_ACCOUNT}:broker:name:b-1",
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{_ACCOUNT}:table/name",
    "AWS::Events::Rule": f"arn:aws:events:{_ACCOUNT}:rule/name",
    "AWS::IAM::Role": "arn:aws:iam::123456789012:role/name",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{_ACCOUNT}:log-group:name:*",
    "AWS::S3::Bucket": "arn:aws:s3:::name",
    "AWS::SNS::Topic": f"arn:aws:sns:{_ACCOUNT}:name",
    "AWS::SQS::Queue": f"arn:aws:sqs:{_ACCOUNT}:name",
    "AWS::SecretsManager::Secret": f"arn:aws:secretsmanager:{_ACCOUNT}:secret:name-AbCdEf",
    "AWS::Serverless::Function": f"arn:aws:lambda:{_ACCOUNT}:function:name",
}
_VALUES = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "123456789012",
    "AWS::URLSuffix": "amazonaws.com",
    "UploadsKmsKeyArn": f"arn:aws:kms:{_ACCOUNT}:key/11111111-2222-3333-4444-555555555555",
    "RabbitMqBrokerArn": f"arn:aws:mq:{_ACCOUNT}:broker:name:b-1",
    "RabbitMqSecretArn": f"arn:aws:secretsmanager:{_ACCOUNT}:secret:name-AbCdEf",
    "ExistingUploadsBuckets": ["one-bucket", "other.bucket"],
}
# What parliament finds and we mean: the kind of finding, a part of its text, and why.
_MEANT = {
    ("RESOURCE_STAR", "['cloudwatch:DescribeAlarms']"): "CloudWatch takes no alarm's name for every question",
    ("UNKNOWN_CONDITION_FOR_ACTION", "lambda:SourceFunctionArn"): "Lambda sets it for every call of a function's code",
    ("INVALID_ARN", "aws:transform/"): "a transform of AWS has no account in its ARN",
    ("RESOURCE_MISMATCH", "CloudFormationRole"): "service:* on the stack's names; what needs * is not allowed by it",
    ("RESOURCE_STAR", "CloudFormationRole"): "CloudFront names what it creates itself",
}


def main() -> int:
    """Print every finding; returns 1 if there is one."""
    analyze = import_module("parliament").analyze_policy_string

    findings: list[str] = []
    policies, used = 0, set()
    for path in _TEMPLATES:
        template = load((ROOT / path).read_text())
        for name, document in _documents(template):
            policies += 1
            text = json.dumps(_resolved(document, template))
            for finding in analyze(text).findings:
                told = f"{path}, {name}: {finding.issue} {finding.detail} {finding.location}"
                meant = {(issue, part) for issue, part in _MEANT if finding.issue == issue and part in told}
                findings += [] if meant else [told]
                used |= meant
    findings += [f"parliament does not find {issue} {part} any more" for issue, part in _MEANT.keys() - used]
    sys.stdout.writelines(f"{line}\n" for line in (*findings, f"{policies} policies, {len(findings)} findings"))
    return 1 if findings or not policies else 0


def _documents(template: Template) -> Iterator[tuple[str, Any]]:
    """Every policy of a role, with the resource that holds it."""
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        for policy in [*properties.get("Policies", []), *([properties] if "IAM" in resource["Type"] else [])]:
            if isinstance(policy, dict) and "PolicyDocument" in policy:
                yield name, policy["PolicyDocument"]


def _resolved(value: Any, template: Template) -> Any:
    """A policy with an example in place of each function of CloudFormation."""
    match value:
        case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), *_]}:
            return _example(name, template)
        case {"Fn::Sub": [str(text), dict(names)]}:
            given = {name: _resolved(one, template) for name, one in names.items()}
            return re.sub(r"\$\{([\w:]+)(?:\.\w+)?}", lambda m: str(given.get(m[1]) or _example(m[1], template)), text)
        case {"Fn::Sub": str(text)}:
            return _resolved({"Fn::Sub": [text, {}]}, template)
        case {"Fn::Join": [str(by), parts]}:
            return by.join(_resolved(parts, template))
        case {"Fn::Split": [str(by), text]}:
            return _resolved(text, template).split(by)
        case {"Fn::Select": _}:
            return "name"
        case {"Fn::If": [_, one, other]}:
            return _resolved(other if "IsIn" in str(value["Fn::If"][0]) else one, template)
        case dict():
            return {key: _resolved(one, template) for key, one in value.items()}
        case list():
            return [_resolved(one, template) for one in value if one != {"Ref": "AWS::NoValue"}]
    return value


def _example(name: str, template: Template) -> Any:
    if name in template["Resources"]:
        return _ARNS[template["Resources"][name]["Type"]]
    return _VALUES.get(name) or str(template["Parameters"].get(name, {}).get("Default") or "name")


if __name__ == "__main__":
    sys.exit(main())
