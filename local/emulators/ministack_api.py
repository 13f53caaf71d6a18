"""What MiniStack's API Gateway lacks for api/openapi.yaml: the import, and the mapping of requests to SQS and back.

``run_ministack.py``, which checks the version, installs it in the emulator's own environment. It can be removed when
``tests/integration/test_api.py`` passes without it; each part says what it fixes.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, quote
from uuid import uuid4

from local.emulators.sqs_in_json import fault_of, message_in_json

_ANY = "x-amazon-apigateway-any-method"
_INTEGRATION = "x-amazon-apigateway-integration"
_acknowledged: set[str] = set()


def install() -> None:
    """Fix the import, the templates and the call."""
    from ministack.services import apigateway_v1 as gateway

    _import_all_of_it(gateway)
    _quote_what_templates_take_from_json(gateway)
    _leave_out_what_a_condition_refuses(gateway)
    _look_at_the_media_type_first(gateway)
    _refuse_callers_in_the_api_s_own_words(gateway)
    _hand_the_path_on_encoded(gateway)
    gateway._invoke_sqs_v1 = _call_sqs  # noqa: SLF001 # there is no public hook


def _import_all_of_it(gateway: Any) -> None:
    """Import parameters, models, validators, templates, answers and ANY too. MiniStack imports paths and methods."""
    import_api, import_operation = gateway._import_rest_api, gateway._import_operation  # noqa: SLF001
    gateway._OPENAPI_HTTP_METHODS.add(_ANY)  # noqa: SLF001
    validators: dict[str, str] = {}  # of the API that is being imported

    def whole_api(spec: dict[str, Any], base_data: Any = None) -> Any:
        validators.clear()
        # Its id is unknown until the paths are imported, so the operations refer to their parts by name.
        api_id = import_api(spec, base_data)
        for response, settings in spec.get("x-amazon-apigateway-gateway-responses", {}).items():
            gateway._put_gateway_response(api_id, response, settings)  # noqa: SLF001
        schemas = spec.get("components", {}).get("schemas", {})
        for name in schemas:  # each with all the others, so that its references resolve
            schema = json.dumps({"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}})
            gateway._create_model(api_id, {"name": name, "schema": schema})  # noqa: SLF001
        validates = spec.get("x-amazon-apigateway-request-validators", {})
        chosen = validates.get(spec.get("x-amazon-apigateway-request-validator"), {})
        _, _, body = gateway._create_request_validator(api_id, {"name": "all", **chosen})  # noqa: SLF001
        for resource in gateway._resources[api_id].values():  # noqa: SLF001
            for method in resource["resourceMethods"].values():
                method["requestValidatorId"] = json.loads(body)["id"]
        return api_id

    def whole_operation(api_id: str, resource_id: str, http_method: str, operation: Any, *rest: Any) -> None:
        http_method = "ANY" if http_method == _ANY.upper() else http_method
        import_operation(api_id, resource_id, http_method, operation, *rest)
        method = gateway._resources[api_id][resource_id]["resourceMethods"][http_method]  # noqa: SLF001
        places = {"query": "querystring"}
        method["requestParameters"] = {
            f"method.request.{places.get(p['in'], p['in'])}.{p['name']}": p.get("required", False)
            for p in operation.get("parameters", [])
        }
        method["requestModels"] = {
            kind: content["schema"]["$ref"].rpartition("/")[2]
            for kind, content in operation.get("requestBody", {}).get("content", {}).items()
        }
        given, integration = operation[_INTEGRATION], method["methodIntegration"]
        for key in ("credentials", "requestParameters", "requestTemplates", "passthroughBehavior"):
            integration[key] = given.get(key) or integration[key]
        integration["integrationResponses"] = {
            pattern: {"selectionPattern": "" if pattern == "default" else pattern, **answer}
            for pattern, answer in given.get("responses", {}).items()  # none of a function
        }

    gateway._import_rest_api, gateway._import_operation = whole_api, whole_operation  # noqa: SLF001


def _quote_what_templates_take_from_json(gateway: Any) -> None:
    """Let ``$input.json`` answer JSON, as API Gateway does. MiniStack omits the quotes."""
    take = gateway._vtl_input  # noqa: SLF001

    def patched(steps: Any, state: Any) -> Any:
        if steps and steps[0][0] == "json":
            return json.dumps(take([("path", steps[0][1])], state))
        return take(steps, state)

    gateway._vtl_input = patched  # noqa: SLF001


def _leave_out_what_a_condition_refuses(gateway: Any) -> None:
    """Let templates have ``#if(...)...#end``, not nested. MiniStack writes the directive as text.

    A condition is a reference or ``a == b``, or several of them with ``||``.
    """
    render, value_of = gateway._vtl_render, gateway._vtl_value  # noqa: SLF001

    def is_true(condition: str, state: Any) -> bool:
        for part in condition.split("||"):
            left, equals, right = (side.strip() for side in part.partition("=="))
            value = value_of(left, state)
            if value is not None and (not equals or value == value_of(right, state)):
                return True
        return False

    def patched(text: str, state: Any) -> str:
        before, directive, rest = text.partition("#if")
        if not directive:
            return str(render(text, state))
        done = render(before, state)  # first: it may set what the condition asks for
        close = gateway._vtl_close_paren(rest, 0)  # noqa: SLF001
        holds = is_true(rest[1:close], state)
        block, _, after = rest[close + 1 :].partition("#end")
        return f"{done}{render(block, state) if holds else ''}{patched(after, state)}"

    gateway._vtl_render = patched  # noqa: SLF001


def _look_at_the_media_type_first(gateway: Any) -> None:
    """Refuse a media type that no template matches before the body is checked. MiniStack checks any body as JSON."""
    check = gateway._check_request_validation  # noqa: SLF001

    def patched(method: dict[str, Any], api_id: str, request: Any, headers: Any, *rest: Any) -> Any:
        refused = gateway._check_passthrough_behavior(method.get("methodIntegration") or {}, headers)  # noqa: SLF001
        return refused or check(method, api_id, request, headers, *rest)

    gateway._check_request_validation = patched  # noqa: SLF001


def _refuse_callers_in_the_api_s_own_words(gateway: Any) -> None:
    """Answer a call that the caller's policy does not allow with the gateway response ACCESS_DENIED."""
    from ministack import app
    from ministack.core.iam_evaluator import AuthError

    enforce = app._enforce_execute_api  # noqa: SLF001 # there is no public hook
    gateway._AUTHENTICATION_GATEWAY_ERRORS["AccessDenied"] = ("ACCESS_DENIED", "AccessDeniedException")  # noqa: SLF001

    def patched(
        api_id: str, stage: str, method: str, path: str, headers: Any, query: Any, *rest: Any, **more: Any
    ) -> Any:
        refused = enforce(api_id, stage, method, path, headers, query, *rest, **more)
        told = json.loads(refused[2]) if refused else {}
        if "AccessDenied" not in told.get("__type", ""):
            return refused
        error = AuthError("AccessDenied", told["message"])
        return gateway.authentication_error_response(api_id, stage, error, headers, query)

    app._enforce_execute_api = patched  # noqa: SLF001


