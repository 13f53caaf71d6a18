"""The API: who calls it, what it passes on to queues and functions, and how it answers."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.template.template import Findings, Template, granted, integration_of, queue_of, target

_ANY = "x-amazon-apigateway-any-method"


def methods_know_who_calls_and_on_whose_quota(template: Template) -> Findings:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/permissions.html"""
    for api, method, operation, _ in template.operations():
        schemes = template.apis[api]["DefinitionBody"]["components"]["securitySchemes"]
        signed = [name for name, s in schemes.items() if s.get("x-amazon-apigateway-authtype") == "awsSigv4"]
        metered = [name for name, scheme in schemes.items() if scheme["name"] == "x-api-key"]
        # In one requirement: those of a list are alternatives.
        if operation.get("security") != [{name: [] for name in (*signed, *metered)}] or not (signed and metered):
            yield f"{method} may be called unsigned or unmetered"
    planned = {target(stage["ApiId"]) for plan in template.usage_plans.values() for stage in plan["ApiStages"]}
    for api, values in template.apis.items():
        if api not in planned:
            yield f"{api} has no usage plan"
        if not values.get("MethodSettings"):  # what each one limits: cfn_lint_rules.txt
            yield f"{api} takes any number of requests"


def methods_check_requests_first(template: Template) -> Findings:
    """A body of a type that no model is for would pass unchecked.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-method-request-validation.html
    """
    for api, values in template.apis.items():
        body = values["DefinitionBody"]
        chosen = body.get("x-amazon-apigateway-request-validator")
        both = {"validateRequestBody": True, "validateRequestParameters": True}
        if body.get("x-amazon-apigateway-request-validators", {}).get(chosen) != both:
            yield f"{api} does not check bodies and parameters"
    for _, method, operation, integration in template.operations():
        if "x-amazon-apigateway-request-validator" in operation:
            yield f"{method} has a validator of its own"
        made = integration.get("passthroughBehavior") == "never" and integration.get("requestTemplates")
        if not made and integration.get("type") != "aws_proxy":  # a function gets all that was sent, and checks it
            yield f"{method} passes bodies on that no template has made"
        content = operation.get("requestBody", {}).get("content", {})
        if method.startswith("POST") and "schema" not in content.get("application/json", {}):
            yield f"{method} takes any body"


def paths_answer_every_method(template: Template) -> Findings:
    """Known ones with what they do, others with those that are allowed.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/how-to-mock-integration.html
    """
    for api, values in template.apis.items():
        paths = values["DefinitionBody"]["paths"]
        yield from (f"{api} does not answer {path}" for path in ("/", "/{proxy+}") if path not in paths)
        for path, methods in paths.items():
            other = integration_of(methods.get(_ANY, {}))
            allowed = ", ".join(sorted(map(str.upper, methods.keys() - {_ANY}), reverse=True))
            answer = other.get("responses", {}).get("default", {})
            stated = answer.get("responseParameters", {}).get("method.response.header.Allow", "''").strip("'")
            if other.get("type") != "mock" or stated != allowed:
                yield f"{path} does not refuse other methods than {allowed or 'none'}"


def methods_call_queues_under_a_role_for_just_that(template: Template) -> Findings:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html#grant-least-privilege"""
    used: dict[str, set[tuple[str, str]]] = {}
    for _, _, _, integration in template.operations():
        if queue := queue_of(integration):
            action = re.search(r"\bAction=(\w+)", json.dumps(integration.get("requestTemplates")))
            does = f"sqs:{action[1]}" if action else "nothing"
            used.setdefault(target(integration.get("credentials")) or "no role", set()).add((does, queue))
    for role, calls in used.items():
        if len({(queue, action == "sqs:SendMessage") for action, queue in calls}) > 1:
            yield f"{role} is for more than one queue or direction"
        allowed = {(action, target(resource) or "") for action, resource in granted(template.statements_of(role))}
        yield from (f"{role} does not allow {action} on {queue}" for action, queue in sorted(calls - allowed))
        yield from (f"{role} allows {action} on {queue}" for action, queue in sorted(allowed - calls))


