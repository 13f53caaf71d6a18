"""Queues: how long they hide a message, into what they give up, who may send to them and what notifies them."""

from __future__ import annotations

import re
from typing import Any

from functions.process_image.formats import KEY_SUFFIXES
from tests.template.template import Findings, Template, arn_of_named, target

_LARGEST_MESSAGE, _LARGEST_REASON = 1_048_576, 8_192


def queues_suit_the_function_that_reads_them(template: Template) -> Findings:
    """A message stays hidden until its function has surely ended, and a failed one alone is received again.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
    """
    for function, name, mapping in template.sqs_mappings():
        queue = template.queues[name]
        hidden = queue.get("VisibilityTimeout", 30)
        needed = 6 * template.functions[function].get("Timeout", 3)
        needed += mapping.get("MaximumBatchingWindowInSeconds", 0)
        if hidden < needed:
            yield f"{name} hides a message for {hidden} s, {function} needs {needed} s"
        # A dead letter carries its reason as attributes, which count into its size.
        if queue.get("MaximumMessageSize", _LARGEST_MESSAGE) > _LARGEST_MESSAGE - _LARGEST_REASON:
            yield f"{name} takes messages that are too large to be moved to the dead-letter queue"
        believed = template.environment(function).get("MAX_RECEIVES")
        actual = queue.get("RedrivePolicy", {}).get("maxReceiveCount")
        if believed is not None and str(believed) != str(actual):
            yield f"{function} expects {believed} attempts, {name} makes {actual}"
        if mapping.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
            yield f"{function} answers {name} for the whole batch"
        at_once = mapping.get("ScalingConfig", {}).get("MaximumConcurrency")
        parameter = template["Parameters"].get(target(at_once), {})
        lowest, highest = parameter.get("MinValue", at_once), parameter.get("MaxValue", at_once)
        if not (isinstance(lowest, int) and isinstance(highest, int) and 2 <= lowest <= highest <= 1000):
            yield f"{name} runs {function} up to {lowest} to {highest} times at once, not 2 to 1000"


def queues_are_long_polled_and_give_up_into_a_dead_letter_queue_of_their_own(template: Template) -> Findings:
    """After five attempts or more.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
    """
    queues = template.queues
    for name, queue in template.source_queues().items():
        if (wait := queue.get("ReceiveMessageWaitTimeSeconds", 0)) != 10:
            yield f"{name} lets a receiver wait for {wait} s"
        redrive = queue.get("RedrivePolicy")
        if not redrive:
            yield f"{name} has no redrive policy"
        elif redrive["maxReceiveCount"] < 5:
            yield f"{name} gives up after {redrive['maxReceiveCount']} attempts"
    for name, sources in template.dead_letter_queues().items():
        arns = [arn_of_named("sqs:${AWS::Region}:${AWS::AccountId}", queues[one].get("QueueName")) for one in sources]
        by_queue = {"redrivePermission": "byQueue", "sourceQueueArns": arns}
        allowed = queues.get(name, {}).get("RedriveAllowPolicy")
        if allowed != (by_queue if sources else {"redrivePermission": "denyAll"}):
            yield f"{name} does not take from exactly {', '.join(sources) or 'no queue'}"


def queues_buckets_and_topics_have_one_policy_that_refuses_plain_http(template: Template) -> Findings:
    """A second policy would silently replace the first.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-security-best-practices.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
    """
    # An AWS service's own call may carry no trace of its transport, and services speak TLS among themselves:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
    over_http = {"aws:SecureTransport": "false"}
    conditions = [{"Bool": over_http}, {"Bool": over_http | {"aws:PrincipalIsAWSService": "false"}}]
    arns = {name: {"Fn::GetAtt": [name, "Arn"]} for name in (*template.queues, *template.buckets)}
    wanted: dict[str, tuple[str, Any]] = {name: ("sqs:*", arns[name]) for name in template.queues}
    wanted |= {name: ("s3:*", [arns[name], {"Fn::Sub": f"${{{name}.Arn}}/*"}]) for name in template.buckets}
    wanted |= {name: ("sns:Publish", {"Ref": name}) for name in template.topics}
    for name, (action, resource) in wanted.items():
        if (policies := len(template.policies_on(name))) != 1:
            yield f"{name} has {policies} policies"
        refusal = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": resource}
        statements = template.statements_on(name)
        if not any(refusal | {"Condition": condition} in statements for condition in conditions):
            yield f"{name} may be used without TLS"


