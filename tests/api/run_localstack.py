"""Start LocalStack with what these tests need and it lacks.

Runs in LocalStack's own environment (.local/localstack), never in the project's. The settings come as LocalStack's own
environment variables from ``conftest.py``. LocalStack 4.14.0 is the last one that needs no account: what stands here
goes when LocalStack goes.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))
from local.emulators.sqs_in_json import fault_of, message_in_json

CHECKED_VERSION = "4.14.0"


def listen_on_the_loopback_address() -> None:
    """Keep to the host that GATEWAY_LISTEN names. LocalStack takes its port alone and listens on every interface."""
    from localstack.runtime.server import twisted

    listen = twisted.endpoints.TCP4ServerEndpoint

    def patched(reactor: Any, port: int) -> Any:
        return listen(reactor, port, interface="127.0.0.1")

    twisted.endpoints.TCP4ServerEndpoint = patched


def import_gateway_responses() -> None:
    """Read the gateway's own answers from the OpenAPI description. LocalStack leaves them out."""
    from localstack.services.apigateway.legacy import provider
    from localstack.services.apigateway.models import apigateway_stores
    from localstack.services.apigateway.next_gen.execute_api.gateway_response import build_gateway_response

    import_api = provider.import_api_from_openapi_spec

    def patched(rest_api: Any, context: Any, open_api_spec: dict[str, Any], mode: Any) -> Any:
        container = apigateway_stores[context.account_id][context.region].rest_apis[rest_api.id]
        for kind, answer in open_api_spec.get("x-amazon-apigateway-gateway-responses", {}).items():
            container.gateway_responses[kind] = build_gateway_response(
                kind,
                status_code=str(answer["statusCode"]) if "statusCode" in answer else None,
                response_parameters=answer.get("responseParameters"),
                response_templates=answer.get("responseTemplates"),
                default_response=False,
            )
        return import_api(rest_api, context, open_api_spec, mode)

    provider.import_api_from_openapi_spec = patched


def render_gateway_responses() -> None:
    """Answer what the gateway itself refuses with the API's template and headers. LocalStack takes the status alone."""
    from localstack.services.apigateway.next_gen.execute_api.gateway_response import get_gateway_response_or_default
    from localstack.services.apigateway.next_gen.execute_api.handlers.gateway_exception import GatewayExceptionHandler
    from localstack.services.apigateway.next_gen.execute_api.template_mapping import ApiGatewayVtlTemplate

    answer = GatewayExceptionHandler.create_exception_response

    def patched(self: Any, exception: Any, context: Any) -> Any:
        response = answer(self, exception, context)
        configured = get_gateway_response_or_default(exception.type, context.deployment.rest_api.gateway_responses)
        template = (configured.get("responseTemplates") or {}).get("application/json")
        if template:
            error = {**context.context_variables["error"], "messageString": json.dumps(exception.message)}
            variables = {"context": {**context.context_variables, "error": error}}
            response.set_data(ApiGatewayVtlTemplate().render_vtl(template, variables))
        for name, value in (configured.get("responseParameters") or {}).items():
            header = name.removeprefix("gatewayresponse.header.")
            if header != name and value.startswith("'"):  # a constant
                response.headers[header] = value.strip("'")
        return response

    GatewayExceptionHandler.create_exception_response = patched


def check_bodies_as_aws_does() -> None:
    """Answer 415 to a body of another type, and 400 to one that is not text. LocalStack takes the one for JSON and
    fails at the other.
    """
    from localstack.services.apigateway.next_gen.execute_api.gateway_response import BadRequestBodyError
    from localstack.services.apigateway.next_gen.execute_api.handlers.integration_request import (
        IntegrationRequestHandler,
    )
    from localstack.services.apigateway.next_gen.execute_api.handlers.method_request import MethodRequestHandler

    validate = MethodRequestHandler.__call__

    def patched(self: Any, chain: Any, context: Any, response: Any) -> None:
        if context.integration["type"] == "AWS":
            IntegrationRequestHandler.get_request_template(context.integration, context.invocation_request)
        try:
            validate(self, chain, context, response)
        except UnicodeDecodeError:
            raise BadRequestBodyError("Invalid request body") from None

    MethodRequestHandler.__call__ = patched