def functions_behind_methods_let_that_api_alone_call_them(template: Template) -> Findings:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html#apigateway-permissions"""
    api_arn = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:"
    behind = {
        found[1]: {"Fn::Sub": f"{api_arn}${{{api}}}/*"}
        for api, _, _, integration in template.operations()
        if (found := re.search(r"functions/\$\{(\w+)\.Arn\}", str(integration.get("uri"))))
    }
    for function, api in behind.items():
        callers = [
            (values["Principal"], values.get("SourceArn"))
            for values in template.permissions.values()
            if target(values["FunctionName"]) == function
        ]
        if callers != [("apigateway.amazonaws.com", api)]:
            yield f"{function} may not be called by exactly its API"


def methods_encode_every_value_that_they_pass_on(template: Template) -> Findings:
    """A value that is not encoded brings parameters of its own with it: another action, another queue.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-mapping-template-reference.html
    """
    directives = re.compile(
        r"#set\(\$query = \$input\.params\(\)\.querystring\)|#if\(\$query\.get\('\w+'\)\)|#end"
        r"|#set\(\$most = (?:\$query\.get\('MaxNumberOfMessages'\)|'\d')\)"
        r"|#if\((?:\$most(?: == '\d+')?(?: \|\| )?)+\)"
    )
    value = re.compile(
        r"(\w+)=\$util\.urlEncode\((?:(?:\$query|\$input\.params\(\)\.querystring)\.get\('(\w+)'\)|\$most)\)"
    )
    for _, method, operation, integration in template.operations():
        if queue_of(integration) is None:
            continue
        names = {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
        passed_on = integration.get("requestParameters", {}).keys() - {"integration.request.header.Content-Type"}
        templates = integration.get("requestTemplates", {}).values()
        for part in [p for text in templates for p in directives.sub("", text).split("&")]:
            if found := value.fullmatch(part):
                passed_on |= {found[1]} if found[1] == (found[2] or "MaxNumberOfMessages") else {part}
            elif not re.fullmatch(r"Action=\w+|MessageBody=\$util\.urlEncode\(\$input\.body\)", part):
                passed_on |= {part}
        if passed_on != names:
            yield f"{method} does not pass exactly {', '.join(sorted(names)) or 'nothing'}, encoded"


def methods_answer_as_documented_and_errors_in_one_shape(template: Template) -> Findings:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-gatewayResponse-definition.html"""
    for api, values in template.apis.items():
        gateway = values["DefinitionBody"].get("x-amazon-apigateway-gateway-responses", {})
        yield from (f"{api} has no {kind}" for kind in ("DEFAULT_4XX", "DEFAULT_5XX") if kind not in gateway)
        yield from (f"{kind} has another shape" for kind, answer in gateway.items() if not _is_error(answer))
    for _, method, operation, integration in template.operations():
        answers = integration.get("responses", {})
        if "default" not in answers and integration.get("type") != "aws_proxy":
            yield f"{method} answers what it does not know with a bare 500"
        for answer in answers.values():
            if answer["statusCode"] not in operation.get("responses", {}):
                yield f"{method} does not document {answer['statusCode']}"
            if answer["statusCode"] >= "400" and not _is_error(answer):
                yield f"{method} answers {answer['statusCode']} in another shape"


def apis_log_no_content(template: Template) -> Findings:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html"""
    for api, values in template.apis.items():
        for key, value in json.loads(values["AccessLogSetting"]["Format"]).items():
            if re.search("body|querystring|header", value):
                yield f"{api} logs {key}"


def _is_error(answer: dict[str, Any]) -> bool:
    """Whether an answer's template makes {"error": {"code", "message", "allowed"?}}, whatever its variables hold."""
    text = answer.get("responseTemplates", {}).get("application/json", "")
    text = re.sub(r'"?(\$context\.error\.\w+|\$input\.json\([^)]*\))"?', '"x"', text)
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool({"code", "message"} <= error.keys() <= {"code", "message", "allowed"})
