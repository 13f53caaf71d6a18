"""Roles and policies: who takes a role, what it allows, and on which resources."""

from __future__ import annotations

from typing import Any

from tests.template.template import Findings, Template, access_of, code_in, either, granted, listed, target

_LOOKING_AROUND = {f"ec2:Describe{what}" for what in ("NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs")}
_TRACING = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
# Actions that support no resource, or, for alarms, not in every request:
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html
_WITHOUT_RESOURCE = {*_TRACING, *_LOOKING_AROUND, "cloudwatch:DescribeAlarms"}
# Network interfaces have names only when they are there, and a broker that is given is in a network that is not.
_KINDS_OF_RESOURCE = {
    "ec2:CreateNetworkInterface": ["network-interface", "subnet", "security-group"],
    "ec2:DeleteNetworkInterface": ["network-interface"],
}
# What Lambda does under a function's role without a line of the function's code.
_DONE_BY_LAMBDA = {"logs:CreateLogStream", "logs:PutLogEvents", *_TRACING}
_DONE_BY_LAMBDA_FOR_QUEUES = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
# What it does besides when it reads a broker: https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html
_DONE_BY_LAMBDA_FOR_BROKERS = {
    *("mq:DescribeBroker", "secretsmanager:GetSecretValue"),
    *(*_KINDS_OF_RESOURCE, *_LOOKING_AROUND),
}
# What a function's code does, and what to look for in it: any of these.
_DONE_BY_CODE: dict[str, list[str]] = {
    "sqs:SendMessage": [".send_message"],
    "sqs:ChangeMessageVisibility": [".change_message_visibility("],
    "s3:GetObject": [".get_object(", '"get_object"'],  # now, or by a signed address
    "s3:GetObjectVersion": ["VersionId="],
    "s3:ListBucket": ['"NoSuchKey"', ".list_objects_v2("],  # the first: an answer only to those who may list
    "s3:PutObject": [".put_object(", ".generate_presigned_post("],  # now, or by a signed form
    "s3:PutObjectTagging": ["Tagging="],
    "s3:GetObjectTagging": [".get_object_tagging("],
    "s3:DeleteObject": [".delete_objects("],
    "dynamodb:GetItem": [".get_item("],
    "dynamodb:BatchGetItem": [".batch_get_item("],
    "dynamodb:Scan": ['.get_paginator("scan")'],
    "dynamodb:PutItem": [".put_item("],
    "dynamodb:UpdateItem": [".update_item(", '{"Update": '],  # alone, or in a transaction
    "sns:Publish": ["TopicArn="],
    "secretsmanager:GetSecretValue": [".get_secret_value(", "SecretsProvider("],
}


def roles_name_their_resources(template: Template) -> Findings:
    """Only what knows no resource may stand with `*`, alone.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsx-ray.html
    """
    known = template["Resources"].keys() | template["Parameters"].keys()
    ec2 = "arn:${AWS::Partition}:ec2:${AWS::Region}:${AWS::AccountId}"
    for role in template.roles:
        for statement in template.statements_of(role):
            actions, resources = listed(statement["Action"]), listed(statement["Resource"])
            each = [one for resource in resources for one in either(resource)]
            named = all(target(one) in known or _each_bucket_of(one) in known for one in each)
            kinds = [{"Fn::Sub": f"{ec2}:{kind}/*"} for kind in _KINDS_OF_RESOURCE.get(" ".join(actions), [])]
            if not (named or resources == kinds or {*actions} <= _WITHOUT_RESOURCE):
                yield f"{role} does not name the resources of {statement.get('Sid')}"


def producers_may_only_upload_and_read(template: Template) -> Findings:
    """And nothing else. S3 uses the key of the uploads for them.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
    """
    wanted = {
        ("s3:PutObject", "UploadsBucket"),
        ("kms:GenerateDataKey", "UploadsKmsKeyArn"),
        ("kms:Decrypt", "UploadsKmsKeyArn"),
        ("s3:GetObject", "RenditionsBucket"),
        ("dynamodb:GetItem", "ImagesTable"),
        ("dynamodb:BatchGetItem", "ImagesTable"),
    }
    for name, values in template.managed_policies.items():
        statements = [s for s in values["PolicyDocument"]["Statement"] if s["Effect"] == "Allow"]
        given = {(action, target(resource) or str(resource)) for action, resource in granted(statements)}
        yield from (f"{name} allows {action} on {resource}" for action, resource in sorted(given - wanted))
        yield from (f"{name} does not allow {action} on {resource}" for action, resource in sorted(wanted - given))
        for statement in statements:
            if "kms:" in str(statement["Action"]) and not _is_by_s3(statement):
                yield f"{name} lends the key to more than S3"


def roles_lend_no_function_the_network(template: Template) -> Findings:
    """Lambda takes what it needs for a function's network before the function runs; its code needs none of it.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-best-practice
    """
    for name, values in template.policies.items():
        statements = values["PolicyDocument"]["Statement"]
        network = {a for s in statements if s["Effect"] == "Allow" for a in listed(s["Action"]) if a.startswith("ec2:")}
        roles = {target(role) for role in values["Roles"]}
        theirs = [function for function in template.functions if template.role_of(function) in roles]
        from_code = {"ArnEquals": {"lambda:SourceFunctionArn": {"Fn::GetAtt": [*theirs, "Arn"]}}}
        denied = {
            action
            for s in statements
            if (s["Effect"], s["Resource"], s.get("Condition")) == ("Deny", "*", from_code)
            for action in listed(s["Action"])
        }
        yield from (f"{name} lends {', '.join(theirs)} {action}" for action in sorted(network - denied))