def speak_json_as_sqs_does() -> None:
    """Answer in the JSON that SQS has for whoever accepts it. LocalStack writes its XML's names as JSON."""
    from localstack.aws.api import CommonServiceException
    from localstack.aws.protocol.parser import ProtocolParserError
    from localstack.http import Response
    from localstack.services.sqs import query_api
    from localstack.utils.strings import long_uid

    answer = query_api.handle_request

    def patched(request: Any, region: str) -> Any:
        if request.headers.get("Accept") != "application/json" or not request.values.get("Action"):
            return answer(request, region)
        metadata = {"RequestId": long_uid()}
        try:
            result, operation = query_api.try_call_sqs(request, region)
        except CommonServiceException as error:
            blame = "Sender" if error.status_code < 500 else "Receiver"
            told = {"Code": error.code, "Message": error.message or "", "Type": blame}
            return json_response({"Error": told, **metadata}, error.status_code)
        except ProtocolParserError as error:
            told = {"Code": "MalformedInput", "Message": str(error), "Type": "Sender"}
            return json_response({"Error": told, **metadata}, 400)
        body: dict[str, Any] = {"ResponseMetadata": metadata}
        if operation.name == "ReceiveMessage":
            body["ReceiveMessageResult"] = {
                "messages": [message_in_json(m) for m in result.get("Messages", [])] or None
            }
        elif operation.name == "SendMessage":
            names = ("MD5OfMessageAttributes", "MD5OfMessageBody", "MD5OfMessageSystemAttributes", "MessageId")
            body["SendMessageResult"] = {**{name: result.get(name) for name in names}, "SequenceNumber": None}
        return json_response({f"{operation.name}Response": body}, 200)

    def json_response(body: dict[str, Any], status: int) -> Any:
        return Response(json.dumps(body), status, content_type="application/json")

    query_api.handle_request = patched


def take_parameters_as_sqs_does() -> None:
    """Take a list of one without its number, and refuse values that SQS refuses. LocalStack overlooks both,
    and fails at a receipt handle with characters that none has.
    """
    from localstack.aws.api import CommonServiceException
    from localstack.services.sqs import query_api

    call = query_api.try_call_sqs
    encode = query_api.urlencode

    def patched(request: Any, region: str) -> Any:
        if fault := fault_of(request.values):
            raise CommonServiceException(*fault, 400, sender_fault=True)
        if not re.fullmatch(r"[A-Za-z0-9+/=]+", request.values.get("ReceiptHandle", "none")):
            raise CommonServiceException("ReceiptHandleIsInvalid", "The handle is not valid.", 404, sender_fault=True)
        return call(request, region)

    def numbered(parameters: dict[str, str]) -> str:
        return str(encode({name + ".1" * name.endswith("AttributeName"): value for name, value in parameters.items()}))

    query_api.try_call_sqs, query_api.urlencode = patched, numbered


def hand_requests_of_functions_back() -> None:
    """Answer the event that the function would get. There is no Lambda here, which would need Docker."""
    from localstack.services.apigateway.next_gen.execute_api.integrations.aws import RestApiAwsProxyIntegration

    def patched(function_arn: str, event: bytes, source_arn: str, credentials: str | None = None) -> bytes:
        return json.dumps({"statusCode": 200, "body": event.decode()}).encode()

    RestApiAwsProxyIntegration.call_lambda = staticmethod(patched)