def only_what_notifies_a_queue_may_send_to_it(template: Template) -> Findings:
    """S3 for the stack's own bucket, which waits for the policy; SNS for its topic, EventBridge for its rules.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/grant-destinations-permissions-to-s3.html
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-s3-bucket.html
    https://docs.aws.amazon.com/sns/latest/dg/subscribe-sqs-queue-to-sns-topic.html
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
    """
    buckets, rules, notified = template.buckets, template.event_rules, _notified_queues(template)
    for queue in template.queues:
        senders: dict[str, list[Any]] = {
            "s3": [
                arn_of_named("s3::", buckets[name].get("BucketName")) for name, to in notified.items() if queue in to
            ],
            "sns": [{"Ref": topic} for topic, to in _subscribed_queues(template) if to == queue],
            "events": [{"Fn::GetAtt": [name, "Arn"]} for name in rules if queue in _targets(rules[name])],
        }
        expected = [
            {
                "Effect": "Allow",
                "Principal": {"Service": f"{service}.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": {"Fn::GetAtt": [queue, "Arn"]},
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
                    "ArnEquals": {"aws:SourceArn": arns if len(arns) > 1 else arns[0]},
                },
            }
            for service, arns in senders.items()
            if arns
        ]
        if [s for s in template.statements_on(queue) if s["Effect"] == "Allow"] != expected:
            yield f"{queue} does not let exactly those send that notify it"
    for bucket, queues in notified.items():
        for policy in (policy for queue in queues for policy in template.policies_on(queue)):
            if policy not in template.waits_for(bucket):
                yield f"{bucket} does not wait for {policy}"


def every_spelling_of_an_image_suffix_is_a_task_once(template: Template) -> Findings:
    """So is every deletion, under whatever name.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
    """
    suffixes = [{"S3Key": {"Rules": [{"Name": "suffix", "Value": suffix}]}} for suffix in KEY_SUFFIXES]
    wanted: list[dict[str, Any]] = [{"Event": "s3:ObjectCreated:*", "Filter": suffix} for suffix in suffixes]
    wanted += [{"Event": "s3:ObjectRemoved:*"}, {"Event": "s3:LifecycleExpiration:*"}]
    for bucket in {"UploadsBucket"} | _notified_queues(template).keys():
        notifications = template.buckets[bucket].get("NotificationConfiguration", {}).get("QueueConfigurations", [])
        announced = [{key: value for key, value in one.items() if key != "Queue"} for one in notifications]
        yield from (f"{bucket} does not announce {_spoken(one)}" for one in wanted if one not in announced)
        yield from (f"{bucket} announces {_spoken(one)}" for one in announced if one not in wanted)
        yield from (
            f"{bucket} announces {_spoken(one)} again" for n, one in enumerate(announced) if one in announced[:n]
        )
        if {target(one["Queue"]) for one in notifications} - {"ImageTasksQueue"}:
            yield f"{bucket} does not announce to ImageTasksQueue alone"


def existing_buckets_announce_images_and_deletions(template: Template) -> Findings:
    """By EventBridge, whose filter knows every spelling of a suffix.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
    """
    names = {"name": {"Ref": "ExistingUploadsBuckets"}}
    suffixes = [{"suffix": {"equals-ignore-case": each}} for each in dict.fromkeys(map(str.lower, KEY_SUFFIXES))]
    wanted = {"Object Created": {"bucket": names, "object": {"key": suffixes}}, "Object Deleted": {"bucket": names}}
    for name, rule in template.event_rules.items():
        pattern = rule["EventPattern"]
        (kind,) = pattern["detail-type"]
        if (pattern["source"], pattern["detail"]) != (["aws.s3"], wanted.pop(kind, None)):
            yield f"{name} does not announce exactly what it should of existing buckets"
        if _targets(rule) != {"ImageTasksQueue"}:
            yield f"{name} does not announce to ImageTasksQueue alone"
    yield from (f"existing buckets do not announce: {kind}" for kind in wanted)


def _spoken(notification: dict[str, Any]) -> str:
    return " ".join([notification["Event"], *re.findall(r"'Value': '([^']+)'", str(notification))])


def _notified_queues(template: Template) -> dict[str, set[str]]:
    return {
        name: {target(rule["Queue"]) or "" for rule in values["NotificationConfiguration"]["QueueConfigurations"]}
        for name, values in template.buckets.items()
        if "QueueConfigurations" in values.get("NotificationConfiguration", {})
    }


def _subscribed_queues(template: Template) -> list[tuple[str, str]]:
    """The topic and the queue of each subscription."""
    subscriptions = template.subscriptions.values()
    return [(target(v["TopicArn"]) or "", target(v["Endpoint"]) or "") for v in subscriptions if v["Protocol"] == "sqs"]


def _targets(rule: dict[str, Any]) -> set[str]:
    return {target(each["Arn"]) or "" for each in rule["Targets"]}
