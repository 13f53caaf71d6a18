"""The rules that the template keeps: each takes the template and names every resource that breaks it, and how."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from importlib import import_module
from typing import Any

from bundle.bundle import FUNCTIONS
from functions.process_image.formats import KEY_SUFFIXES, OUTPUT_FORMATS
from tests.template.template import (
    ALARM,
    API,
    BROKER,
    BUCKET,
    COMPOSITE_ALARM,
    DASHBOARD,
    DISTRIBUTION,
    EVENT_RULE,
    FUNCTION,
    GUARD,
    LAYER,
    LOG_GROUP,
    MANAGED_POLICY,
    PERMISSION,
    POLICY,
    POLICY_OF,
    QUEUE,
    ROLE,
    ROOT,
    SECRET,
    SUBSCRIPTION,
    TABLE,
    TOPIC,
    USAGE_PLAN,
    Template,
    access_of,
    arn_of_named,
    code_of,
    dead_letter_queues,
    either,
    exists,
    integration_of,
    listed,
    mq_mappings,
    operations,
    policies_apart,
    properties,
    queue_of,
    resource_policies,
    role_of,
    role_statements,
    source_queues,
    sqs_mappings,
    target,
)

_RETAINED = ("Retain", "RetainExceptOnCreate")
# The stack's whole UUID. Its last group alone is the same for many stacks: it names the machine that made it.
_STACK_UUID = {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}

# A stack that reads a broker.
_READ = {
    "RabbitMqIntake": "true",
    "RabbitMqBrokerArn": "arn:aws:mq:...",
    "RabbitMqSecretArn": "arn:aws:secretsmanager:...",
}

# Resources that have a physical name, and why they need one.
_NAMED = {
    "UploadsBucket": "its queue's policy names it, and its notification names that queue",
    "ImageTasksQueue": "its dead-letter queue names it, and its redrive policy names that queue",
    "RerenderQueue": "its dead-letter queue names it, and its redrive policy names that queue",
    "ResultsQueue": "its dead-letter queue names it, and its redrive policy names that queue",
    "OrderQueue": "its dead-letter queue names it, and its redrive policy names that queue",
    "RabbitMqBroker": "AWS makes no broker without one",
}
_NAME_PROPERTIES = {
    BUCKET: "BucketName",
    QUEUE: "QueueName",
    TABLE: "TableName",
    FUNCTION: "FunctionName",
    LAYER: "LayerName",
    LOG_GROUP: "LogGroupName",
    ROLE: "RoleName",
    TOPIC: "TopicName",
    ALARM: "AlarmName",
    COMPOSITE_ALARM: "AlarmName",
    DASHBOARD: "DashboardName",
    SECRET: "Name",
    BROKER: "BrokerName",
    "AWS::SSM::Parameter": "Name",
    "AWS::Events::Rule": "Name",
}

_TRACING = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
_LOOKING_AROUND = {
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
}
# Actions that support no resource, or, for alarms, not in every request:
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html
_WITHOUT_RESOURCE = {*_TRACING, *_LOOKING_AROUND, "cloudwatch:DescribeAlarms"}
# Network interfaces have names only when they are there, and a broker that is given is in a network that is not.
_KINDS_OF_RESOURCE = {
    "ec2:CreateNetworkInterface": ["network-interface", "subnet", "security-group"],
    "ec2:DeleteNetworkInterface": ["network-interface"],
}
# What Lambda does under a function's role without a line of the function's code.
_DONE_BY_LAMBDA = {
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    *_TRACING,
}
# What Lambda does besides when it reads a broker: https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html
_DONE_BY_LAMBDA_FOR_BROKERS = {
    "mq:DescribeBroker",
    "secretsmanager:GetSecretValue",
    *_KINDS_OF_RESOURCE,
    *_LOOKING_AROUND,
}
# What a function's code does, and what to look for in it: any of these.
_DONE_BY_CODE: dict[str, str | list[str]] = {
    "sqs:SendMessage": ".send_message",
    "sqs:ChangeMessageVisibility": ".change_message_visibility(",
    "s3:GetObject": [".get_object(", '"get_object"'],  # now, or by a signed address
    "s3:GetObjectVersion": "VersionId=",
    "s3:ListBucket": ['"NoSuchKey"', ".list_objects_v2("],  # the first: an answer only to those who may list
    "s3:PutObject": [".put_object(", ".generate_presigned_post("],  # now, or by a signed form
    "s3:PutObjectTagging": "Tagging=",
    "s3:GetObjectTagging": ".get_object_tagging(",
    "s3:DeleteObject": ".delete_objects(",
    "dynamodb:GetItem": ".get_item(",
    "dynamodb:BatchGetItem": ".batch_get_item(",
    "dynamodb:Scan": '.get_paginator("scan")',
    "dynamodb:PutItem": ".put_item(",
    "dynamodb:UpdateItem": [".update_item(", '{"Update": '],  # alone, or in a transaction
    "sns:Publish": "TopicArn=",
    "secretsmanager:GetSecretValue": [".get_secret_value(", "SecretsProvider("],
}


# Queues


def queues_hide_a_message_six_times_as_long_as_its_function_may_run(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html"""
    findings = []
    for function, queue, mapping in sqs_mappings(template):
        longest = _most(template, properties(template, FUNCTION)[function].get("Timeout", 3))
        hidden = properties(template, QUEUE)[queue].get("VisibilityTimeout", 30)
        needed = 6 * longest + mapping.get("MaximumBatchingWindowInSeconds", 0)
        if hidden < needed:
            findings.append(f"{queue} hides a message for {hidden} s, {function} needs {needed} s")
    return findings


