"""RabbitMQ: the broker that a stack may make, and the mappings by which Lambda reads one."""

from __future__ import annotations

import json

from tests.template.template import Findings, Template, access_of, either, target

# A stack that reads a broker.
_READ = {
    "RabbitMqIntake": "true",
    "RabbitMqBrokerArn": "arn:aws:mq:...",
    "RabbitMqSecretArn": "arn:aws:secretsmanager:...",
}


def brokers_are_made_when_asked_for_and_closed(template: Template) -> Findings:
    """They are paid by the hour.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/conditions-section-structure.html
    https://docs.aws.amazon.com/amazon-mq/latest/developer-guide/using-amazon-mq-securely.html
    """
    for name in (*template.brokers, *(name for name, _, _ in template.mq_mappings())):
        if template.exists(name):
            yield f"{name} is there by default"
    for name, broker in template.brokers.items():
        if template["Parameters"].get(target(broker.get("PubliclyAccessible")), {}).get("Default") != "false":
            yield f"{name} is open to the public by default"


def brokers_take_their_user_from_a_generated_secret(template: Template) -> Findings:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-amazonmq-broker-user.html"""
    for name, broker in template.brokers.items():
        users = {
            secret: {
                key.title(): {"Fn::Sub": f"{{{{resolve:secretsmanager:${{{secret}}}:SecretString:{key}}}}}"}
                for key in ("username", "password")
            }
            for secret in template.secrets
        }
        taken = [secret for secret, user in users.items() if broker["Users"] == [user]]
        if not taken:
            yield f"{name} does not take its one user from a secret"
        for secret in taken:
            made = template.secrets[secret].get("GenerateSecretString", {})
            if made.get("GenerateStringKey") != "password" or "username" not in made.get("SecretStringTemplate", ""):
                yield f"{secret} does not generate the password"
            if made.get("ExcludePunctuation") is not True or not 12 <= made.get("PasswordLength", 32) <= 250:
                yield f"{secret} generates passwords that {name} may refuse"


def functions_have_a_route_for_every_queue_that_is_read_for_them(template: Template) -> Findings:
    """A queue is by default called what it brings.

    https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html
    """
    for function in sorted({function for _, function, _ in template.mq_mappings()}):
        routes = json.loads(template.environment(function)["ROUTES"]["Fn::Sub"])
        read = {
            f"${{{target(values['Queues'][0])}}}::${{{target(access_of(values, 'VIRTUAL_HOST'))}}}"
            for _, of, values in template.mq_mappings()
            if of == function
        }
        yield from (f"{function} has no route for {source}" for source in sorted(read - routes.keys()))
        yield from (
            f"{function} has a route for {source}, which is not read" for source in sorted(routes.keys() - read)
        )
        for source, to in routes.items():
            parameter = source[2:].partition("}")[0]
            if template["Parameters"][parameter]["Default"] != to:
                yield f"{function} goes from {parameter} to {to}"


def immutable_settings_of_broker_mappings_are_guarded(template: Template) -> Findings:
    """Lambda's update of a mapping takes no queue, no virtual host, and no empty batch window.

    https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html
    """
    (guard,) = template.change_guards.values()
    windows = [value["Fn::If"][0] for value in guard["Mapping"] if isinstance(value, dict) and "Fn::If" in value]
    nothing_read = _READ | {target(guard["Reads"]) or "": "false"}
    for name, _, values in template.mq_mappings():
        for kept in (*values["Queues"], *(access["URI"] for access in values["SourceAccessConfigurations"])):
            if kept not in guard["Mapping"]:
                yield f"{name} may change {target(either(kept)[0])} unnoticed"
        if values.get("MaximumBatchingWindowInSeconds", {}).get("Fn::If", [None])[0] not in windows:
            yield f"{name} may lose its batch window unnoticed"
        if template.exists(name, nothing_read):
            yield f"{name} is there while nothing is read"
