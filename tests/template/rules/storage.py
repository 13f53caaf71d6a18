"""Buckets, tables and queues: what expires, and what stays when the stack goes."""

from __future__ import annotations

import ast
import re

from tests.template.template import ROOT, Findings, Template

_RETAINED = ("Retain", "RetainExceptOnCreate")


def buckets_drop_unfinished_uploads_and_what_the_function_tagged(template: Template) -> Findings:
    """And no object besides.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpu-abort-incomplete-mpu-lifecycle-config.html
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
    """
    (stale,) = re.findall(r"^_STALE = (\{.*\})$", _code("process_image/s3.py"), re.MULTILINE)
    tags = [{"Key": key, "Value": value} for key, value in ast.literal_eval(stale).items()]
    expiring = []
    for name, bucket in template.buckets.items():
        rules = bucket.get("LifecycleConfiguration", {}).get("Rules", [])
        enabled = [rule for rule in rules if rule["Status"] == "Enabled"]
        if not any("AbortIncompleteMultipartUpload" in rule for rule in enabled):
            yield f"{name} keeps the parts of unfinished uploads"
        for rule in enabled:
            if rule.keys() & {"ExpirationInDays", "ExpirationDate"}:
                expiring.append(name)
                if rule.get("TagFilters") != tags:
                    yield f"{name} expires objects that s3.py did not tag: rule {rule['Id']}"
    if "RenditionsBucket" not in expiring:
        yield "RenditionsBucket keeps stale renditions forever"


def tasks_and_orders_are_remembered_longer_than_their_messages(template: Template) -> Findings:
    """A forgotten order whose message comes once more would be charged again, also after a redrive.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
    """
    for table, code, pattern in (
        ("TasksTable", "process_image/tasks_table.py", r"(\w+) = :expires_at\b"),
        ("OrdersTable", "process_order/orders_table.py", r'values\["(\w+)"\] = expires_at'),
    ):
        (written,) = set(re.findall(pattern, _code(code)))
        expiry = template.tables[table].get("TimeToLiveSpecification", {})
        if expiry != {"Enabled": True, "AttributeName": written}:
            yield f"{table} expires by {expiry.get('AttributeName')}, the code writes {written}"
    tasks, orders = (template["Parameters"][name] for name in ("TaskRetentionDays", "OrderRetentionDays"))
    accepted = next(days for days in range(10_000) if re.fullmatch(orders["AllowedPattern"], str(days)))
    for name, shortest, queues, times in (
        ("TaskRetentionDays", tasks["MinValue"], ["ImageTasksQueue"], 1),
        ("OrderRetentionDays", accepted, ["OrderQueue", "OrderDeadLetterQueue"], 2),  # twice: with one redrive
    ):
        kept = [template.queues[queue]["MessageRetentionPeriod"] for queue in queues]
        longest = times * sum(kept) / 86_400
        if shortest <= longest:
            yield f"{name} may be {shortest}, a message may wait {longest:g} days"


def irreplaceable_resources_are_retained(template: Template) -> Findings:
    """Buckets, dead-letter queues, brokers with their passwords, and tables that hold more than finished tasks.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-updatereplacepolicy.html
    """
    generated = [name for name, v in template.secrets.items() if "GenerateSecretString" in v]
    tables = [name for name in template.tables if name != "TasksTable"]
    of_kinds = [*template.buckets, *template.brokers]
    for name in (*of_kinds, *generated, *tables, *template.dead_letter_queues()):
        for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
            if template["Resources"].get(name, {}).get(policy) not in _RETAINED:
                yield f"{name} is not retained by its {policy}"


def _code(path: str) -> str:
    return (ROOT / "functions" / path).read_text()