def queues_give_up_into_a_dead_letter_queue_after_five_attempts_or_more(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html"""
    findings = []
    queues = properties(template, QUEUE)
    for name, values in source_queues(template).items():
        redrive = values.get("RedrivePolicy")
        if not redrive:
            findings.append(f"{name} has no redrive policy")
            continue
        if target(redrive["deadLetterTargetArn"]) not in queues:
            findings.append(f"{name} gives up into a queue that is not in the template")
        if redrive["maxReceiveCount"] < 5:
            findings.append(f"{name} gives up after {redrive['maxReceiveCount']} attempts")
    return findings


def dead_letters_have_room_for_their_reason(template: Template) -> list[str]:
    """A message's attributes count into its size.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
    """
    most, reason = 1_048_576, 8_192
    sizes = ((queue, properties(template, QUEUE)[queue]) for _, queue, _ in sqs_mappings(template))
    return [
        f"{queue} takes messages that are too large to be moved to the dead-letter queue"
        for queue, values in sizes
        if values.get("MaximumMessageSize", most) > most - reason
    ]


def dead_letter_queues_take_from_their_source_alone(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html"""
    findings = []
    queues = properties(template, QUEUE)
    for name, sources in dead_letter_queues(template).items():
        allowed = queues.get(name, {}).get("RedriveAllowPolicy", {"redrivePermission": "allowAll"})
        arns = [
            arn_of_named("sqs:${AWS::Region}:${AWS::AccountId}", queues[source].get("QueueName")) for source in sources
        ]
        by_queue = {"redrivePermission": "byQueue", "sourceQueueArns": arns}
        if allowed != (by_queue if sources else {"redrivePermission": "denyAll"}):
            findings.append(f"{name} does not take from exactly {', '.join(sources) or 'no queue'}")
    return findings


def queues_are_long_polled(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html"""
    return [
        f"{name} lets a receiver wait for {wait} s"
        for name, values in source_queues(template).items()
        if (wait := values.get("ReceiveMessageWaitTimeSeconds", 0)) != 10
    ]


def queues_buckets_and_topics_have_one_policy_that_refuses_plain_http(template: Template) -> list[str]:
    """A second policy would silently replace the first.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-security-best-practices.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
    """
    findings = []
    for kind in POLICY_OF:
        for name in properties(template, kind):
            policies = resource_policies(template, kind, name)
            if len(policies) != 1:
                findings.append(f"{name} has {len(policies)} policies")
            arn = {"Fn::GetAtt": [name, "Arn"]}
            action, resource = {
                QUEUE: ("sqs:*", arn),
                BUCKET: ("s3:*", [arn, {"Fn::Sub": f"${{{name}.Arn}}/*"}]),
                TOPIC: ("sns:Publish", {"Ref": name}),
            }[kind]
            statements = [statement for own in policies.values() for statement in own]
            if not any(_denies_plain_http(s, action) and s["Resource"] == resource for s in statements):
                findings.append(f"{name} may be used without TLS")
    return findings


def only_what_notifies_a_queue_may_send_to_it(template: Template) -> list[str]:
    """S3 for the stack's own bucket, SNS for its topic, EventBridge for its rules.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/grant-destinations-permissions-to-s3.html
    https://docs.aws.amazon.com/sns/latest/dg/subscribe-sqs-queue-to-sns-topic.html
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
    """
    buckets, rules = properties(template, BUCKET), properties(template, EVENT_RULE)
    findings = []
    for queue in properties(template, QUEUE):
        senders: dict[str, dict[str, Any]] = {
            "s3": {
                name: arn_of_named("s3::", buckets[name].get("BucketName"))
                for name, queues in _notified_queues(template).items()
                if queue in queues
            },
            "sns": {topic: {"Ref": topic} for topic, of in _subscribed_queues(template) if of == queue},
            "events": {name: {"Fn::GetAtt": [name, "Arn"]} for name in rules if queue in _targets(rules[name])},
        }
        expected = [
            {
                "Effect": "Allow",
                "Principal": {"Service": f"{service}.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": {"Fn::GetAtt": [queue, "Arn"]},
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
                    "ArnEquals": {"aws:SourceArn": [*arns.values()] if len(arns) > 1 else next(iter(arns.values()))},
                },
            }
            for service, arns in senders.items()
            if arns
        ]
        statements = [s for own in resource_policies(template, QUEUE, queue).values() for s in own]
        allowed = [{k: v for k, v in s.items() if k != "Sid"} for s in statements if s["Effect"] == "Allow"]
        if allowed != expected:
            names = ", ".join(name for arns in senders.values() for name in arns)
            findings.append(f"{queue} does not let exactly {names or 'nobody'} send")
    return findings


def notifying_buckets_wait_for_the_policy_of_the_queue(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-s3-bucket.html"""
    return [
        f"{name} does not wait for {policy}"
        for name, queues in _notified_queues(template).items()
        for queue in queues
        for policy in resource_policies(template, QUEUE, queue)
        if policy not in listed(template["Resources"][name].get("DependsOn", []))
    ]


# Delivery

_OUR_DISTRIBUTION = {"Fn::Sub": "arn:${AWS::Partition}:cloudfront::${AWS::AccountId}:distribution/${Distribution}"}


def renditions_are_read_by_our_distribution_alone(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-restricting-access-to-s3.html"""
    statements = [s for own in resource_policies(template, BUCKET, "RenditionsBucket").values() for s in own]
    allowed = [s for s in statements if s["Effect"] == "Allow"]
    findings = [
        f"RenditionsBucket is open to more than our distribution: {s.get('Sid')}"
        for s in allowed
        if (s["Principal"], s["Action"], s.get("Condition"))
        != (
            {"Service": "cloudfront.amazonaws.com"},
            "s3:GetObject",
            {"ArnEquals": {"aws:SourceArn": _OUR_DISTRIBUTION}},
        )
    ]
    return findings + ["RenditionsBucket is closed to our distribution"] * (not allowed)


def distributions_serve_files_over_https_and_no_more(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/using-https-viewers-to-cloudfront.html"""
    wanted = {
        "ViewerProtocolPolicy": "https-only",
        "AllowedMethods": ["GET", "HEAD"],
        "Compress": False,
        "ResponseHeadersPolicyId": {"Ref": "SecurityHeaders"},
    }
    return [
        f"{name} has another {key} at {pattern}"
        for name, pattern, behavior in _behaviors(template)
        for key, value in wanted.items()
        if behavior.get(key) != value
    ]


def renditions_under_the_prefix_of_stable_addresses_are_served(template: Template) -> list[str]:
    """The first pattern that fits decides.

    https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/DownloadDistValuesCacheBehavior.html
    """
    patterns = [(pattern, behavior["TargetOriginId"]) for _, pattern, behavior in _behaviors(template)]
    before = patterns[: patterns.index(("/i/*", "locator"))] if ("/i/*", "locator") in patterns else []
    return [
        f"a rendition in {image_format.extension} under i/ is taken for a stable address"
        for image_format in OUTPUT_FORMATS.values()
        if (f"/i/*.{image_format.extension}", "renditions") not in before
    ]


def function_urls_are_for_our_distribution_alone(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-restricting-access-to-lambda.html"""
    findings = []
    for name, values in properties(template, FUNCTION).items():
        if "FunctionUrlConfig" not in values:
            continue
        if values["FunctionUrlConfig"].get("AuthType") != "AWS_IAM":
            findings.append(f"{name} has a URL for everybody")
        permissions = [v for v in properties(template, PERMISSION).values() if target(v["FunctionName"]) == name]
        if any(v.get("SourceArn") != _OUR_DISTRIBUTION for v in permissions):
            findings.append(f"{name} may be called by more than our distribution")
        if {v["Action"] for v in permissions} != {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}:
            findings.append(f"{name} may not be called by its URL")
    return findings


# Topics and secrets


def secrets_are_generated_or_filled_by_hand(template: Template) -> list[str]:
    """A value in the template, in a parameter or in a variable is one that can be read there.

    Only a broker takes its users when it is made, from a secret.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/security-best-practices.html
    """
    stated = [
        f"{name} has a value in the template"
        for name, values in properties(template, SECRET).items()
        if "SecretString" in values
        or json.loads(values.get("GenerateSecretString", {}).get("SecretStringTemplate", "{}")).keys() - {"username"}
    ]
    taken = [f"{name} takes a secret" for name, parameter in template["Parameters"].items() if "NoEcho" in parameter]
    resolved = [
        f"{name} holds a resolved secret"
        for name, resource in template["Resources"].items()
        for key, value in {**resource.get("Properties", {}), "Metadata": resource.get("Metadata")}.items()
        if re.search("{{resolve:(secretsmanager|ssm-secure):", json.dumps(value))
        and (resource["Type"], key) != (BROKER, "Users")
    ]
    return stated + taken + resolved


# Queues and functions


def functions_know_after_how_many_attempts_their_queue_gives_up(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html"""
    findings = []
    for function, queue, _ in sqs_mappings(template):
        believed = _environment(template, function).get("MAX_RECEIVES")
        actual = properties(template, QUEUE)[queue].get("RedrivePolicy", {}).get("maxReceiveCount")
        if believed is not None and str(believed) != str(actual):
            findings.append(f"{function} expects {believed} attempts, {queue} makes {actual}")
    return findings


def functions_name_the_messages_that_failed(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html"""
    return [
        f"{function} answers {queue} for the whole batch"
        for function, queue, mapping in sqs_mappings(template)
        if mapping.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]
    ]


def queues_limit_how_many_functions_they_run(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html"""
    findings = []
    for function, queue, mapping in sqs_mappings(template):
        most = mapping.get("ScalingConfig", {}).get("MaximumConcurrency")
        parameter = template["Parameters"].get(target(most), {})
        lowest, highest = parameter.get("MinValue", most), parameter.get("MaxValue", most)
        if not (isinstance(lowest, int) and isinstance(highest, int) and 2 <= lowest <= highest <= 1000):
            findings.append(f"{queue} runs {function} up to {lowest} to {highest} times at once, not 2 to 1000")
    return findings


# RabbitMQ


def brokers_are_made_when_asked_for(template: Template) -> list[str]:
    """They are paid by the hour.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/conditions-section-structure.html
    """
    of_brokers = [*properties(template, BROKER), *(name for name, _, _ in mq_mappings(template))]
    return [f"{name} is there by default" for name in of_brokers if exists(template, name)]


def brokers_are_closed_by_default(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/amazon-mq/latest/developer-guide/using-amazon-mq-securely.html"""
    return [
        f"{name} is open to the public by default"
        for name, values in properties(template, BROKER).items()
        if template["Parameters"].get(target(values.get("PubliclyAccessible")), {}).get("Default") != "false"
    ]


def brokers_have_a_name_that_fits(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/amazon-mq/latest/api-reference/brokers.html"""
    return [
        f"{name} has a name longer than 50 characters"
        for name, values in properties(template, BROKER).items()
        if sum(36 if part == _STACK_UUID else len(part) for part in values["BrokerName"]["Fn::Join"][1]) > 49
    ]


def brokers_take_their_user_from_a_generated_secret(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-amazonmq-broker-user.html"""
    findings = []
    for name, values in properties(template, BROKER).items():
        text = values["Users"][0].get("Password", {}).get("Fn::Sub", "")
        found = re.fullmatch(r"{{resolve:secretsmanager:\$\{(\w+)}:SecretString:password}}", text)
        secret = found[1] if found else ""
        user = {
            key.title(): {"Fn::Sub": f"{{{{resolve:secretsmanager:${{{secret}}}:SecretString:{key}}}}}"}
            for key in ("username", "password")
        }
        if values["Users"] != [user]:
            findings.append(f"{name} does not take its one user from a secret")
            continue
        made = properties(template, SECRET).get(secret, {}).get("GenerateSecretString", {})
        if made.get("GenerateStringKey") != "password" or "username" not in made.get("SecretStringTemplate", ""):
            findings.append(f"{secret} does not generate the password")
        if made.get("ExcludePunctuation") is not True or not 12 <= made.get("PasswordLength", 32) <= 250:
            findings.append(f"{secret} generates passwords that {name} may refuse")
    return findings


def functions_have_a_route_for_every_queue_that_is_read_for_them(template: Template) -> list[str]:
    """A queue is by default called what it brings.

    https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html
    """
    findings = []
    for function in sorted({function for _, function, _ in mq_mappings(template)}):
        routes = json.loads(
            template["Resources"][function]["Properties"]["Environment"]["Variables"]["ROUTES"]["Fn::Sub"]
        )
        read = {
            f"${{{target(values['Queues'][0])}}}::${{{target(access_of(values, 'VIRTUAL_HOST'))}}}"
            for _, of, values in mq_mappings(template)
            if of == function
        }
        findings += [f"{function} has no route for {source}" for source in sorted(read - routes.keys())]
        findings += [
            f"{function} has a route for {source}, which is not read" for source in sorted(routes.keys() - read)
        ]
        findings += [
            f"{function} goes from {parameter} to {to}"
            for source, to in routes.items()
            for parameter in re.findall(r"^\${(\w+)}::", source)
            if template["Parameters"][parameter]["Default"] != to
        ]
    return findings


def functions_may_read_their_broker(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html"""
    findings = []
    for name, function, values in mq_mappings(template):
        role = role_of(properties(template, FUNCTION)[function])
        on = {
            "mq:DescribeBroker": values["EventSourceArn"],
            "secretsmanager:GetSecretValue": access_of(values, "BASIC_AUTH"),
        }
        allowed = {
            action
            for statement in role_statements(template, role)
            for action in listed(statement["Action"])
            if action not in on or statement["Resource"] == on[action]
        }
        findings += [f"{name} lacks {action}" for action in sorted(_DONE_BY_LAMBDA_FOR_BROKERS - allowed)]
        findings += [
            f"{name} does not wait for {policy}"
            for policy in policies_apart(template, role)
            if policy not in listed(template["Resources"][name].get("DependsOn", []))
        ]
    return findings


def immutable_settings_of_broker_mappings_are_guarded(template: Template) -> list[str]:
    """Lambda's update of a mapping takes no queue, no virtual host, and no empty batch window.

    https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html
    """
    guards = [r["Properties"] for r in template["Resources"].values() if r["Type"] == GUARD]
    guarded = [value for guard in guards for value in guard["Mapping"]]
    findings = []
    for name, _, values in mq_mappings(template):
        kept = [*values["Queues"], *(access["URI"] for access in values["SourceAccessConfigurations"])]
        findings += [f"{name} may change {target(either(v)[0])} unnoticed" for v in kept if v not in guarded]
        window = values.get("MaximumBatchingWindowInSeconds", {}).get("Fn::If", [None])[0]
        if not any(isinstance(value, dict) and value.get("Fn::If", [""])[0] == window for value in guarded):
            findings.append(f"{name} may lose its batch window unnoticed")
        reads = [guard["Reads"] for guard in guards]
        if exists(template, name, _READ | {target(value) or "": "false" for value in reads}):
            findings.append(f"{name} is there while nothing is read")
    return findings


# Buckets


def buckets_drop_unfinished_uploads(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpu-abort-incomplete-mpu-lifecycle-config.html"""
    return [
        f"{name} keeps the parts of unfinished uploads"
        for name in properties(template, BUCKET)
        if not any("AbortIncompleteMultipartUpload" in rule for rule in _lifecycle(template, name))
    ]


def only_renditions_that_the_function_tagged_expire(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html"""
    code = (ROOT / "functions/process_image/s3.py").read_text()
    found = re.search(r"^_STALE = (\{.*\})$", code, re.MULTILINE)
    tags = [{"Key": key, "Value": value} for key, value in ast.literal_eval(found[1]).items()] if found else None
    expiring = [
        (bucket, rule)
        for bucket in properties(template, BUCKET)
        for rule in _lifecycle(template, bucket)
        if rule.keys() & {"ExpirationInDays", "ExpirationDate"}
    ]
    findings = [
        f"{bucket} expires objects that s3.py did not tag: rule {rule['Id']}"
        for bucket, rule in expiring
        if rule.get("TagFilters") != tags
    ]
    if "RenditionsBucket" not in dict(expiring):
        findings.append("RenditionsBucket keeps stale renditions forever")
    return findings


_DELETIONS = ("s3:ObjectRemoved:*", "s3:LifecycleExpiration:*")


def every_spelling_of_an_image_suffix_is_a_task_once(template: Template) -> list[str]:
    """So is every deletion, under whatever name.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
    """
    expected = set(KEY_SUFFIXES)
    findings = []
    for bucket, queues in _notified_queues(template).items():
        rules = properties(template, BUCKET)[bucket]["NotificationConfiguration"]["QueueConfigurations"]
        seen: Counter[str] = Counter()
        deletions: Counter[str] = Counter()
        for rule in rules:
            match rule:
                case {
                    "Event": "s3:ObjectCreated:*",
                    "Filter": {"S3Key": {"Rules": [{"Name": "suffix", "Value": str(suffix)}]}},
                }:
                    seen[suffix] += 1
                case {"Event": str(deletion)} if deletion in _DELETIONS and "Filter" not in rule:
                    deletions[deletion] += 1
                case _:
                    findings.append(f"{bucket} has a notification that is not of one suffix's created objects")
        findings += [f"{bucket} does not announce {event}" for event in _DELETIONS if not deletions[event]]
        findings += [f"{bucket} does not announce {suffix}" for suffix in sorted(expected - seen.keys())]
        findings += [f"{bucket} announces {suffix}" for suffix in sorted(seen.keys() - expected)]
        findings += [f"{bucket} announces {suffix} {times} times" for suffix, times in seen.items() if times > 1]
        findings += [f"{bucket} announces to {queue}" for queue in sorted(queues - {"ImageTasksQueue"})]
    return findings


def existing_buckets_announce_images_and_deletions(template: Template) -> list[str]:
    """By EventBridge, whose filter knows every spelling of a suffix.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
    """
    names = {"name": {"Ref": "ExistingUploadsBuckets"}}
    suffixes = [{"suffix": {"equals-ignore-case": each}} for each in dict.fromkeys(map(str.lower, KEY_SUFFIXES))]
    wanted = {"Object Created": {"bucket": names, "object": {"key": suffixes}}, "Object Deleted": {"bucket": names}}
    findings = []
    for name, values in properties(template, EVENT_RULE).items():
        pattern = values["EventPattern"]
        (kind,) = pattern["detail-type"]
        if (pattern["source"], pattern["detail"]) != (["aws.s3"], wanted.pop(kind, None)):
            findings.append(f"{name} does not announce exactly what it should of existing buckets")
        if _targets(values) != {"ImageTasksQueue"}:
            findings.append(f"{name} does not announce to ImageTasksQueue alone")
    return findings + [f"existing buckets do not announce: {kind}" for kind in wanted]


# Functions and layers


def functions_keep_their_import_path_in_lambda(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html"""
    return [
        f"{name} has no handler at {values['Handler']}"
        for name, values in properties(template, FUNCTION).items()
        if values["Handler"] != f"{values['CodeUri'].replace('/', '.')}app.lambda_handler"
        or f"{FUNCTIONS.get(name)}/" != values["CodeUri"]
        or not (ROOT / values["CodeUri"] / "app.py").exists()
    ]


def functions_and_layers_follow_the_runtime_parameters(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html"""
    runtime, architecture = {"Ref": "PythonRuntime"}, {"Ref": "Architecture"}
    functions = [
        f"{name} has a runtime or an architecture of its own"
        for name, values in properties(template, FUNCTION).items()
        if (values.get("Runtime"), values.get("Architectures")) != (runtime, [architecture])
    ]
    layers = [
        f"{name} has a runtime or an architecture of its own"
        for name, values in properties(template, LAYER).items()
        if (values.get("CompatibleRuntimes"), values.get("CompatibleArchitectures")) != ([runtime], [architecture])
        or template["Resources"][name]["Metadata"]["BuildArchitecture"] != architecture
    ]
    return functions + layers


def functions_and_layers_are_built_by_bundle(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/building-custom-runtimes.html"""
    wanted = ("makefile", {"Fn::Sub": "bundle/${PythonRuntime}/${Architecture}"})
    return [
        f"{name} is not built by bundle/ for its runtime and architecture"
        for name in (*properties(template, FUNCTION), *properties(template, LAYER))
        for metadata in [template["Resources"][name].get("Metadata", {})]
        if (metadata.get("BuildMethod"), metadata.get("ContextPath")) != wanted
    ]


def layers_are_those_of_the_template(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html"""
    layers = properties(template, LAYER)
    used = [(name, layer) for name, v in properties(template, FUNCTION).items() for layer in v.get("Layers", [])]
    foreign = [
        f"{name} uses a layer from elsewhere"
        for name, layer in used
        if not (layer.keys() == {"Ref"} and layer["Ref"] in layers)
    ]
    return foreign + [f"{name} is used by no function" for name in layers if {"Ref": name} not in [x for _, x in used]]


def functions_get_exactly_what_their_settings_read(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
    findings = []
    for name, values in properties(template, FUNCTION).items():
        settings = import_module(f"{values['CodeUri'].replace('/', '.')}settings").Settings
        read = {variable for variable in settings.variables() if not variable.startswith("AWS_")}  # set by Lambda
        told = {key for key in _environment(template, name) if not key.startswith("POWERTOOLS_")}
        findings += [f"{name} does not get {key}" for key in sorted(read - told)]
        findings += [f"{name} gets {key}, which it does not read" for key in sorted(told - read)]
    return findings


# Versions and their rollout


def versions_follow_all_that_a_function_is_made_of(template: Template) -> list[str]:
    """SAM compares the template's text, and layers only where they say so.

    So a parameter's new value makes no version by itself, but a version's description with another value does.

    https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-resource-function.html
    """
    findings = []
    layers = properties(template, LAYER)
    for name, values in _published(template).items():
        if values.get("AutoPublishAliasAllProperties") is not True:
            findings.append(f"{name} is published for its code alone")
        findings += [
            f"{name} is not published with {layer}"
            for layer in map(target, values.get("Layers", []))
            if layers.get(layer or "", {}).get("PublishLambdaVersion") is not True
        ]
        made_of = {key: value for key, value in values.items() if key not in ("Events", "DeploymentPreference")}
        described = _refs(made_of.pop("VersionDescription", {}))
        unseen = (_refs(made_of) & template["Parameters"].keys()) - described
        findings += [f"{name} is not published for {parameter}" for parameter in sorted(unseen)]
    return findings


def versions_roll_out_gradually_behind_alarms(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/automating-updates-to-serverless-apps.html"""
    findings = []
    for name, values in _published(template).items():
        preference = values.get("DeploymentPreference", {})
        switch = template["Parameters"].get(target(preference.get("Enabled")), {})
        if (switch.get("Default"), switch.get("AllowedValues")) != ("true", ["true", "false"]):
            findings.append(f"{name} rolls out at once, or cannot")
        if not str(preference.get("Type")).startswith(("Canary", "Linear")):
            findings.append(f"{name} rolls out by {preference.get('Type')}")
        watched = {target(alarm) for alarm in preference.get("Alarms", [])}
        of_function = {alarm for alarm in properties(template, ALARM) if _blames_release(template, alarm, name)}
        if not of_function or watched != of_function:
            findings.append(f"{name} rolls out watched by {', '.join(sorted(map(str, watched))) or 'no alarm'}")
    return findings


def rollouts_have_a_role_that_moves_their_alias_alone(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSCodeDeployRoleForLambdaLimited.html"""
    findings = []
    for name, values in _published(template).items():
        match values.get("DeploymentPreference", {}).get("Role"):
            case {"Fn::If": [str(condition), {"Fn::GetAtt": [str(role), "Arn"]}, {"Ref": "AWS::NoValue"}]} if (
                template["Resources"].get(role, {}).get("Condition") == condition
            ):
                pass
            case _:
                findings.append(f"{name} rolls out by no role of the template")
                continue
        alias = [{"Fn::GetAtt": [name, "Arn"]}, {"Fn::Sub": f"${{{name}.Arn}}:{values['AutoPublishAlias']}"}]
        allowed = {a: listed(s["Resource"]) for s in role_statements(template, role) for a in listed(s["Action"])}
        needed = dict.fromkeys(
            ("lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetProvisionedConcurrencyConfig"), alias
        )
        if allowed != needed | {"cloudwatch:DescribeAlarms": ["*"]}:
            findings.append(f"{role} does not move exactly the alias of {name}")
        trust = properties(template, ROLE)[role]["AssumeRolePolicyDocument"]["Statement"]
        for_us = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
        if [(s["Principal"], s.get("Condition")) for s in trust] != [({"Service": "codedeploy.amazonaws.com"}, for_us)]:
            findings.append(f"{role} may be taken by more than this account's CodeDeploy")
    return findings


# APIs


def methods_know_who_calls_and_on_whose_quota(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/permissions.html"""
    findings = []
    for api, method, operation in operations(template):
        schemes = properties(template, API)[api]["DefinitionBody"]["components"]["securitySchemes"]
        signed = [name for name, s in schemes.items() if s.get("x-amazon-apigateway-authtype") == "awsSigv4"]
        metered = [name for name, scheme in schemes.items() if scheme["name"] == "x-api-key"]
        # In one requirement: those of a list are alternatives.
        if operation.get("security") != [{name: [] for name in (*signed, *metered)}] or not (signed and metered):
            findings.append(f"{method} may be called unsigned or unmetered")
    return findings


def methods_check_requests_first(template: Template) -> list[str]:
    """A body of a type that no model is for would pass unchecked.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-method-request-validation.html
    """
    findings = []
    both = {"validateRequestBody": True, "validateRequestParameters": True}
    for api, values in properties(template, API).items():
        body = values["DefinitionBody"]
        chosen = body.get("x-amazon-apigateway-request-validator")
        if body.get("x-amazon-apigateway-request-validators", {}).get(chosen) != both:
            findings.append(f"{api} does not check bodies and parameters")
    for _, method, operation in operations(template):
        if "x-amazon-apigateway-request-validator" in operation:
            findings.append(f"{method} has a validator of its own")
        integration = integration_of(operation)
        if integration.get("type") == "aws_proxy":
            pass  # a function gets all that was sent, and checks it
        elif integration.get("passthroughBehavior") != "never" or not integration.get("requestTemplates"):
            findings.append(f"{method} passes bodies on that no template has made")
        content = operation.get("requestBody", {}).get("content", {})
        if method.startswith("POST") and "schema" not in content.get("application/json", {}):
            findings.append(f"{method} takes any body")
    return findings


def paths_answer_every_method(template: Template) -> list[str]:
    """Known ones with what they do, others with those that are allowed.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/how-to-mock-integration.html
    """
    findings = []
    for api, values in properties(template, API).items():
        paths = values["DefinitionBody"]["paths"]
        findings += [f"{api} does not answer {path}" for path in ("/", "/{proxy+}") if path not in paths]
        for path, methods in paths.items():
            other = integration_of(methods.get("x-amazon-apigateway-any-method", {}))
            allowed = ", ".join(
                sorted(map(str.upper, methods.keys() - {"x-amazon-apigateway-any-method"}), reverse=True)
            )
            answer = other.get("responses", {}).get("default", {})
            stated = answer.get("responseParameters", {}).get("method.response.header.Allow", "''").strip("'")
            if other.get("type") != "mock" or stated != allowed:
                findings.append(f"{path} does not refuse other methods than {allowed or 'none'}")
    return findings


def methods_call_queues_under_a_role_for_just_that(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html#grant-least-privilege"""
    used: dict[str, set[tuple[str, str]]] = {}
    for _, _, operation in operations(template):
        integration = integration_of(operation)
        if queue := queue_of(integration):
            action = re.search(r"\bAction=(\w+)", json.dumps(integration.get("requestTemplates")))
            does = f"sqs:{action[1]}" if action else "nothing"
            used.setdefault(target(integration.get("credentials")) or "no role", set()).add((does, queue))
    findings = []
    for role, calls in used.items():
        if len({(queue, action == "sqs:SendMessage") for action, queue in calls}) > 1:
            findings.append(f"{role} is for more than one queue or direction")
        allowed = {
            (action, target(resource) or "")
            for statement in role_statements(template, role)
            for action in listed(statement["Action"])
            for resource in listed(statement["Resource"])
        }
        findings += [f"{role} does not allow {action} on {queue}" for action, queue in sorted(calls - allowed)]
        findings += [f"{role} allows {action} on {queue}" for action, queue in sorted(allowed - calls)]
        trusted = [s["Principal"] for s in _trust(template, role)]
        if trusted != [{"Service": "apigateway.amazonaws.com"}]:
            findings.append(f"{role} is not taken by API Gateway alone")
    return findings


def functions_behind_methods_let_that_api_alone_call_them(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html#apigateway-permissions"""
    called = {
        (found[1], api)
        for api, _, operation in operations(template)
        if (found := re.search(r"functions/\$\{(\w+)\.Arn\}", str(integration_of(operation).get("uri"))))
    }
    account = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}"
    allowed = {
        (target(values["FunctionName"]) or "", api)
        for values in properties(template, PERMISSION).values()
        for api in properties(template, API)
        if values["Principal"] == "apigateway.amazonaws.com"
        if values.get("SourceArn") == {"Fn::Sub": f"{account}:${{{api}}}/*"}
    }
    behind = {function for function, _ in called}
    everybody = [n for n, v in properties(template, PERMISSION).items() if target(v["FunctionName"]) in behind]
    findings = [f"{api} may not call {function}" for function, api in sorted(called - allowed)]
    if len(everybody) > len(called & allowed):
        findings.append(f"{', '.join(sorted(everybody))}: more may call than the API")
    return findings


def methods_encode_every_value_that_they_pass_on(template: Template) -> list[str]:
    """A value that is not encoded brings parameters of its own with it: another action, another queue.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-mapping-template-reference.html
    """
    findings = []
    directives = re.compile(
        r"#set\(\$query = \$input\.params\(\)\.querystring\)|#if\(\$query\.get\('\w+'\)\)|#end"
        r"|#set\(\$most = (?:\$query\.get\('MaxNumberOfMessages'\)|'\d')\)"
        r"|#if\((?:\$most(?: == '\d+')?(?: \|\| )?)+\)"
    )
    value = re.compile(
        r"(\w+)=\$util\.urlEncode\((?:(?:\$query|\$input\.params\(\)\.querystring)\.get\('(\w+)'\)|\$most)\)"
    )
    for _, method, operation in operations(template):
        integration = integration_of(operation)
        if queue_of(integration) is None:
            continue
        names = {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
        handed_on: set[str] = set()
        templates = integration.get("requestTemplates", {}).values()
        for part in [p for text in templates for p in directives.sub("", text).split("&")]:
            if found := value.fullmatch(part):
                handed_on |= {found[1]} if found[1] == (found[2] or "MaxNumberOfMessages") else {part}
            elif not re.fullmatch(r"Action=\w+|MessageBody=\$util\.urlEncode\(\$input\.body\)", part):
                handed_on.add(part)
        handed_on |= integration.get("requestParameters", {}).keys() - {"integration.request.header.Content-Type"}
        if handed_on != names:
            findings.append(f"{method} does not pass exactly {', '.join(sorted(names)) or 'nothing'}, encoded")
    return findings


def methods_answer_as_documented_and_errors_in_one_shape(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-gatewayResponse-definition.html"""
    findings = []
    for api, values in properties(template, API).items():
        gateway = values["DefinitionBody"].get("x-amazon-apigateway-gateway-responses", {})
        findings += [f"{api} has no {kind}" for kind in ("DEFAULT_4XX", "DEFAULT_5XX") if kind not in gateway]
        findings += [f"{kind} has another shape" for kind, answer in gateway.items() if not _is_error(answer)]
    for _, method, operation in operations(template):
        answers = integration_of(operation).get("responses", {})
        if "default" not in answers and integration_of(operation).get("type") != "aws_proxy":
            findings.append(f"{method} answers what it does not know with a bare 500")
        for answer in answers.values():
            if answer["statusCode"] not in operation.get("responses", {}):
                findings.append(f"{method} does not document {answer['statusCode']}")
            if answer["statusCode"] >= "400" and not _is_error(answer):
                findings.append(f"{method} answers {answer['statusCode']} in another shape")
    return findings


def apis_are_throttled_and_metered(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-request-throttling.html"""
    findings = []
    for api, values in properties(template, API).items():
        limits = {"ThrottlingRateLimit", "ThrottlingBurstLimit"}
        if not any(
            (setting.get("ResourcePath"), setting.get("HttpMethod")) == ("/*", "*") and limits <= setting.keys()
            for setting in values.get("MethodSettings", [])
        ):
            findings.append(f"{api} takes any number of requests")
        if not any(
            "Limit" in plan.get("Quota", {}) and {"RateLimit", "BurstLimit"} <= plan.get("Throttle", {}).keys()
            for plan in properties(template, USAGE_PLAN).values()
            if api in [target(stage["ApiId"]) for stage in plan.get("ApiStages", [])]
        ):
            findings.append(f"{api} has no usage plan with a quota")
    return findings


def apis_log_no_content(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html"""
    return [
        f"{api} logs {key}"
        for api, values in properties(template, API).items()
        for key, value in json.loads(values["AccessLogSetting"]["Format"]).items()
        if re.search("body|querystring|header", value)
    ]


# Permissions


def roles_name_their_resources(template: Template) -> list[str]:
    """Only what knows no resource may stand with `*`, alone.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsx-ray.html
    """
    findings = []
    for role in properties(template, ROLE):
        for statement in role_statements(template, role):
            actions, resources = listed(statement["Action"]), listed(statement["Resource"])
            known = template["Resources"].keys() | template["Parameters"].keys()
            each = [one for resource in resources for one in either(resource)]
            named = all(target(one) in known or _each_bucket_of(one) in known for one in each)
            kinds = [
                {"Fn::Sub": f"arn:${{AWS::Partition}}:ec2:${{AWS::Region}}:${{AWS::AccountId}}:{kind}/*"}
                for kind in _KINDS_OF_RESOURCE.get(actions[0], [])
            ]
            of_a_kind = len(actions) == 1 and resources == kinds
            if not (named or of_a_kind) and not set(actions) <= _WITHOUT_RESOURCE:
                findings.append(f"{role} does not name the resources of {statement.get('Sid')}")
    return findings


def producers_may_only_upload_and_read(template: Template) -> list[str]:
    """And nothing else. S3 uses the key of the uploads for them.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
    """
    wanted = {
        (action, resource)
        for resource, actions in {
            "UploadsBucket": ["s3:PutObject"],
            "UploadsKmsKeyArn": ["kms:GenerateDataKey", "kms:Decrypt"],
            "RenditionsBucket": ["s3:GetObject"],
            "ImagesTable": ["dynamodb:GetItem", "dynamodb:BatchGetItem"],
        }.items()
        for action in actions
    }
    findings = []
    for name, values in properties(template, MANAGED_POLICY).items():
        statements = values["PolicyDocument"]["Statement"]
        given = {
            (action, target(resource) or str(resource))
            for statement in statements
            if statement["Effect"] == "Allow"
            for action in listed(statement["Action"])
            for resource in listed(statement["Resource"])
        }
        findings += [f"{name} allows {action} on {resource}" for action, resource in sorted(given - wanted)]
        findings += [f"{name} does not allow {action} on {resource}" for action, resource in sorted(wanted - given)]
        findings += [f"{name} lends the key to more than S3" for s in _of_the_key(statements) if not _is_by_s3(s)]
    return findings


def roles_lend_no_function_the_network(template: Template) -> list[str]:
    """Lambda takes what it needs for a function's network before the function runs; its code needs none of it.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-best-practice
    """
    findings = []
    for name, values in properties(template, POLICY).items():
        statements = values["PolicyDocument"]["Statement"]
        network = {a for s in statements if s["Effect"] == "Allow" for a in listed(s["Action"]) if a.startswith("ec2:")}
        roles = {target(role) for role in values["Roles"]}
        theirs = [f for f, v in properties(template, FUNCTION).items() if role_of(v) in roles]
        denied = {
            action
            for s in statements
            if s["Effect"] == "Deny" and s["Resource"] == "*"
            if s.get("Condition") == {"ArnEquals": {"lambda:SourceFunctionArn": {"Fn::GetAtt": [*theirs, "Arn"]}}}
            for action in listed(s["Action"])
        }
        findings += [f"{name} lends {', '.join(theirs)} {action}" for action in sorted(network - denied)]
    return findings


def roles_are_taken_by_one_service(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html"""
    of_functions = {role_of(values) for values in properties(template, FUNCTION).values()}
    findings = []
    for name, values in properties(template, ROLE).items():
        for statement in listed(values["AssumeRolePolicyDocument"]["Statement"]):
            match statement["Principal"]:
                case {"Service": str(service), **others} if not others and (
                    service == "lambda.amazonaws.com" or name not in of_functions
                ):
                    pass
                case principal:
                    findings.append(f"{name} may be taken by {json.dumps(principal)}")
    return findings


def roles_allow_only_what_is_done(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html#grant-least-privilege"""
    return [
        f"{role_of(values)} allows {action}, which {function} does not do"
        for function, values in properties(template, FUNCTION).items()
        for statement in role_statements(template, role_of(values))
        for action in listed(statement["Action"])
        if action not in _done_by_lambda(template, function) and not _does(code_of(values), action)
        if not _is_by_s3(statement)
    ]


def roles_allow_all_that_is_done(template: Template) -> list[str]:
    """By the function's code, and by Lambda for it: it writes logs, sends traces and polls queues.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
    """
    findings = []
    polling = [function for function, _, _ in sqs_mappings(template)]
    for function, values in properties(template, FUNCTION).items():
        own_code = "".join(file.read_text() for file in (ROOT / values["CodeUri"]).rglob("*.py"))
        done = {action for action in _DONE_BY_CODE if _does(own_code, action)}
        done |= {a for a in _DONE_BY_LAMBDA if not a.startswith("sqs:") or function in polling}
        allowed = {a for s in role_statements(template, role_of(values)) for a in listed(s["Action"])}
        findings += [
            f"{role_of(values)} does not allow {action}, which {function} does" for action in sorted(done - allowed)
        ]
    return findings


def roles_reach_exactly_what_their_function_uses(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html#grant-least-privilege"""
    findings = []
    for function, values in properties(template, FUNCTION).items():
        told = {target(value) for value in _environment(template, function).values()} & template["Resources"].keys()
        polled = {queue for name, queue, _ in sqs_mappings(template) if name == function}
        for _, name, mapping in mq_mappings(template):
            access = [*either(mapping["EventSourceArn"]), *either(access_of(mapping, "BASIC_AUTH"))]
            polled |= {target(value) or "" for value in access if name == function}
        logs = {target(values.get("LoggingConfig", {}).get("LogGroup"))}
        statements = role_statements(template, role_of(values))
        reached = {
            target(one) for s in statements if not _is_by_s3(s) for r in listed(s["Resource"]) for one in either(r)
        } - {None}
        needed = told | polled | logs if function not in [of for _, of, _ in mq_mappings(template)] else told | logs
        findings += [f"{function} may not reach {name}" for name in sorted(map(str, needed - reached))]
        findings += [f"{function} may reach {name}" for name in sorted(map(str, reached - told - polled - logs))]
    return findings


# Tables


def tasks_expire_by_the_attribute_that_the_code_writes(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html"""
    code = (ROOT / "functions/process_image/tasks_table.py").read_text()
    written = set(re.findall(r"(\w+) = :expires_at\b", code))
    expiry = properties(template, TABLE)["TasksTable"].get("TimeToLiveSpecification", {})
    if expiry.get("Enabled") is True and {expiry.get("AttributeName")} == written:
        return []
    return [f"TasksTable expires by {expiry.get('AttributeName')}, the code writes {', '.join(sorted(written))}"]


def tasks_are_remembered_longer_than_a_message_can_wait(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html"""
    shortest = template["Parameters"]["TaskRetentionDays"]["MinValue"]
    longest = properties(template, QUEUE)["ImageTasksQueue"]["MessageRetentionPeriod"] / 86_400
    return [] if shortest > longest else [f"TaskRetentionDays may be {shortest}, a message may wait {longest:g} days"]


def finished_orders_are_remembered_longer_than_their_messages(template: Template) -> list[str]:
    """A forgotten order whose message comes once more would be charged again, also after a redrive.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html
    """
    expiry = properties(template, TABLE)["OrdersTable"].get("TimeToLiveSpecification", {})
    written = re.findall(
        r'values\["(\w+)"\] = expires_at', (ROOT / "functions/process_order/orders_table.py").read_text()
    )
    findings = []
    if (expiry.get("Enabled"), [expiry.get("AttributeName")]) != (True, written):
        findings += [f"OrdersTable expires by {expiry.get('AttributeName')}, the code writes {', '.join(written)}"]
    allowed = template["Parameters"]["OrderRetentionDays"]["AllowedPattern"]
    shortest = next(days for days in range(10_000) if re.fullmatch(allowed, str(days)))
    queues = [properties(template, QUEUE)[name] for name in ("OrderQueue", "OrderDeadLetterQueue")]
    longest = 2 * sum(queue["MessageRetentionPeriod"] for queue in queues) / 86_400
    if shortest <= longest:
        findings += [f"OrderRetentionDays may be {shortest}; a message may wait {longest:g} days, with one redrive"]
    return findings


# What stays when the stack goes


def irreplaceable_resources_are_retained(template: Template) -> list[str]:
    """Buckets, dead-letter queues, brokers with their passwords, and tables that hold more than finished tasks.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-updatereplacepolicy.html
    """
    lasting = properties(template, TABLE).keys() - {"TasksTable"}
    generated = [name for name, v in properties(template, SECRET).items() if "GenerateSecretString" in v]
    brokers = [*properties(template, BROKER), *generated]
    kept = [*properties(template, BUCKET), *dead_letter_queues(template), *brokers, *sorted(lasting)]
    return [
        f"{name} is not retained by its {policy}"
        for name in kept
        for policy in ("DeletionPolicy", "UpdateReplacePolicy")
        if template["Resources"].get(name, {}).get(policy) not in _RETAINED
    ]


# Parameters, names, outputs


def parameters_are_described_and_bounded(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html"""
    findings = []
    for name, parameter in template["Parameters"].items():
        if not parameter.get("Description"):
            findings.append(f"{name} has no description")
        if not (parameter.keys() & {"AllowedValues", "AllowedPattern"} or {"MinValue", "MaxValue"} <= parameter.keys()):
            findings.append(f"{name} takes any value")
    return findings


def parameters_are_used(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html"""
    sections = ("Globals", "Conditions", "Resources", "Outputs")
    text = json.dumps([template.get(section) for section in sections])
    return [
        f"{name} is not used"
        for name in template["Parameters"]
        if f'{{"Ref": "{name}"}}' not in text and f"${{{name}}}" not in text
    ]


def names_have_a_reason_and_are_the_stacks_own(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-name.html"""
    findings = []
    for kind, key in _NAME_PROPERTIES.items():
        for resource, values in properties(template, kind).items():
            if key not in values:
                continue
            if resource not in _NAMED and kind != LAYER:
                findings.append(f"{resource} has a {key} without a reason")
            match values[key]:
                case {"Fn::Join": ["-", [*parts]]} if _STACK_UUID in parts:
                    pass
                case {"Fn::Sub": str(text)} if kind == LAYER and text.startswith("${AWS::StackName}-"):
                    pass  # a layer's versions are only ever added to
                case _:
                    findings.append(f"{resource}'s {key} does not hold the stack's whole id")
    return findings


# What several rules ask


def _most(template: Template, value: Any) -> int:
    most: int = template["Parameters"][target(value)]["MaxValue"] if isinstance(value, dict) else value
    return most


def _denies_plain_http(statement: dict[str, object], action: str) -> bool:
    over_http = {"aws:SecureTransport": "false"}
    # An AWS service's own call may carry no trace of its transport, and services speak TLS among themselves:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
    conditions = ({"Bool": over_http}, {"Bool": over_http | {"aws:PrincipalIsAWSService": "false"}})
    return (
        (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", action)
        and "Resource" in statement
        and statement.get("Condition") in conditions
    )


def _notified_queues(template: Template) -> dict[str, set[str]]:
    return {
        name: {target(rule["Queue"]) or "" for rule in values["NotificationConfiguration"]["QueueConfigurations"]}
        for name, values in properties(template, BUCKET).items()
        if "QueueConfigurations" in values.get("NotificationConfiguration", {})
    }


def _subscribed_queues(template: Template) -> list[tuple[str, str]]:
    """The topic and the queue of each subscription."""
    subscriptions = properties(template, SUBSCRIPTION).values()
    return [(target(v["TopicArn"]) or "", target(v["Endpoint"]) or "") for v in subscriptions if v["Protocol"] == "sqs"]


def _targets(rule: dict[str, Any]) -> set[str]:
    return {target(each["Arn"]) or "" for each in rule["Targets"]}


def _of_the_key(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [s for s in statements if any(action.startswith("kms:") for action in listed(s["Action"]))]


def _is_by_s3(statement: dict[str, Any]) -> bool:
    """Whether S3 alone can use a key for whom a statement allows it."""
    via = {"StringEquals": {"kms:ViaService": {"Fn::Sub": "s3.${AWS::Region}.${AWS::URLSuffix}"}}}
    return bool(_of_the_key([statement])) and statement.get("Condition") == via


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


def _behaviors(template: Template) -> list[tuple[str, str, dict[str, object]]]:
    """The distribution, the pattern and the settings of each behaviour, in the order in which they are tried."""
    return [
        (name, behavior.get("PathPattern", "*"), behavior)
        for name, values in properties(template, DISTRIBUTION).items()
        for config in [values["DistributionConfig"]]
        for behavior in [*config["CacheBehaviors"], config["DefaultCacheBehavior"]]
    ]


def _lifecycle(template: Template, bucket: str) -> list[dict[str, object]]:
    rules = properties(template, BUCKET)[bucket].get("LifecycleConfiguration", {}).get("Rules", [])
    return [rule for rule in rules if rule["Status"] == "Enabled"]


def _environment(template: Template, function: str) -> dict[str, object]:
    variables: dict[str, object] = properties(template, FUNCTION)[function].get("Environment", {}).get("Variables", {})
    return variables


def _published(template: Template) -> dict[str, dict[str, Any]]:
    return {name: values for name, values in properties(template, FUNCTION).items() if "AutoPublishAlias" in values}


def _refs(value: Any) -> set[str]:
    """All that the Refs and Subs in a value name."""
    text = json.dumps(value)
    return {first or second for first, second in re.findall(r'{"Ref": "([\w:]+)"}|\${(\w+)[.}]', text)}


def _blames_release(template: Template, alarm: str, function: str) -> bool:
    """Whether an alarm is about what a new version of a function may have brought."""
    values, of = properties(template, ALARM)[alarm], properties(template, FUNCTION)[function]
    told = _environment(template, function)
    match values.get("Namespace"), values.get("MetricName"):
        case "AWS/Lambda", "Errors":
            alias = {"Fn::Sub": f"${{{function}}}:{of['AutoPublishAlias']}"}
            wanted: dict[str, Any] = {"FunctionName": {"Ref": function}, "Resource": alias}
        case namespace, "Defects" if namespace == told.get("POWERTOOLS_METRICS_NAMESPACE"):
            wanted = {"service": told.get("POWERTOOLS_SERVICE_NAME")}
        case _:
            return False
    return {dimension["Name"]: dimension["Value"] for dimension in values["Dimensions"]} == wanted


def _done_by_lambda(template: Template, function: str) -> set[str]:
    reads_a_broker = function in [name for _, name, _ in mq_mappings(template)]
    return _DONE_BY_LAMBDA | (_DONE_BY_LAMBDA_FOR_BROKERS if reads_a_broker else set())


def _does(code: str, action: str) -> bool:
    return any(text in code for text in listed(_DONE_BY_CODE.get(action, [])))


def _trust(template: Template, role: str) -> list[dict[str, Any]]:
    document = properties(template, ROLE).get(role, {}).get("AssumeRolePolicyDocument", {})
    return listed(document.get("Statement", []))


def _is_error(answer: dict[str, Any]) -> bool:
    """Whether an answer's template makes {"error": {"code", "message", "allowed"?}}, whatever its variables hold."""
    text = answer.get("responseTemplates", {}).get("application/json", "")
    text = re.sub(r'"?(\$context\.error\.\w+|\$input\.json\([^)]*\))"?', '"x"', text)
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool({"code", "message"} <= error.keys() <= {"code", "message", "allowed"})
