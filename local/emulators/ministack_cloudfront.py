"""CloudFront as the template needs it and MiniStack lacks it. ``run_ministack.py`` installs it in the emulator."""

from __future__ import annotations

import os
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from local.emulators.ministack_faults import App, Receive, Send

# MiniStack asks what a signature's key may do; that the request is signed at all is the guard's business.
_SIGNED = "AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"


def install() -> None:
    """Install what makes a distribution reach a function's URL. `app_of` is installed by the guard."""
    sign_for_function_urls()


def app_of(host: str) -> App | None:
    """Return an application that serves the distribution with this alternate domain name, or None.

    MiniStack serves CloudFront's own names only, among all of its services: a request that it routes to another one
    would arrive there without a signature. Here nothing but the distribution sees the request. ``https-only`` takes
    plain HTTP on this machine for HTTPS, because no browser trusts the emulator's certificate. Remove this when
    MiniStack serves alternate domain names and ``tests/integration/test_delivery.py`` passes without it.
    """
    from ministack.services import cloudfront

    for distribution in cloudfront._distributions.values():  # noqa: SLF001 # there is no public hook
        if f"<CNAME>{host.lower()}</CNAME>" in distribution["config_xml"]:
            return partial(_serve, distribution)
    return None


async def _serve(distribution: Any, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    from ministack.core import iam_evaluator
    from ministack.services import cloudfront

    del receive  # the distribution takes no bodies
    iam_evaluator.pin_request_origin(scope["client"][0], secure_transport=True)  # CloudFront reads the bucket over TLS
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope["query_string"].decode("latin-1")
    status, answered, body = await cloudfront.handle_viewer_request(
        distribution,
        scope["method"],
        scope["path"],
        scope["raw_path"].decode("latin-1"),
        query,
        headers | {"x-forwarded-proto": "https"},
        b"",
        parse_qs(query, keep_blank_values=True),
        scope["client"][0],
    )
    lines = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, values in answered.items()
        for value in (values if isinstance(values, list) else [values])
        if name.lower() != "content-length" or scope["method"] == "HEAD"
    ]
    if scope["method"] != "HEAD":
        lines.append((b"Content-Length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


def sign_for_function_urls() -> None:
    """Let a distribution with an origin access control call a function's URL, if the function's policy allows it.

    MiniStack sends the request unsigned. Remove this when ``tests/integration/test_delivery.py`` passes without it.
    https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-restricting-access-to-lambda.html
    """
    from ministack.core import iam_evaluator
    from ministack.services import cloudfront, lambda_svc

    fetch = cloudfront._fetch_from_origin  # noqa: SLF001 # there is no public hook

    def allowed(policy: Any, arn: str, action: str, distribution: str) -> bool:
        context = iam_evaluator.EvalContext(
            principal_arn="*",
            principal_type="Service",
            principal_account="",
            action=action,
            resource_arn=arn,
            region="us-east-1",
            service_context={
                "aws:sourcearn": distribution,
                "lambda:functionurlauthtype": "AWS_IAM",
                "lambda:invokedviafunctionurl": "true",
            },
        )
        result = iam_evaluator.evaluate_resource_policy(policy, context, service="cloudfront.amazonaws.com")
        return bool(result.decision == "Allow")

    async def signed(origin: Any, method: str, uri: str, query: str, headers: Any, *args: Any) -> Any:
        host = cloudfront._registered_function_url(origin) if origin.get("oac_id") else None  # noqa: SLF001
        if host is not None:
            account, region, name, _, _ = lambda_svc.resolve_function_url(host.partition(".")[0])
            arn = f"arn:aws:lambda:{region}:{account}:function:{name}"
            record, _, _ = lambda_svc._get_func_record_for_ref_in_scope(  # noqa: SLF001
                name, account_id=account, region=region
            )
            actions = ("lambda:InvokeFunctionUrl", "lambda:InvokeFunction")
            if not all(allowed(record["policy"], arn, action, args[-1]) for action in actions):
                return 403, "Forbidden", {"content-type": "application/json"}, b'{"Message":"Forbidden"}'
            headers = {**headers, "authorization": _SIGNED.format(key=os.environ["AWS_ACCESS_KEY_ID"])}
        return await fetch(origin, method, uri, query, headers, *args)

    cloudfront._fetch_from_origin = signed  # noqa: SLF001