def roles_are_taken_by_the_one_service_that_needs_them(template: Template) -> Findings:
    """Lambda, API Gateway for the queues that methods call, this account's CodeDeploy for a rollout.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
    https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSCodeDeployRoleForLambdaLimited.html
    """
    needed = {template.role_of(function): "lambda" for function in template.functions}
    needed |= {target(function["Role"]) or "": "lambda" for function in template.plain_functions.values()}
    needed |= {target(called.get("credentials")) or "": "apigateway" for _, _, _, called in template.operations()}
    rollouts = [function.get("DeploymentPreference", {}) for function in template.functions.values()]
    needed |= {target(either(rollout.get("Role"))[0]) or "": "codedeploy" for rollout in rollouts}
    for_us = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    for name, values in template.roles.items():
        service = needed.get(name, "a known service")
        takes = ({"Service": f"{service}.amazonaws.com"}, for_us if service == "codedeploy" else None)
        trust = listed(values["AssumeRolePolicyDocument"]["Statement"])
        if [(statement["Principal"], statement.get("Condition")) for statement in trust] != [takes]:
            yield f"{name} is not taken by {service} alone"


def roles_allow_exactly_what_is_done(template: Template) -> Findings:
    """By the function's code, and by Lambda for it: it writes logs, sends traces, polls queues and reads brokers.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html#grant-least-privilege
    https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
    """
    polling = {function for function, _, _ in template.sqs_mappings()}
    reading = {function for _, function, _ in template.mq_mappings()}
    for function, values in template.functions.items():
        role, own_code = template.role_of(function), code_in(values["CodeUri"])
        by_lambda = _DONE_BY_LAMBDA | (_DONE_BY_LAMBDA_FOR_QUEUES if function in polling else set())
        by_lambda_at_times = _DONE_BY_LAMBDA_FOR_BROKERS if function in reading else set()
        allowed = {action for action, _ in granted(s for s in template.statements_of(role) if not _is_by_s3(s))}
        for action in sorted(allowed - by_lambda - by_lambda_at_times - _done_by(own_code + code_in("layers/common"))):
            yield f"{role} allows {action}, which {function} does not do"
        for action in sorted((by_lambda | _done_by(own_code)) - allowed):
            yield f"{role} does not allow {action}, which {function} does"


def functions_may_read_their_broker(template: Template) -> Findings:
    """https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html"""
    for name, function, values in template.mq_mappings():
        role = template.role_of(function)
        on = {
            "mq:DescribeBroker": values["EventSourceArn"],
            "secretsmanager:GetSecretValue": access_of(values, "BASIC_AUTH"),
        }
        allowed = {action for action, of in granted(template.statements_of(role)) if of == on.get(action, of)}
        yield from (f"{name} lacks {action}" for action in sorted(_DONE_BY_LAMBDA_FOR_BROKERS - allowed))
        for policy in template.policies_apart(role):
            if policy not in template.waits_for(name):
                yield f"{name} does not wait for {policy}"


def roles_reach_exactly_what_their_function_uses(template: Template) -> Findings:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html#grant-least-privilege"""
    for function, values in template.functions.items():
        told = {target(value) for value in template.environment(function).values()} & template["Resources"].keys()
        logs = {target(values.get("LoggingConfig", {}).get("LogGroup"))}
        polled = {queue for name, queue, _ in template.sqs_mappings() if name == function}
        brokers = {
            target(one)
            for _, name, mapping in template.mq_mappings()
            if name == function
            for source in (mapping["EventSourceArn"], access_of(mapping, "BASIC_AUTH"))
            for one in either(source)
        }
        statements = [s for s in template.statements_of(template.role_of(function)) if not _is_by_s3(s)]
        reached = {target(one) for _, resource in granted(statements) for one in either(resource)} - {None}
        needed = told | logs | polled
        yield from (f"{function} may not reach {name}" for name in sorted(map(str, needed - reached)))
        yield from (f"{function} may reach {name}" for name in sorted(map(str, reached - needed - brokers)))


def _is_by_s3(statement: dict[str, Any]) -> bool:
    """Whether S3 alone can use a key for whom a statement allows it."""
    via = {"StringEquals": {"kms:ViaService": {"Fn::Sub": "s3.${AWS::Region}.${AWS::URLSuffix}"}}}
    return "kms:" in str(statement["Action"]) and statement.get("Condition") == via


def _each_bucket_of(resource: Any) -> str | None:
    """The parameter each of whose buckets a resource names, in every partition."""
    match resource:
        case {"Fn::Split": [",", {"Fn::Sub": [str(text), {"Names": {"Fn::If": ["IsInChina", china, elsewhere]}}]}]}:
            _, gov, usual = elsewhere["Fn::If"]
            ending = text.removeprefix("arn:${AWS::Partition}:s3:::${Names}")
            names = usual["Fn::Join"][1]
            joined = {"aws-cn": china, "aws-us-gov": gov, "aws": usual}
            if all(value == {"Fn::Join": [f"{ending},arn:{of}:s3:::", names]} for of, value in joined.items()):
                return target(names)
    return None


def _done_by(code: str) -> set[str]:
    return {action for action, texts in _DONE_BY_CODE.items() if any(text in code for text in texts)}