def transform_before_all_else() -> None:
    """Apply SAM's transform before a template is looked at. LocalStack looks first, and finds no `QueuesApi.Stage`."""
    from localstack.services.cloudformation.engine.v2.change_set_model_transform import ChangeSetModelTransform
    from localstack.services.cloudformation.v2 import provider
    from localstack.services.cloudformation.v2.types import engine_parameter_value

    known = provider.CloudformationProviderV2
    set_up = known._setup_change_set_model  # there is no public hook

    def transformed(template: Any, parameters: Any, region: str) -> Any:
        if "Transform" not in (template or {}):
            return template
        values = {name: engine_parameter_value(parameter) for name, parameter in parameters.items()}
        made = ChangeSetModelTransform._apply_global_serverless_transformation(region, template, values)
        return {name: section for name, section in made.items() if name != "Transform"}

    def patched(
        change_set: Any,
        before_template: Any,
        after_template: Any,
        before_parameters: Any,
        after_parameters: Any,
        **more: Any,
    ) -> None:
        account, region = change_set.stack.account_id, change_set.stack.region_name
        wanted = after_template and known._resolve_parameters(
            after_template, after_parameters, account, region, before_parameters
        )
        set_up(
            change_set=change_set,
            before_template=transformed(before_template, before_parameters, region),
            after_template=transformed(after_template, wanted, region),
            before_parameters=before_parameters,
            after_parameters=after_parameters,
            **more,
        )

    known._setup_change_set_model = staticmethod(patched)


def replace_only_what_must_be() -> None:
    """Replace a resource if one of its lasting properties changes. LocalStack does so if it refers to what changes."""
    from localstack.services.cloudformation.engine.v2.change_set_model import is_nothing
    from localstack.services.cloudformation.engine.v2.change_set_model_executor import ChangeSetModelExecutor
    from localstack.services.cloudformation.resource_provider import ResourceProviderExecutor

    change = ChangeSetModelExecutor._execute_resource_change

    def patched(self: Any, name: str, before: Any, after: Any) -> None:
        if not is_nothing(before) and not is_nothing(after) and after.requires_replacement:
            schema = ResourceProviderExecutor.try_load_resource_provider(after.resource_type).SCHEMA
            lasting = [path.removeprefix("/properties/") for path in schema["createOnlyProperties"]]
            was, is_now = before.properties.properties, after.properties.properties
            after.requires_replacement = any(was.get(one) != is_now.get(one) for one in lasting)
        change(self, name, before, after)

    ChangeSetModelExecutor._execute_resource_change = patched


def keep_functions_that_never_run() -> None:
    """Make functions and their queues' mappings as told, and run none. LocalStack runs them in Docker."""
    from localstack.services.lambda_.event_source_mapping.pollers.sqs_poller import SqsPoller
    from localstack.services.lambda_.invocation import version_manager

    runs_nothing = SimpleNamespace(prepare_version=lambda _: None, cleanup_version=lambda _: None)
    version_manager.get_runtime_executor = lambda: runs_nothing
    SqsPoller.poll_events = lambda _: None


def keep_tables_in_memory() -> None:
    """Take the tables of moto, which LocalStack brings. Its own are DynamoDB Local, which needs Java."""
    from localstack.aws.api.dynamodb import DynamodbApi
    from localstack.services.moto import MotoFallbackDispatcher
    from localstack.services.plugins import SERVICE_PLUGINS, Service

    class Tables(DynamodbApi):  # type: ignore[misc]
        pass

    SERVICE_PLUGINS.add_service(Service.for_provider(Tables(), MotoFallbackDispatcher))


def main() -> None:
    """Patch, then serve until told to stop."""
    installed = version("localstack-core")
    if installed != CHECKED_VERSION:
        sys.exit(
            f"{Path(__file__).name} was checked with LocalStack {CHECKED_VERSION}, not {installed}: read it again."
        )
    listen_on_the_loopback_address()
    import_gateway_responses()
    render_gateway_responses()
    check_bodies_as_aws_does()
    speak_json_as_sqs_does()
    take_parameters_as_sqs_does()
    hand_requests_of_functions_back()
    transform_before_all_else()
    replace_only_what_must_be()
    keep_functions_that_never_run()
    keep_tables_in_memory()
    from localstack.runtime.main import main as serve

    serve()


if __name__ == "__main__":
    main()