def _hand_the_path_on_encoded(gateway: Any) -> None:
    """Give functions the path percent-encoded, as REST APIs do. MiniStack decodes it."""
    build = gateway._build_lambda_event_v1  # noqa: SLF001 # there is no public hook

    def patched(*request: Any, **more: Any) -> Any:
        event = build(*request, **more)
        event["path"] = quote(event["path"])
        event["pathParameters"] = {k: quote(v) for k, v in (event["pathParameters"] or {}).items()} or None
        return event

    gateway._build_lambda_event_v1 = patched  # noqa: SLF001


async def _call_sqs(integration: dict[str, Any], *request: Any, **_: Any) -> Any:
    """Call SQS with the integration's parameters and template, under its role, and map the answer as JSON.

    MiniStack passes no parameters on, ignores the role, and answers XML.
    """
    from ministack.services import apigateway_v1 as gateway

    headers, body, query = request[6:9]
    sent = {name: value[-1] if isinstance(value, list) else value for name, value in query.items()}
    given = integration["requestTemplates"] or {}
    media_type = next((v for k, v in headers.items() if k.lower() == "content-type"), "application/json")
    text = body.decode(errors="replace")
    # A body that no template is for goes to SQS unchanged: a method that lets this happen takes any call.
    if template := given.get(media_type.partition(";")[0].strip().lower()):
        text = gateway._render_request_template_v1(template, text, {**sent, "querystring": sent})  # noqa: SLF001
    mapped = []
    for target, source in (integration["requestParameters"] or {}).items():
        if target.startswith("integration.request.querystring."):
            # Decoded, and not encoded again: AWS does not say that it does.
            value = source.strip("'") if source.startswith("'") else sent.get(source.rpartition(".")[2])
            mapped += [f"{target.rpartition('.')[2]}={value}"] if value else []
    call = dict(parse_qsl("&".join([*mapped, text]), keep_blank_values=True))
    status, answer = await _answer_of_sqs(integration, call)
    return gateway._service_integration_response(integration, status, json.dumps(answer), "application/json", sent)  # noqa: SLF001


