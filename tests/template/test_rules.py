"""Every rule is silent on the template, and finds exactly what is broken in a broken copy."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.template import operations_rules, rules
from tests.template.template import ROOT, Template, load

Rule = Callable[[Template], list[str]]
Break = Callable[[Template], None]

TEMPLATE = load((ROOT / "template.yaml").read_text())
RULES: list[Rule] = [
    function
    for module in (rules, operations_rules)
    for name, function in vars(module).items()
    if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
]


def put(path: str, value: Any) -> Break:
    """Set what stands at a path; its first step is a section of the template or a resource."""

    def damage(template: Template) -> None:
        place, key = _find(template, path)
        place[key] = value

    return damage


def drop(path: str) -> Break:
    """Remove what stands at a path."""

    def damage(template: Template) -> None:
        place, key = _find(template, path)
        del place[key]

    return damage


def append(path: str, value: Any) -> Break:
    """Add to the list at a path."""

    def damage(template: Template) -> None:
        place, key = _find(template, path)
        place[key].append(value)

    return damage


def copy(path: str, new_path: str) -> Break:
    """Put what stands at one path at another, too."""

    def damage(template: Template) -> None:
        place, key = _find(template, path)
        put(new_path, deepcopy(place[key]))(template)

    return damage


def replace(path: str, old: str, new: str) -> Break:
    """Write something else into the text at a path, once."""

    def damage(template: Template) -> None:
        place, key = _find(template, path)
        assert old in place[key]
        place[key] = place[key].replace(old, new, 1)

    return damage


def _find(template: Template, path: str) -> tuple[Any, Any]:
    # ~1 stands for a slash within a step, as in a JSON pointer.
    steps = [int(step) if step.isdecimal() else step.replace("~1", "/") for step in path.split("/")]
    place: Any = template if steps[0] in template else template["Resources"]
    for step in steps[:-1]:
        place = place[step]
    return place, steps[-1]


def announced(suffix: str) -> Template:
    """A notification as the uploads bucket has it for every suffix."""
    return {
        "Event": "s3:ObjectCreated:*",
        "Queue": {"Fn::GetAtt": ["ImageTasksQueue", "Arn"]},
        "Filter": {"S3Key": {"Rules": [{"Name": "suffix", "Value": suffix}]}},
    }


UPLOADS = "UploadsBucket/Properties"
RENDITIONS = "RenditionsBucket/Properties"
TASKS = "ImageTasksQueue/Properties"
TASKS_POLICY = "ImageTasksQueuePolicy/Properties/PolicyDocument/Statement"
DEAD_LETTERS = "ImageTasksDeadLetterQueue/Properties"
RESULTS = "ResultsQueue/Properties"
FUNCTION = "ProcessImageFunction/Properties"
MAPPING = f"{FUNCTION}/Events/ImageTasks/Properties"
ORDERS = "ProcessOrderFunction/Properties"
ORDERS_POLICY = "ProcessOrderRole/Properties/Policies/0/PolicyDocument/Statement"
ROLLOUT = f"{ORDERS}/DeploymentPreference"
ROLLOUT_ROLE = "OrderRolloutRole/Properties"
ROLLOUT_POLICY = f"{ROLLOUT_ROLE}/Policies/0/PolicyDocument/Statement"
ROLE = "ProcessImageRole/Properties"
STATEMENTS = f"{ROLE}/Policies/0/PolicyDocument/Statement"
RELAY = "RelayRabbitMqFunction/Properties"
BROKER = "RabbitMqBroker/Properties"
CREDENTIALS = "RabbitMqCredentials/Properties"
ORDERS_MAPPING = "RabbitMqOrdersMapping/Properties"
BROKER_POLICY = "RelayRabbitMqBrokerPolicy/Properties/PolicyDocument/Statement"
API = "QueuesApi/Properties"
DESCRIPTION = f"{API}/DefinitionBody"
READ = f"{DESCRIPTION}/paths/~1results/get"
READ_CALL = f"{READ}/x-amazon-apigateway-integration"
SUBMIT = f"{DESCRIPTION}/paths/~1orders/post"
SUBMIT_CALL = f"{SUBMIT}/x-amazon-apigateway-integration"
OTHER = f"{DESCRIPTION}/paths/~1results/x-amazon-apigateway-any-method"
READ_ROLE = "QueuesApiReadRole/Properties"
NOTIFICATIONS = f"{UPLOADS}/NotificationConfiguration/QueueConfigurations"
DASHBOARD = "Dashboard/Properties/DashboardBody/Fn::Sub"
LAST_GROUP = {
    "Fn::Select": [4, {"Fn::Split": ["-", {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}]}]
}

# Rule, damage, all that the rule finds then.
CASES: list[tuple[Rule, Break, str]] = [
    (
        rules.queues_hide_a_message_six_times_as_long_as_its_function_may_run,
        put(f"{TASKS}/VisibilityTimeout", 299),
        "ImageTasksQueue hides a message for 299 s, ProcessImageFunction needs 300 s",
    ),
    (
        rules.queues_hide_a_message_six_times_as_long_as_its_function_may_run,
        put(f"{FUNCTION}/Timeout", 51),
        "ImageTasksQueue hides a message for 300 s, ProcessImageFunction needs 306 s",
    ),
    (
        rules.queues_hide_a_message_six_times_as_long_as_its_function_may_run,
        put(f"{MAPPING}/MaximumBatchingWindowInSeconds", 5),
        "ImageTasksQueue hides a message for 300 s, ProcessImageFunction needs 305 s",
    ),
    (
        rules.queues_give_up_into_a_dead_letter_queue_after_five_attempts_or_more,
        drop(f"{RESULTS}/RedrivePolicy"),
        "ResultsQueue has no redrive policy",
    ),
    (
        rules.queues_give_up_into_a_dead_letter_queue_after_five_attempts_or_more,
        drop("ImageTasksDeadLetterQueue"),
        "ImageTasksQueue gives up into a queue that is not in the template",
    ),
    (
        rules.queues_give_up_into_a_dead_letter_queue_after_five_attempts_or_more,
        put(f"{TASKS}/RedrivePolicy/maxReceiveCount", 4),
        "ImageTasksQueue gives up after 4 attempts",
    ),
    (
        rules.what_a_function_sets_aside_has_room_for_its_reason,
        drop(f"{TASKS}/MaximumMessageSize"),
        "ImageTasksQueue takes messages that are too large to be moved to the dead-letter queue",
    ),
    (
        rules.dead_letter_queues_take_from_their_source_alone,
        drop(f"{DEAD_LETTERS}/RedriveAllowPolicy"),
        "ImageTasksDeadLetterQueue does not take from exactly ImageTasksQueue",
    ),
    (
        rules.dead_letter_queues_take_from_their_source_alone,
        put(f"{RESULTS}/QueueName/Fn::Join/1/0", "darkroom-outcomes"),
        "ResultsDeadLetterQueue does not take from exactly ResultsQueue",
    ),
    (
        rules.dead_letter_queues_take_from_their_source_alone,
        put("ReturnsDeadLetterQueue", {"Type": "AWS::SQS::Queue"}),
        "ReturnsDeadLetterQueue does not take from exactly no queue",
    ),
    (rules.queues_are_encrypted, put(f"{RESULTS}/SqsManagedSseEnabled", False), "ResultsQueue is not encrypted"),
    (
        rules.queues_keep_a_message_for_14_days,
        drop(f"{DEAD_LETTERS}/MessageRetentionPeriod"),
        "ImageTasksDeadLetterQueue keeps a message for 345600 s",
    ),
    (
        rules.queues_are_long_polled,
        drop(f"{TASKS}/ReceiveMessageWaitTimeSeconds"),
        "ImageTasksQueue lets a receiver wait for 0 s",
    ),
    (rules.queues_refuse_plain_http, drop(f"{TASKS_POLICY}/1"), "ImageTasksQueue may be used without TLS"),
    (
        rules.queues_refuse_plain_http,
        put("ResultsQueuePolicy/Properties/PolicyDocument/Statement/0/Condition/Bool/aws:SourceVpc", "vpc-1"),
        "ResultsQueue may be used without TLS",
    ),
    (
        rules.queues_buckets_and_topics_have_one_policy_each,
        copy("ResultsQueuePolicy", "AnotherPolicy"),
        "ResultsQueue has 2 policies",
    ),
    (rules.queues_buckets_and_topics_have_one_policy_each, drop("UploadsBucketPolicy"), "UploadsBucket has 0 policies"),
    (
        rules.queues_buckets_and_topics_have_one_policy_each,
        drop("OrderEventsTopicPolicy"),
        "OrderEventsTopic has 0 policies",
    ),
    (
        rules.services_send_only_for_the_bucket_that_notifies_the_queue,
        put(f"{TASKS_POLICY}/0/Principal", "*"),
        "ImageTasksQueuePolicy lets in more than a service",
    ),
    (
        rules.services_send_only_for_the_bucket_that_notifies_the_queue,
        drop(f"{TASKS_POLICY}/0/Condition/StringEquals"),
        "ImageTasksQueuePolicy lets a service send for any account",
    ),
    (
        rules.services_send_only_for_the_bucket_that_notifies_the_queue,
        put(f"{TASKS_POLICY}/0/Condition/ArnEquals/aws:SourceArn", "arn:aws:s3:::darkroom-*"),
        "ImageTasksQueuePolicy does not name exactly UploadsBucket as the source",
    ),
    (
        rules.services_send_only_for_the_bucket_that_notifies_the_queue,
        put(f"{UPLOADS}/BucketName/Fn::Join/1/0", "darkroom-photos"),
        "ImageTasksQueuePolicy does not name exactly UploadsBucket as the source",
    ),
    (
        rules.services_send_only_for_the_bucket_that_notifies_the_queue,
        put(f"{TASKS_POLICY}/0/Action", "sqs:*"),
        "ImageTasksQueuePolicy lets a service do more than send to ImageTasksQueue",
    ),
    (
        rules.notifying_buckets_may_send,
        drop(f"{TASKS_POLICY}/0"),
        "UploadsBucket may not send to ImageTasksQueue",
    ),
    (
        rules.notifying_buckets_wait_for_the_policy_of_the_queue,
        drop("UploadsBucket/DependsOn"),
        "UploadsBucket does not wait for ImageTasksQueuePolicy",
    ),
    (
        rules.topics_are_encrypted,
        drop("OrderEventsTopic/Properties/KmsMasterKeyId"),
        "OrderEventsTopic is not encrypted",
    ),
    (
        rules.topics_refuse_plain_http,
        put("OrderEventsTopicPolicy/Properties/PolicyDocument/Statement/0/Effect", "Allow"),
        "OrderEventsTopic may be used without TLS",
    ),
    (
        rules.secrets_are_generated_or_filled_by_hand,
        put("PaymentSecret/Properties/SecretString", "sk_test"),
        "PaymentSecret has a value in the template",
    ),
    (
        rules.secrets_are_generated_or_filled_by_hand,
        put("Parameters/PaymentsUrl/NoEcho", True),
        "PaymentsUrl takes a secret",
    ),
    (
        rules.secrets_are_generated_or_filled_by_hand,
        put(
            f"{ORDERS}/Environment/Variables/PAYMENTS_URL",
            {"Fn::Sub": "{{resolve:secretsmanager:${PaymentSecret}}}"},
        ),
        "ProcessOrderFunction holds a resolved secret",
    ),
    (
        rules.secrets_are_generated_or_filled_by_hand,
        copy(f"{BROKER}/Users/0/Password", f"{BROKER}/Tags"),
        "RabbitMqBroker holds a resolved secret",
    ),
    (
        rules.secrets_are_generated_or_filled_by_hand,
        put(f"{CREDENTIALS}/GenerateSecretString/SecretStringTemplate", '{"username": "a", "password": "b"}'),
        "RabbitMqCredentials has a value in the template",
    ),
    (
        rules.functions_know_after_how_many_attempts_their_queue_gives_up,
        put(f"{ORDERS}/Environment/Variables/MAX_RECEIVES", "5"),
        "ProcessOrderFunction expects 5 attempts, OrderQueue makes 15",
    ),
    (
        rules.functions_know_after_how_many_attempts_their_queue_gives_up,
        put(f"{TASKS}/RedrivePolicy/maxReceiveCount", 6),
        "ProcessImageFunction expects 10 attempts, ImageTasksQueue makes 6",
    ),
    (
        rules.functions_name_the_messages_that_failed,
        drop(f"{MAPPING}/FunctionResponseTypes"),
        "ProcessImageFunction answers ImageTasksQueue for the whole batch",
    ),
    (
        rules.queues_limit_how_many_functions_they_run,
        drop(f"{MAPPING}/ScalingConfig"),
        "ImageTasksQueue runs ProcessImageFunction up to None to None times at once, not 2 to 1000",
    ),
    (
        rules.queues_limit_how_many_functions_they_run,
        put("Parameters/ProcessImageConcurrency/MinValue", 1),
        "ImageTasksQueue runs ProcessImageFunction up to 1 to 1000 times at once, not 2 to 1000",
    ),
    (
        rules.polled_functions_reserve_no_concurrency,
        put(f"{FUNCTION}/ReservedConcurrentExecutions", 10),
        "ProcessImageFunction reserves concurrency although ImageTasksQueue is polled for it",
    ),
    (
        rules.functions_may_take_what_is_polled_for_them,
        put(f"{STATEMENTS}/0/Action", ["sqs:ReceiveMessage", "sqs:DeleteMessage"]),
        "ProcessImageFunction lacks sqs:GetQueueAttributes on ImageTasksQueue",
    ),
    (
        rules.brokers_are_made_when_asked_for,
        put("Parameters/CreateRabbitMqBroker/Default", "true"),
        "RabbitMqBroker is there by default; RabbitMqImageTasksMapping is there by default; "
        "RabbitMqOrdersMapping is there by default",
    ),
    (
        rules.brokers_are_made_when_asked_for,
        drop("RabbitMqOrdersMapping/Condition"),
        "RabbitMqOrdersMapping is there by default",
    ),
    (
        rules.brokers_are_closed_and_tell_what_they_do,
        put("Parameters/RabbitMqPubliclyAccessible/Default", "true"),
        "RabbitMqBroker is open to the public by default",
    ),
    (
        rules.brokers_are_closed_and_tell_what_they_do,
        put(f"{BROKER}/PubliclyAccessible", True),
        "RabbitMqBroker is open to the public by default",
    ),
    (rules.brokers_are_closed_and_tell_what_they_do, drop(f"{BROKER}/Logs"), "RabbitMqBroker keeps no log"),
    (
        rules.brokers_are_closed_and_tell_what_they_do,
        put(f"{BROKER}/AutoMinorVersionUpgrade", False),
        "RabbitMqBroker is not patched",
    ),
    (
        rules.brokers_have_a_name_that_fits,
        put(f"{BROKER}/BrokerName/Fn::Join/1/0", "darkroom-rabbitmq"),
        "RabbitMqBroker has a name longer than 50 characters",
    ),
    (
        rules.brokers_take_their_user_from_a_generated_secret,
        put(f"{BROKER}/Users/0/Password", {"Ref": "RabbitMqSecretArn"}),
        "RabbitMqBroker does not take its one user from a secret",
    ),
    (
        rules.brokers_take_their_user_from_a_generated_secret,
        put(f"{BROKER}/Users/0/Username", "darkroom"),
        "RabbitMqBroker does not take its one user from a secret",
    ),
    (
        rules.brokers_take_their_user_from_a_generated_secret,
        put(f"{CREDENTIALS}/GenerateSecretString/SecretStringTemplate", "{}"),
        "RabbitMqCredentials does not generate the password",
    ),
    (
        rules.brokers_take_their_user_from_a_generated_secret,
        drop(f"{CREDENTIALS}/GenerateSecretString/ExcludePunctuation"),
        "RabbitMqCredentials generates passwords that RabbitMqBroker may refuse",
    ),
    (
        rules.mq_mappings_log_in_to_one_queue_of_a_virtual_host,
        append(f"{ORDERS_MAPPING}/Queues", "returns"),
        "RabbitMqOrdersMapping reads 2 queues",
    ),
    (
        rules.mq_mappings_log_in_to_one_queue_of_a_virtual_host,
        drop(f"{ORDERS_MAPPING}/SourceAccessConfigurations/1"),
        "RabbitMqOrdersMapping gives BASIC_AUTH",
    ),
    (
        rules.functions_know_the_way_of_every_queue_that_is_read_for_them,
        put(f"{ORDERS_MAPPING}/Queues", ["orders"]),
        "RelayRabbitMqFunction knows no way from ${None}::${RabbitMqVirtualHost}; "
        "RelayRabbitMqFunction knows a way from ${RabbitMqOrdersQueueName}::${RabbitMqVirtualHost}, not read",
    ),
    (
        rules.functions_know_the_way_of_every_queue_that_is_read_for_them,
        drop("RabbitMqOrdersMapping"),
        "RelayRabbitMqFunction knows a way from ${RabbitMqOrdersQueueName}::${RabbitMqVirtualHost}, not read",
    ),
    (
        rules.functions_know_the_way_of_every_queue_that_is_read_for_them,
        put(
            f"{RELAY}/Environment/Variables/ROUTES/Fn::Sub",
            '{"${RabbitMqImageTasksQueueName}::${RabbitMqVirtualHost}": "orders", '
            '"${RabbitMqOrdersQueueName}::${RabbitMqVirtualHost}": "orders"}',
        ),
        "RelayRabbitMqFunction goes from RabbitMqImageTasksQueueName to orders",
    ),
    (
        rules.functions_may_read_their_broker,
        put(f"{BROKER_POLICY}/0/Resource", {"Ref": "RabbitMqBrokerArn"}),
        "RabbitMqImageTasksMapping lacks mq:DescribeBroker; RabbitMqOrdersMapping lacks mq:DescribeBroker",
    ),
    (
        rules.functions_may_read_their_broker,
        put(f"{ORDERS_MAPPING}/SourceAccessConfigurations/0/URI", {"Ref": "PaymentSecret"}),
        "RabbitMqOrdersMapping lacks secretsmanager:GetSecretValue",
    ),
    (
        rules.functions_may_read_their_broker,
        drop(f"{BROKER_POLICY}/3"),
        "RabbitMqImageTasksMapping lacks ec2:DeleteNetworkInterface; "
        "RabbitMqOrdersMapping lacks ec2:DeleteNetworkInterface",
    ),
    (
        rules.functions_may_read_their_broker,
        drop("RabbitMqOrdersMapping/DependsOn"),
        "RabbitMqOrdersMapping does not wait for RelayRabbitMqBrokerPolicy",
    ),
    (
        rules.buckets_are_closed_to_the_public,
        put(f"{RENDITIONS}/PublicAccessBlockConfiguration/BlockPublicPolicy", False),
        "RenditionsBucket lacks BlockPublicPolicy",
    ),
    (
        rules.buckets_are_encrypted,
        drop(f"{UPLOADS}/BucketEncryption"),
        "UploadsBucket does not state its encryption",
    ),
    (rules.buckets_own_their_objects, drop(f"{UPLOADS}/OwnershipControls"), "UploadsBucket lets writers own objects"),
    (
        rules.buckets_refuse_plain_http,
        drop("RenditionsBucketPolicy/Properties/PolicyDocument/Statement/0/Resource/1"),
        "RenditionsBucket or its objects may be used without TLS",
    ),
    (
        rules.buckets_drop_unfinished_uploads,
        put(f"{UPLOADS}/LifecycleConfiguration/Rules/1/Status", "Disabled"),
        "UploadsBucket keeps the parts of unfinished uploads",
    ),
    (
        rules.notifying_buckets_keep_versions,
        put(f"{UPLOADS}/VersioningConfiguration/Status", "Suspended"),
        "UploadsBucket keeps no versions",
    ),
    (
        rules.old_versions_expire,
        drop(f"{UPLOADS}/LifecycleConfiguration/Rules/0/NoncurrentVersionExpiration"),
        "UploadsBucket keeps old versions forever",
    ),
    (
        rules.only_renditions_that_the_function_tagged_expire,
        put(f"{RENDITIONS}/LifecycleConfiguration/Rules/0/TagFilters/0/Key", "stale"),
        "RenditionsBucket expires objects that s3.py did not tag: rule StaleRenditions",
    ),
    (
        rules.only_renditions_that_the_function_tagged_expire,
        put(f"{UPLOADS}/LifecycleConfiguration/Rules/1/ExpirationInDays", 1),
        "UploadsBucket expires objects that s3.py did not tag: rule UnfinishedMultipartUploads",
    ),
    (
        rules.only_renditions_that_the_function_tagged_expire,
        drop(f"{RENDITIONS}/LifecycleConfiguration/Rules/0"),
        "RenditionsBucket keeps stale renditions forever",
    ),
    (
        rules.every_spelling_of_an_image_suffix_is_a_task_once,
        drop(f"{NOTIFICATIONS}/1"),
        "UploadsBucket does not announce .JPG",
    ),
    (
        rules.every_spelling_of_an_image_suffix_is_a_task_once,
        append(NOTIFICATIONS, announced(".jpg")),
        "UploadsBucket announces .jpg 2 times",
    ),
    (
        rules.every_spelling_of_an_image_suffix_is_a_task_once,
        append(NOTIFICATIONS, announced(".txt")),
        "UploadsBucket announces .txt",
    ),
    (
        rules.every_spelling_of_an_image_suffix_is_a_task_once,
        append(NOTIFICATIONS, {"Event": "s3:ObjectRemoved:*", "Queue": {"Fn::GetAtt": ["ImageTasksQueue", "Arn"]}}),
        "UploadsBucket has a notification that is not of one suffix's created objects",
    ),
    (
        rules.every_spelling_of_an_image_suffix_is_a_task_once,
        put(f"{NOTIFICATIONS}/0/Queue", {"Fn::GetAtt": ["ResultsQueue", "Arn"]}),
        "UploadsBucket announces to ResultsQueue",
    ),
    (
        rules.functions_have_a_role_each,
        drop(f"{FUNCTION}/Role"),
        "ProcessImageFunction has no role in the template",
    ),
    (
        rules.functions_have_a_role_each,
        copy("ProcessImageFunction", "AnotherFunction"),
        "ProcessImageFunction shares ProcessImageRole; AnotherFunction shares ProcessImageRole",
    ),
    (
        rules.functions_have_a_log_group_each_that_forgets,
        drop(f"{FUNCTION}/LoggingConfig"),
        "ProcessImageFunction has no log group in the template",
    ),
    (
        rules.functions_have_a_log_group_each_that_forgets,
        copy("ProcessImageFunction", "AnotherFunction"),
        "ProcessImageFunction shares ProcessImageLogs; AnotherFunction shares ProcessImageLogs",
    ),
    (
        rules.functions_have_a_log_group_each_that_forgets,
        drop("ProcessImageLogs/Properties/RetentionInDays"),
        "ProcessImageLogs keeps logs forever",
    ),
    (
        rules.functions_may_write_their_own_logs,
        put(f"{STATEMENTS}/7/Resource", "*"),
        "ProcessImageFunction may not write exactly its own logs",
    ),
    (
        rules.functions_are_traced,
        drop("Globals/Function/Tracing"),
        "ProcessImageFunction is not traced; ProcessOrderFunction is not traced; RelayRabbitMqFunction is not traced",
    ),
    (
        rules.traced_functions_may_send_their_traces,
        drop(f"{STATEMENTS}/8"),
        "ProcessImageFunction may not send its traces",
    ),
    (
        rules.functions_say_who_they_are,
        drop(f"{FUNCTION}/Environment/Variables/POWERTOOLS_SERVICE_NAME"),
        "ProcessImageFunction is not told POWERTOOLS_SERVICE_NAME",
    ),
    (
        rules.functions_have_their_import_path_in_lambda_too,
        put(f"{FUNCTION}/Handler", "app.lambda_handler"),
        "ProcessImageFunction has no handler at app.lambda_handler",
    ),
    (
        rules.functions_have_their_import_path_in_lambda_too,
        put(f"{FUNCTION}/CodeUri", "functions/process_order/"),
        "ProcessImageFunction has no handler at functions.process_image.app.lambda_handler",
    ),
    (
        rules.functions_state_their_memory_and_time,
        drop(f"{FUNCTION}/MemorySize"),
        "ProcessImageFunction does not state its MemorySize",
    ),
    (
        rules.functions_and_layers_follow_the_runtime_parameters,
        put(f"{FUNCTION}/Runtime", "python3.12"),
        "ProcessImageFunction has a runtime or an architecture of its own",
    ),
    (
        rules.functions_and_layers_follow_the_runtime_parameters,
        put("ImagingLayer/Properties/CompatibleArchitectures", ["x86_64"]),
        "ImagingLayer has a runtime or an architecture of its own",
    ),
    (
        rules.functions_and_layers_are_built_by_bundle,
        put("CommonLayer/Metadata/BuildMethod", "python3.12"),
        "CommonLayer is not built by bundle/ for its runtime and architecture",
    ),
    (
        rules.functions_and_layers_are_built_by_bundle,
        put("RelayRabbitMqFunction/Metadata/ContextPath", {"Fn::Sub": "bundle/python3.13/${Architecture}"}),
        "RelayRabbitMqFunction is not built by bundle/ for its runtime and architecture",
    ),
    (
        rules.layers_are_those_of_the_template,
        append(f"{FUNCTION}/Layers", {"Fn::Sub": "arn:aws:lambda:${AWS::Region}:017000801446:layer:Powertools:1"}),
        "ProcessImageFunction uses a layer from elsewhere",
    ),
    (
        rules.layers_are_those_of_the_template,
        drop(f"{FUNCTION}/Layers/3"),
        "ImagingLayer is used by no function",
    ),
    (
        rules.functions_log_at_a_level_that_keeps_their_metrics,
        put("Globals/Function/LoggingConfig/ApplicationLogLevel", "WARNING"),
        "functions log from WARNING, without their metrics",
    ),
    (
        rules.functions_are_told_exactly_what_their_settings_read,
        drop(f"{FUNCTION}/Environment/Variables/KEEP_LOCATION"),
        "ProcessImageFunction is not told KEEP_LOCATION",
    ),
    (
        rules.functions_are_told_exactly_what_their_settings_read,
        put(f"{FUNCTION}/Environment/Variables/STAGE", "dev"),
        "ProcessImageFunction is told STAGE, which it does not read",
    ),
    (
        rules.versions_follow_all_that_a_function_is_made_of,
        drop(f"{ORDERS}/AutoPublishAliasAllProperties"),
        "ProcessOrderFunction is published for its code alone",
    ),
    (
        rules.versions_follow_all_that_a_function_is_made_of,
        drop("CommonLayer/Properties/PublishLambdaVersion"),
        "ProcessOrderFunction is not published with CommonLayer",
    ),
    (
        rules.versions_follow_all_that_a_function_is_made_of,
        put(f"{ORDERS}/VersionDescription", {"Fn::Sub": "${ProcessOrderMemory} MB, ${PythonRuntime}, ${Architecture}"}),
        "ProcessOrderFunction is not published for PaymentsUrl",
    ),
    (
        rules.versions_roll_out_gradually_behind_alarms,
        put(f"{ROLLOUT}/Enabled", True),
        "ProcessOrderFunction rolls out at once, or cannot",
    ),
    (
        rules.versions_roll_out_gradually_behind_alarms,
        put("Parameters/GradualRollout/Default", "false"),
        "ProcessOrderFunction rolls out at once, or cannot",
    ),
    (
        rules.versions_roll_out_gradually_behind_alarms,
        put(f"{ROLLOUT}/Type", "AllAtOnce"),
        "ProcessOrderFunction rolls out by AllAtOnce",
    ),
    (
        rules.versions_roll_out_gradually_behind_alarms,
        drop(f"{ROLLOUT}/Alarms/1"),
        "ProcessOrderFunction rolls out watched by ProcessOrderErrorsAlarm",
    ),
    (
        rules.rollouts_have_a_role_that_moves_their_alias_alone,
        drop(f"{ROLLOUT}/Role"),
        "ProcessOrderFunction rolls out by no role of the template",
    ),
    (
        rules.rollouts_have_a_role_that_moves_their_alias_alone,
        drop("OrderRolloutRole/Condition"),
        "ProcessOrderFunction rolls out by no role of the template",
    ),
    (
        rules.rollouts_have_a_role_that_moves_their_alias_alone,
        put(f"{ROLLOUT_POLICY}/0/Resource/1", {"Fn::Sub": "${ProcessOrderFunction.Arn}:*"}),
        "OrderRolloutRole does not move exactly the alias of ProcessOrderFunction",
    ),
    (
        rules.rollouts_have_a_role_that_moves_their_alias_alone,
        drop(f"{ROLLOUT_ROLE}/AssumeRolePolicyDocument/Statement/0/Condition"),
        "OrderRolloutRole may be taken by more than this account's CodeDeploy",
    ),
    (
        rules.roles_allow_no_wildcard_action,
        put(f"{STATEMENTS}/2/Action", "s3:Get*"),
        "ProcessImageRole allows s3:Get*",
    ),
    (
        rules.roles_name_their_resources,
        put(f"{STATEMENTS}/2/Resource", "*"),
        "ProcessImageRole does not name the resources of ReadUploads",
    ),
    (
        rules.roles_name_their_resources,
        put(f"{STATEMENTS}/8/Action", ["xray:PutTraceSegments", "xray:GetTraceSummaries"]),
        "ProcessImageRole does not name the resources of SendTraces",
    ),
    (
        rules.roles_name_their_resources,
        put(f"{BROKER_POLICY}/2/Resource", "*"),
        "RelayRabbitMqRole does not name the resources of ReachBroker",
    ),
    (
        rules.roles_name_their_resources,
        put(f"{BROKER_POLICY}/1/Resource/Fn::If/1", "*"),
        "RelayRabbitMqRole does not name the resources of LogIn",
    ),
    (
        rules.roles_spell_their_permissions_out,
        put(f"{ROLE}/ManagedPolicyArns", ["arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"]),
        "ProcessImageRole has managed policies",
    ),
    (
        rules.roles_spell_their_permissions_out,
        put(f"{FUNCTION}/Policies", [{"SQSPollerPolicy": {"QueueName": "x"}}]),
        "ProcessImageFunction lets SAM write its permissions",
    ),
    (
        rules.roles_are_taken_by_one_service,
        put(f"{ROLE}/AssumeRolePolicyDocument/Statement/0/Principal/AWS", "*"),
        'ProcessImageRole may be taken by {"Service": "lambda.amazonaws.com", "AWS": "*"}',
    ),
    (
        rules.statements_have_an_id,
        drop(f"{STATEMENTS}/0/Sid"),
        "ProcessImageRole has a statement without Sid",
    ),
    (
        rules.statements_have_an_id,
        drop(f"{TASKS_POLICY}/0/Sid"),
        "ImageTasksQueuePolicy has a statement without Sid",
    ),
    (
        rules.roles_allow_only_what_is_done,
        append(f"{STATEMENTS}/6/Action", "dynamodb:DeleteItem"),
        "ProcessImageRole allows dynamodb:DeleteItem, which ProcessImageFunction does not do",
    ),
    (
        rules.roles_allow_only_what_is_done,
        append(f"{STATEMENTS}/6/Action", "mq:DescribeBroker"),
        "ProcessImageRole allows mq:DescribeBroker, which ProcessImageFunction does not do",
    ),
    (
        rules.roles_allow_all_that_is_done,
        put(f"{ORDERS_POLICY}/2/Action", ["dynamodb:GetItem", "dynamodb:UpdateItem"]),
        "ProcessOrderRole does not allow dynamodb:PutItem, which ProcessOrderFunction does",
    ),
    (
        rules.roles_allow_all_that_is_done,
        put(f"{STATEMENTS}/4/Action", ["s3:GetObject", "s3:PutObject"]),
        "ProcessImageRole does not allow s3:PutObjectTagging, which ProcessImageFunction does",
    ),
    (
        rules.roles_reach_exactly_what_their_function_is_told_of,
        drop(f"{STATEMENTS}/5"),
        "ProcessImageFunction may not reach TasksTable",
    ),
    (
        rules.roles_reach_exactly_what_their_function_is_told_of,
        append(f"{STATEMENTS}/1/Resource", {"Fn::GetAtt": ["ResultsDeadLetterQueue", "Arn"]}),
        "ProcessImageFunction may reach ResultsDeadLetterQueue",
    ),
    (
        rules.roles_reach_exactly_what_their_function_is_told_of,
        put(f"{BROKER_POLICY}/1/Resource/Fn::If/2", {"Ref": "PaymentSecret"}),
        "RelayRabbitMqFunction may reach PaymentSecret",
    ),
    (
        rules.tasks_are_forgotten_by_the_attribute_that_the_code_writes,
        put("TasksTable/Properties/TimeToLiveSpecification/AttributeName", "expiry"),
        "TasksTable expires by expiry, the code writes expires_at",
    ),
    (
        rules.tasks_are_remembered_longer_than_a_message_can_wait,
        put("Parameters/TaskRetentionDays/MinValue", 14),
        "TaskRetentionDays may be 14, a message may wait 14 days",
    ),
    (
        rules.retained_tables_can_be_restored,
        drop("ImagesTable/Properties/PointInTimeRecoverySpecification"),
        "ImagesTable cannot be restored to a point in time",
    ),
    (
        rules.tables_are_paid_by_request,
        drop("TasksTable/Properties/BillingMode"),
        "TasksTable is not paid by request",
    ),
    (
        rules.stateful_resources_say_what_becomes_of_them,
        drop("ProcessImageLogs/UpdateReplacePolicy"),
        "ProcessImageLogs states no UpdateReplacePolicy",
    ),
    (
        rules.stateful_resources_say_what_becomes_of_them,
        drop("PaymentSecret/DeletionPolicy"),
        "PaymentSecret states no DeletionPolicy",
    ),
    (
        rules.what_stands_nowhere_else_is_retained,
        put("ResultsDeadLetterQueue/DeletionPolicy", "Delete"),
        "ResultsDeadLetterQueue is not retained by its DeletionPolicy",
    ),
    (
        rules.what_stands_nowhere_else_is_retained,
        drop("ImagesTable/UpdateReplacePolicy"),
        "ImagesTable is not retained by its UpdateReplacePolicy",
    ),
    (
        rules.what_stands_nowhere_else_is_retained,
        put("RabbitMqDeadLetterQueue/DeletionPolicy", "Delete"),
        "RabbitMqDeadLetterQueue is not retained by its DeletionPolicy",
    ),
    (
        rules.what_stands_nowhere_else_is_retained,
        put("RabbitMqCredentials/DeletionPolicy", "Delete"),
        "RabbitMqCredentials is not retained by its DeletionPolicy",
    ),
    (
        rules.parameters_are_described_and_bounded,
        drop("Parameters/LogRetentionDays/Description"),
        "LogRetentionDays has no description",
    ),
    (
        rules.parameters_are_described_and_bounded,
        drop("Parameters/MaxImageBytes/MaxValue"),
        "MaxImageBytes takes any value",
    ),
    (
        rules.parameters_are_used,
        put(f"{FUNCTION}/Environment/Variables/MAX_IMAGE_FRAMES", 300),
        "MaxImageFrames is not used",
    ),
    (
        rules.parameters_stand_in_one_group_each,
        drop("Metadata/AWS::CloudFormation::Interface/ParameterGroups/0/Parameters/0"),
        "PythonRuntime stands in 0 parameter groups",
    ),
    (
        rules.parameters_stand_in_one_group_each,
        append("Metadata/AWS::CloudFormation::Interface/ParameterGroups/0/Parameters", "Stage"),
        "Stage is shown and does not exist",
    ),
    (
        rules.the_runtime_is_one_that_lambda_supports_for_long,
        put("Parameters/PythonRuntime/Default", "python3.11"),
        "PythonRuntime is python3.11 by default",
    ),
    (
        rules.the_runtime_is_one_that_lambda_supports_for_long,
        put("Parameters/Architecture/AllowedValues", ["arm64"]),
        "Architecture allows arm64",
    ),
    (
        rules.names_have_a_reason_and_are_the_stacks_own,
        copy(f"{UPLOADS}/BucketName", f"{RENDITIONS}/BucketName"),
        "RenditionsBucket has a BucketName without a reason",
    ),
    (
        rules.names_have_a_reason_and_are_the_stacks_own,
        put(f"{RESULTS}/QueueName", "darkroom-results"),
        "ResultsQueue's QueueName does not hold the stack's whole id",
    ),
    (
        rules.names_have_a_reason_and_are_the_stacks_own,
        put(f"{UPLOADS}/BucketName/Fn::Join/1/1", LAST_GROUP),
        "UploadsBucket's BucketName does not hold the stack's whole id",
    ),
    (
        rules.names_have_a_reason_and_are_the_stacks_own,
        put(f"{BROKER}/BrokerName", "darkroom"),
        "RabbitMqBroker's BrokerName does not hold the stack's whole id",
    ),
    (
        rules.outputs_are_described,
        drop("Outputs/UploadsBucketName/Description"),
        "UploadsBucketName has no description",
    ),
    (
        rules.methods_know_who_calls_and_on_whose_quota,
        drop(f"{READ}/security"),
        "GET /results may be called unsigned or unmetered",
    ),
    (
        rules.methods_know_who_calls_and_on_whose_quota,
        put(f"{OTHER}/security", [{"sigv4": []}, {"api_key": []}]),
        "ANY /results may be called unsigned or unmetered",
    ),
    (
        rules.methods_check_requests_first,
        put(f"{DESCRIPTION}/x-amazon-apigateway-request-validators/all/validateRequestBody", False),
        "QueuesApi does not check bodies and parameters",
    ),
    (
        rules.methods_check_requests_first,
        put(f"{SUBMIT}/x-amazon-apigateway-request-validator", "none"),
        "POST /orders has a validator of its own",
    ),
    (
        rules.methods_check_requests_first,
        put(f"{SUBMIT_CALL}/passthroughBehavior", "when_no_match"),
        "POST /orders passes other content types on",
    ),
    (rules.methods_check_requests_first, drop(f"{SUBMIT}/requestBody"), "POST /orders takes any body"),
    (rules.paths_answer_every_method, drop(f"{DESCRIPTION}/paths/~1{{proxy+}}"), "QueuesApi does not answer /{proxy+}"),
    (rules.paths_answer_every_method, drop(OTHER), "/results does not refuse other methods than GET, DELETE"),
    (
        rules.paths_answer_every_method,
        put(f"{OTHER}/x-amazon-apigateway-integration/responses/default/responseParameters", {}),
        "/results does not refuse other methods than GET, DELETE",
    ),
    (
        rules.methods_call_queues_under_a_role_for_just_that,
        append(f"{READ_ROLE}/Policies/0/PolicyDocument/Statement/0/Action", "sqs:PurgeQueue"),
        "; ".join(
            f"QueuesApiReadRole allows sqs:PurgeQueue on {queue}"
            for queue in (
                "ImageTasksDeadLetterQueue",
                "OrderDeadLetterQueue",
                "RabbitMqDeadLetterQueue",
                "ResultsQueue",
            )
        ),
    ),
    (
        rules.methods_call_queues_under_a_role_for_just_that,
        put(f"{SUBMIT_CALL}/credentials", {"Fn::GetAtt": ["QueuesApiReadRole", "Arn"]}),
        "QueuesApiReadRole does not allow sqs:SendMessage on OrderQueue; "
        "QueuesApiSubmitRole allows sqs:SendMessage on OrderQueue",
    ),
    (
        rules.methods_call_queues_under_a_role_for_just_that,
        put(f"{READ_ROLE}/AssumeRolePolicyDocument/Statement/0/Principal", {"Service": "lambda.amazonaws.com"}),
        "QueuesApiReadRole is not taken by API Gateway alone",
    ),
    (
        rules.methods_hand_their_parameters_on_by_name,
        drop(f"{READ_CALL}/requestParameters/integration.request.querystring.VisibilityTimeout"),
        "GET /results does not hand on exactly "
        "AttributeName, MaxNumberOfMessages, MessageAttributeName, VisibilityTimeout, WaitTimeSeconds",
    ),
    (
        rules.methods_answer_as_documented_and_errors_in_one_shape,
        drop(f"{DESCRIPTION}/x-amazon-apigateway-gateway-responses/DEFAULT_5XX"),
        "QueuesApi has no DEFAULT_5XX",
    ),
    (
        rules.methods_answer_as_documented_and_errors_in_one_shape,
        put(f"{DESCRIPTION}/x-amazon-apigateway-gateway-responses/THROTTLED/responseTemplates", {}),
        "THROTTLED has another shape",
    ),
    (
        rules.methods_answer_as_documented_and_errors_in_one_shape,
        drop(f"{READ_CALL}/responses/default"),
        "GET /results answers what it does not know with a bare 500",
    ),
    (
        rules.methods_answer_as_documented_and_errors_in_one_shape,
        put(f"{READ_CALL}/responses/default/statusCode", "599"),
        "GET /results does not document 599",
    ),
    (
        rules.methods_answer_as_documented_and_errors_in_one_shape,
        drop(f"{READ_CALL}/responses/default/responseTemplates"),
        "GET /results answers 502 in another shape",
    ),
    (rules.apis_are_throttled_and_metered, drop(f"{API}/MethodSettings"), "QueuesApi takes any number of requests"),
    (
        rules.apis_are_throttled_and_metered,
        drop("QueuesApiUsagePlan/Properties/Quota"),
        "QueuesApi has no usage plan with a quota",
    ),
    (
        rules.apis_log_each_request_as_json_into_a_log_group_that_forgets,
        drop("QueuesApiLogs/Properties/RetentionInDays"),
        "QueuesApi logs into no log group that forgets",
    ),
    (
        rules.apis_log_each_request_as_json_into_a_log_group_that_forgets,
        put(f"{API}/AccessLogSetting/Format", "$context.requestId"),
        "QueuesApi does not log JSON",
    ),
    (
        rules.apis_log_each_request_as_json_into_a_log_group_that_forgets,
        put(f"{API}/AccessLogSetting/Format", '{"handle": "$context.request.querystring.ReceiptHandle"}'),
        "QueuesApi logs handle",
    ),
    (rules.apis_are_traced, drop(f"{API}/TracingEnabled"), "QueuesApi is not traced"),
    (rules.apis_have_no_stage_but_theirs, drop(f"{API}/OpenApiVersion"), "QueuesApi has another stage"),
    (
        operations_rules.alarms_reach_their_topic_and_nothing_else_does,
        put("AlarmTopic/Properties/KmsMasterKeyId", "alias/aws/sns"),
        "AlarmTopic has a key that CloudWatch may not use",
    ),
    (
        operations_rules.alarms_reach_their_topic_and_nothing_else_does,
        drop("AlarmTopicKey/Properties/KeyPolicy/Statement/1/Action/1"),
        "AlarmTopic has a key that CloudWatch may not use",
    ),
    (
        operations_rules.alarms_reach_their_topic_and_nothing_else_does,
        drop("AlarmTopicKey/Properties/KeyPolicy/Statement/1/Condition"),
        "AlarmTopic has a key that CloudWatch may not use",
    ),
    (
        operations_rules.alarms_reach_their_topic_and_nothing_else_does,
        drop("AlarmTopicPolicy/Properties/PolicyDocument/Statement/0/Condition"),
        "AlarmTopic is not for this account's CloudWatch alone",
    ),
    (
        operations_rules.alarms_reach_their_topic_and_nothing_else_does,
        append(
            "AlarmTopicPolicy/Properties/PolicyDocument/Statement",
            {"Effect": "Allow", "Principal": "*", "Action": "sns:Publish"},
        ),
        "AlarmTopic is not for this account's CloudWatch alone",
    ),
    (
        operations_rules.alarms_tell_when_they_begin_and_end,
        drop("CustomersNoticeAlarm/Properties/OKActions"),
        "CustomersNoticeAlarm tells nobody by its OKActions",
    ),
    (
        operations_rules.alarms_tell_when_they_begin_and_end,
        put("ApiServerErrorsAlarm/Properties/AlarmActions", [{"Ref": "OrderEventsTopic"}]),
        "ApiServerErrorsAlarm tells nobody by its AlarmActions",
    ),
    (
        operations_rules.alarms_tell_when_they_begin_and_end,
        put("ApiServerErrorsAlarm/Properties/ActionsEnabled", False),
        "ApiServerErrorsAlarm tells nobody by its AlarmActions; ApiServerErrorsAlarm tells nobody by its OKActions",
    ),
    (
        operations_rules.alarms_say_what_missing_data_means,
        drop("ProcessOrderErrorsAlarm/Properties/TreatMissingData"),
        "ProcessOrderErrorsAlarm does not say what missing data means",
    ),
    (
        operations_rules.alarms_say_what_they_mean_and_where_to_read_on,
        put("ApiServerErrorsAlarm/Properties/AlarmDescription", "Slow. docs/runbook.md#apilatency"),
        "ApiServerErrorsAlarm does not say what it means and where to read on",
    ),
    (
        operations_rules.alarms_say_what_they_mean_and_where_to_read_on,
        put("CustomersNoticeAlarm/Properties/AlarmDescription", "docs/runbook.md#customersnotice"),
        "CustomersNoticeAlarm does not say what it means and where to read on",
    ),
    (
        operations_rules.alarms_watch_metrics_that_there_are,
        put("ProcessOrderErrorsAlarm/Properties/Dimensions/1/Value", {"Fn::Sub": "${ProcessOrderFunction}:new"}),
        "ProcessOrderErrorsAlarm watches AWS/Lambda Errors of ${ProcessOrderFunction}, ${ProcessOrderFunction}:new, "
        "which nobody emits",
    ),
    (
        operations_rules.alarms_watch_metrics_that_there_are,
        put("ProcessOrderDefectsAlarm/Properties/MetricName", "Bugs"),
        "ProcessOrderDefectsAlarm watches OrderProcessing/${AWS::StackName} Bugs of process-order, which nobody emits",
    ),
    (
        operations_rules.alarms_watch_metrics_that_there_are,
        put("ProcessOrderDefectsAlarm/Properties/Namespace", "ImageProcessing"),
        "ProcessOrderDefectsAlarm watches ImageProcessing Defects of process-order, which nobody emits",
    ),
    (
        operations_rules.metrics_belong_to_one_stack,
        put("ProcessImageFunction/Properties/Environment/Variables/POWERTOOLS_METRICS_NAMESPACE", "ImageProcessing"),
        "ProcessImageFunction shares its metrics with other stacks",
    ),
    (
        operations_rules.alarms_watch_metrics_that_there_are,
        append("ImageTasksRetriedAlarm/Properties/Dimensions", {"Name": "error_code", "Value": "InProgress"}),
        "ImageTasksRetriedAlarm watches ImageProcessing/${AWS::StackName} Retried of process-image, InProgress, "
        "which nobody emits",
    ),
    (
        operations_rules.alarms_watch_metrics_that_there_are,
        drop("ApiServerErrorsAlarm/Properties/Dimensions/1"),
        "ApiServerErrorsAlarm watches AWS/ApiGateway 5XXError of Darkroom queues (${AWS::StackName}), "
        "which nobody emits",
    ),
    (
        operations_rules.alarms_watch_metrics_that_there_are,
        put(f"{DESCRIPTION}/info/title", "Darkroom queues"),
        "; ".join(
            f"{alarm} watches AWS/ApiGateway {metric} of Darkroom queues (${{AWS::StackName}}), v1{of}, "
            "which nobody emits"
            for alarm, metric, of in (("ApiServerErrorsAlarm", "5XXError", ""),)
        ),
    ),
    (
        operations_rules.queues_have_alarms,
        copy("OrderQueue", "ReturnsQueue"),
        "ReturnsQueue has no alarm on its oldest message",
    ),
    (
        operations_rules.queues_have_alarms,
        copy("OrderDeadLetterQueue", "ReturnsDeadLetterQueue"),
        "ReturnsDeadLetterQueue has no alarm on its first message",
    ),
    (
        operations_rules.queues_have_alarms,
        put("RabbitMqDeadLettersAlarm/Properties/Threshold", 1),
        "RabbitMqDeadLetterQueue has no alarm on its first message",
    ),
    (
        operations_rules.functions_have_alarms,
        put("ProcessOrderThrottlesAlarm/Properties/Dimensions/0/Value", {"Ref": "ProcessImageFunction"}),
        "ProcessOrderFunction has no alarm on Throttles above 0",
    ),
    (
        operations_rules.functions_have_alarms,
        drop("RelayRabbitMqErrorsAlarm"),
        "RelayRabbitMqFunction has no alarm on Errors above 0",
    ),
    (
        operations_rules.functions_have_alarms,
        put("ProcessImageDefectsAlarm/Properties/Statistic", "Average"),
        "ProcessImageFunction has no alarm on Defects above 0",
    ),
    (
        operations_rules.functions_that_give_messages_back_have_an_alarm_on_that,
        drop("ImageTasksRetriedAlarm"),
        "ProcessImageFunction has no alarm on ImageProcessing/${AWS::StackName} Retried of process-image "
        "that one message does not make",
    ),
    (
        operations_rules.functions_that_give_messages_back_have_an_alarm_on_that,
        put("OrdersRetriedAlarm/Properties/Threshold", 6),
        "ProcessOrderFunction has no alarm on OrderProcessing/${AWS::StackName} Retried of process-order "
        "that one message does not make",
    ),
    (
        operations_rules.composite_alarms_look_at_alarms_that_there_are,
        drop("OrderQueueAgeAlarm"),
        "CustomersNoticeAlarm looks at OrderQueueAgeAlarm, which does not exist",
    ),
    (
        operations_rules.composite_alarms_look_at_alarms_that_there_are,
        put("OrderQueueAgeAlarm/Condition", "HasRabbitMqBroker"),
        "CustomersNoticeAlarm looks at OrderQueueAgeAlarm whether it is there or not",
    ),
    (
        operations_rules.composite_alarms_look_at_alarms_that_there_are,
        put("CustomersNoticeAlarm/Properties/AlarmRule/Fn::Sub", 'ALARM("${RabbitMqBacklogAlarm}")'),
        "CustomersNoticeAlarm looks at RabbitMqBacklogAlarm whether it is there or not",
    ),
    (
        operations_rules.dashboards_fit_their_grid,
        replace(f"{DASHBOARD}/0", '"x": 18, "y": 6, "width": 6', '"x": 18, "y": 6, "width": 7'),
        "Images: outcome is wider than the grid",
    ),
    (
        operations_rules.dashboards_fit_their_grid,
        replace(f"{DASHBOARD}/0", '"width": 24, "height": 5', '"width": 24, "height": 6'),
        "Alarms covers Images: arrival; Alarms covers Images: queue; Alarms covers Images: function; "
        "Alarms covers Images: outcome",
    ),
    (
        operations_rules.dashboards_show_every_alarm,
        replace(f"{DASHBOARD}/0", '"${PaymentFailuresAlarm.Arn}",', ""),
        "Dashboard does not show PaymentFailuresAlarm",
    ),
    (
        operations_rules.dashboards_show_every_alarm,
        put("PaymentFailuresAlarm/Condition", "WatchesResults"),
        "Dashboard does not show PaymentFailuresAlarm; Dashboard shows PaymentFailuresAlarm, which may not be there",
    ),
    (
        operations_rules.dashboards_draw_metrics_that_there_are,
        replace(f"{DASHBOARD}/0", '"Superseded", ".", "."', '"Overtaken", ".", "."'),
        "Images: outcome draws ImageProcessing/${AWS::StackName} Overtaken of process-image, which nobody emits",
    ),
    (
        operations_rules.dashboards_draw_metrics_that_there_are,
        replace(f"{DASHBOARD}/0", '"StockLost"', '"Lost"'),
        "Orders: rejected, by code draws OrderProcessing/${AWS::StackName} Rejected of Lost, process-order, "
        "which nobody emits",
    ),
    (
        operations_rules.dashboards_draw_metrics_that_there_are,
        drop("OrderDeadLetterQueue"),
        "Backlog: dead letters draws AWS/SQS ApproximateNumberOfMessagesVisible of ${OrderDeadLetterQueue.QueueName}, "
        "which nobody emits",
    ),
    (
        operations_rules.dashboards_know_how_much_memory_is_paid,
        put(f"{RELAY}/MemorySize", 1024),
        "Cost: Lambda, GB-seconds pays ${RelayRabbitMqFunction} otherwise than by its memory",
    ),
    (
        operations_rules.saved_queries_ask_for_what_is_logged,
        replace("RelayDeadLettersQuery/Properties/QueryString", "error_code", "errorCode"),
        "RelayDeadLettersQuery asks for errorCode, which none of its log groups has",
    ),
    (
        operations_rules.saved_queries_ask_for_what_is_logged,
        replace("OneTaskQuery/Properties/QueryString", "task_id", "order_id"),
        "OneTaskQuery asks for order_id, which none of its log groups has",
    ),
    (
        operations_rules.saved_queries_ask_for_what_is_logged,
        put(f"{API}/AccessLogSetting/Format", '{"status": "$context.status"}'),
        "; ".join(
            f"ApiErrorsQuery asks for {field}, which none of its log groups has"
            for field in ("caller", "error_type", "method", "path", "request_id")
        ),
    ),
    (
        operations_rules.saved_queries_ask_for_what_is_logged,
        append("ApiErrorsQuery/Properties/LogGroupNames", "/aws/lambda/darkroom"),
        "ApiErrorsQuery asks log groups that there are not",
    ),
    (
        operations_rules.saved_queries_stand_in_a_folder_of_the_stack,
        put("ApiErrorsQuery/Properties/Name", "API errors"),
        "ApiErrorsQuery may be taken for another stack's",
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__.replace("_", " "))
def test_the_template_keeps(rule: Rule) -> None:
    assert rule(TEMPLATE) == []


@pytest.mark.parametrize(("rule", "damage", "findings"), CASES, ids=[case[2] for case in CASES])
def test_a_broken_copy_is_found_out(rule: Rule, damage: Break, findings: str) -> None:
    broken = deepcopy(TEMPLATE)
    damage(broken)
    assert "; ".join(rule(broken)) == findings


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__.replace("_", " "))
def test_a_broken_copy_and_the_documentation_stand_behind(rule: Rule) -> None:
    assert rule in [case[0] for case in CASES]
    assert "https://docs.aws.amazon.com/" in (rule.__doc__ or "")