async def _answer_of_sqs(integration: dict[str, Any], call: dict[str, str]) -> tuple[int, dict[str, Any]]:
    from ministack.core.responses import request_scope
    from ministack.services import sqs

    _, _, _, region, _, path = integration["uri"].split(":", 5)
    account, queue = path.split("/")[1:]
    queue = call.pop("QueueUrl", queue).rpartition("/")[2]  # SQS prefers the parameter to the path
    action = call.pop("Action", "none")
    request_id = {"RequestId": str(uuid4())}

    def refused(status: int, code: str, message: str) -> tuple[int, dict[str, Any]]:
        kind = "Sender" if status < 500 else "Receiver"
        return status, {"Error": {"Code": code, "Message": message, "Type": kind}, **request_id}

    if not _may(integration["credentials"], account, region, action, queue):
        return refused(403, "AccessDenied", f"Access to the resource https://sqs.{region}.amazonaws.com/ is denied.")
    if fault := fault_of(call):
        return refused(400, *fault)
    # SQS also accepts one name without its number.
    numbered = {f"{key}.1" if key.endswith("AttributeName") else key: value for key, value in call.items()}
    url = sqs._queue_url_for_account(account, queue)  # noqa: SLF001
    try:
        with request_scope(account, region):
            result = await sqs._dispatch(action, {**sqs._normalise(action, numbered), "QueueUrl": url}, url)  # noqa: SLF001
    except sqs._Err as error:  # noqa: SLF001
        if call.get("ReceiptHandle") not in _acknowledged:
            return refused(error.status, error.code, error.message)
        result = {}  # a deleted message is acknowledged as well
    if action == "DeleteMessage":
        _acknowledged.add(call["ReceiptHandle"])
    answer: dict[str, Any] = {"ResponseMetadata": request_id}
    if action == "ReceiveMessage":
        answer["ReceiveMessageResult"] = {"messages": [message_in_json(m) for m in result.get("Messages", [])] or None}
    elif action == "SendMessage":
        answer["SendMessageResult"] = result
    return 200, {f"{action}Response": answer}


def _may(role_arn: str, account: str, region: str, action: str, queue: str) -> bool:
    """Whether the role's policies allow the call. MiniStack calls SQS without a role."""
    from ministack.core import iam_evaluator as iam

    context = iam.EvalContext(
        principal_arn=role_arn,
        principal_type="AssumedRole",
        principal_account=account,
        action=f"sqs:{action}",
        resource_arn=f"arn:aws:sqs:{region}:{account}:{queue}",
        region=region,
    )
    policies = iam._gather_role_policies(role_arn.rpartition("/")[2], account)  # noqa: SLF001
    return bool(iam.evaluate(context, policies).decision == "Allow")
