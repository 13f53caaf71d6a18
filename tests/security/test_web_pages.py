"""The laptop stack refuses web pages in the user's browser, and programs without the stack's keys."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
import pika
import psutil
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from pika.exceptions import AMQPError

from local.config import LocalConfig
from local.emulators import aws_emulator, mq_poller, payments, rabbitmq
from local.stack import Stack
from tests.chromium import COMMAND, PROGRAM

FOREIGN = {
    "a foreign origin": {"Origin": "https://evil.example"},
    "an origin of none": {"Origin": "null"},
    "another port of this machine": {"Origin": "http://127.0.0.1:3000"},
    "a cross-site request without origin": {"Sec-Fetch-Site": "cross-site"},
    "a same-site request without origin": {"Sec-Fetch-Site": "same-site"},
    "a name that an attacker's DNS gives this machine": {"Host": "evil.example:4566"},
    "a name that only looks like ours": {"Host": "127.0.0.1.evil.example"},
    "no more than text, as a form may send it": {"Content-Type": "text/plain"},
}
PATHS = {
    "reset": ("POST", "/_ministack/reset"),
    "settings": ("POST", "/_ministack/config"),
    "messages": ("GET", "/_ministack/sqs/messages"),
    "create a function": ("POST", "/2015-03-31/functions"),
    "list queues": ("POST", "/?Action=ListQueues"),
    "list buckets": ("GET", "/"),
    "faults": ("POST", "/_ministack/faults"),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", FOREIGN)
def test_the_emulator_refuses(stack: Stack, kind: str, path: str) -> None:
    method, address = PATHS[path]
    answer = requests.request(method, stack.endpoint_url + address, headers=FOREIGN[kind], data="{}", timeout=60)
    assert answer.status_code == 403, answer.text
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("key", ["AWSAccessKeyId", "X-Amz-Credential"])
@pytest.mark.parametrize("host", ["127.0.0.1", "x.cloudfront.localhost", "uploads.s3.localhost"])
@pytest.mark.parametrize(
    ("method", "path", "query", "headers"),
    [
        ("GET", "/", {"Action": "ListQueues"}, {}),
        ("GET", "/_aws/execute-api/", {"Action": "ListQueues"}, {}),
        ("GET", "/2015-03-31/functions", {}, {}),
        ("PUT", "/_aws/execute-api/stolen/v1/key", {}, {}),
        ("POST", "/_aws/execute-api/stolen/v1/key", {}, {"X-Amz-Target": "DynamoDB_20120810.ListTables"}),
    ],
    ids=["action", "action of the API's path", "functions", "object", "target"],
)
def test_a_key_without_a_signature_is_refused(
    stack: Stack, method: str, path: str, query: dict[str, str], headers: dict[str, str], host: str, key: str
) -> None:
    """MiniStack takes the key "test" for its administrator, and believes it without a signature."""
    port = stack.endpoint_url.rpartition(":")[2]
    scope = "/20261128/eu-central-1/sqs/aws4_request" if key == "X-Amz-Credential" else ""
    answer = requests.request(
        method,
        stack.endpoint_url + path,
        params=query | {key: "test" + scope},
        headers=headers | {"Host": f"{host}:{port}"},
        timeout=60,
    )
    assert answer.status_code == 403, answer.text


@pytest.mark.parametrize("kind", [kind for kind in FOREIGN if "text" not in kind])
def test_a_signature_does_not_help(stack: Stack, kind: str) -> None:
    # given the address of an object that its owner has signed
    bucket = stack.outputs["UploadsBucketName"]
    url = stack.s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": f"{uuid4()}"})
    assert requests.put(url, b"mine", headers=FOREIGN[kind], timeout=60).status_code == 403
    assert requests.put(url, b"mine", timeout=60).status_code == 200


@pytest.mark.parametrize(
    "keys",
    [("test", "test"), ("000000000000", "test"), ("111111111111", "test"), ("AKIAEXAMPLE", "test"), None],
    ids=["MiniStack's default", "an account", "another account", "an unknown key", "the right key, a wrong secret"],
)
@pytest.mark.parametrize(
    ("service", "call"),
    [
        ("lambda", "list_functions"),
        ("sqs", "list_queues"),
        ("s3", "list_buckets"),
        ("iam", "list_users"),
        ("sts", "get_caller_identity"),
        ("dynamodb", "list_tables"),
        ("cloudformation", "list_stacks"),
    ],
)
def test_keys_that_are_not_the_stacks_are_refused(
    stack: Stack, keys: tuple[str, str] | None, service: Any, call: str
) -> None:
    key_id, secret = keys or (stack.credentials["aws_access_key_id"], "wrong")
    session = boto3.Session(aws_access_key_id=key_id, aws_secret_access_key=secret, region_name=stack.region)
    with pytest.raises(ClientError) as refused:
        getattr(session.client(service, endpoint_url=stack.endpoint_url), call)()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


_QUESTIONS = {
    "another host in the target": "POST http://evil.example{path} HTTP/1.1\r\nHost: evil.example",
    "our host in the target": "POST http://127.0.0.1{path} HTTP/1.1\r\nHost: 127.0.0.1",
    "another host in the target alone": "POST http://evil.example{path} HTTP/1.1\r\nHost: 127.0.0.1",
    "two hosts": "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example",
    "two hosts in one": "POST {path} HTTP/1.1\r\nHost: 127.0.0.1, evil.example",
    "no host": "POST {path} HTTP/1.0",
    "an address of IPv6": "POST {path} HTTP/1.1\r\nHost: [::1]",
    "a name with a dot at its end": "POST {path} HTTP/1.1\r\nHost: localhost.",
    "a WebSocket": "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\nSec-WebSocket-Version: 13\r\nOrigin: http://127.0.0.1",
}


@pytest.mark.parametrize("path", ["/_ministack/reset", "/_aws/execute-api/a1/v1/results"])
@pytest.mark.parametrize("question", _QUESTIONS)
def test_odd_requests_are_refused(stack: Stack, question: str, path: str) -> None:
    _, payments_url = payments.split(stack.payments_url)
    for port in (url.rpartition(":")[2] for url in (stack.endpoint_url, payments_url)):
        with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as connection:
            connection.sendall(f"{_QUESTIONS[question].format(path=path)}\r\n\r\n".encode())
            line = connection.makefile("rb").readline().decode()
        assert re.match(r"HTTP/1\.[01] (400|401|403|404) ", line), (port, line)
    assert stack.lambda_.list_functions()["Functions"]


_ACTION = b"Action=Unsubscribe&SubscriptionArn=arn:aws:sns:eu-central-1:000000000000:images:1"
_MULTIPART = "multipart/form-data; boundary=x"
_FORM = b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\nmine\r\n--x--\r\n'


@pytest.mark.parametrize(
    ("method", "host", "path", "headers", "body"),
    [
        ("POST", "127.0.0.1", "/_aws/Execute-Api/a/b", {"Content-Type": "application/x-www-form-urlencoded"}, _ACTION),
        ("OPTIONS", "sns.localhost", "/_alb/x", {"Origin": "http://sns.localhost"}, _ACTION),
        ("OPTIONS", "127.0.0.1", "/_aws/lambda-url/{url}/", {"Origin": "http://127.0.0.1"}, b""),
        ("POST", "{url}.lambda-url.eu-central-1.localhost", "/{bucket}", {"Content-Type": _MULTIPART}, _FORM),
        ("POST", "sns.localhost", "/{bucket}", {"Content-Type": _MULTIPART}, _FORM),
    ],
    ids=["an API", "a question", "a question to a function", "a form for a function", "a form for another service"],
)
def test_what_needs_no_signature_leads_nowhere_else(
    stack: Stack, method: str, host: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    functions = [function["FunctionName"] for function in stack.lambda_.list_functions()["Functions"]]
    (located,) = (name for name in functions if "LocateImage" in name)
    function = stack.lambda_.get_function_url_config(FunctionName=located)
    names = {
        "bucket": stack.outputs["UploadsBucketName"],
        "url": urlsplit(function["FunctionUrl"]).netloc.split(".")[0],
    }
    answer = requests.request(
        method,
        stack.endpoint_url + path.format(**names),
        data=body,
        headers=headers | {"Host": host.format(**names)},
        timeout=60,
    )
    assert answer.status_code == 403
    assert "make env" in answer.text, "the guard has refused it, not what it guards"


def _signed(stack: Stack, method: str, url: str, service: str, body: str = "", **keys: str) -> dict[str, str]:
    """The headers of a signed request."""
    keys = keys or stack.credentials
    credentials = Credentials(keys["aws_access_key_id"], keys["aws_secret_access_key"])
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.ListQueues"}
    request = AWSRequest(method, url, headers if service == "sqs" else {}, body)
    SigV4Auth(credentials, service, stack.region).add_auth(request)
    return dict(request.headers.items())


@pytest.fixture
def nobody(stack: Stack) -> Iterator[dict[str, str]]:
    """The keys of a person who may do nothing."""
    iam, name = stack.client("iam"), f"nobody-{uuid4().hex}"
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName=name)


@pytest.mark.parametrize("name", ["Credential", "XCredential", "x/Credential"])
def test_a_second_key_in_a_signature_is_not_believed(stack: Stack, nobody: dict[str, str], name: str) -> None:
    """MiniStack acts for the first key that it finds, and takes "test" for its administrator's."""
    first = f"{name}=test/20261128/{stack.region}/{{}}/aws4_request, "
    # given somebody who may do nothing
    url = f"{stack.endpoint_url}/"
    headers = _signed(stack, "POST", url, "sqs", "{}", **nobody)
    headers["Authorization"] = headers["Authorization"].replace("Credential", first.format("sqs") + "Credential", 1)
    assert requests.post(url, "{}", headers=headers, timeout=60).status_code == 403
    # and somebody who has the API's key alone
    url = stack.outputs["ApiUrl"] + "/results?WaitTimeSeconds=0"
    unknown = f"Credential=AKIAUNKNOWN/20261128/{stack.region}/execute-api/aws4_request, "
    authorization = f"AWS4-HMAC-SHA256 {first.format('execute-api')}{unknown}SignedHeaders=host, Signature=00"
    headers = {"Authorization": authorization, "x-api-key": stack.outputs["ApiKey"]}
    assert requests.get(url, headers=headers, timeout=60).status_code == 403


@pytest.mark.parametrize("path", ["/_ministack/sqs/messages", "/_ministack/config", "/_localstack/x", "/health"])
def test_internal_paths_are_the_administrators(stack: Stack, nobody: dict[str, str], path: str) -> None:
    """MiniStack asks for nobody's permission there."""
    for method in ("GET", "POST"):
        headers = _signed(stack, method, stack.endpoint_url + path, "sqs", **nobody)
        answer = requests.request(method, stack.endpoint_url + path, headers=headers, timeout=60)
        assert (answer.status_code, "Only the administrator" in answer.text) == (403, True)


def test_a_signed_request_takes_no_other_body(stack: Stack) -> None:
    url, body = f"{stack.endpoint_url}/", '{"QueueNamePrefix": "none"}'
    headers = _signed(stack, "POST", url, "sqs", body)
    assert requests.post(url, body, headers=headers, timeout=60).status_code == 200
    digest = {"X-Amz-Content-SHA256": hashlib.sha256(body.encode()).hexdigest()}
    for more in ({}, digest):
        assert requests.post(url, "{}", headers=headers | more, timeout=60).status_code == 403


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"X-Amz-Target": "AmazonSQS.ListQueues", "Content-Type": "application/x-amz-json-1.0"}, "{}"),
        ({"X-Amz-Target": "DynamoDB_20120810.ListTables", "Content-Type": "application/x-amz-json-1.0"}, "{}"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "Action=ListUsers&Version=2010-05-08"),
    ],
    ids=["a target", "another target", "a form"],
)
def test_an_address_to_upload_to_opens_no_other_service(stack: Stack, headers: dict[str, str], body: str) -> None:
    bucket = stack.outputs["UploadsBucketName"]
    url = stack.s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": f"{uuid4()}"})
    assert requests.put(url, body, headers=headers, timeout=60).status_code == 403
    assert requests.put(url, body, timeout=60).status_code == 200


def test_a_functions_keys_do_not_follow_from_its_name(stack: Stack) -> None:
    name = stack.outputs["ProcessImageFunctionName"]
    function = stack.lambda_.get_function_configuration(FunctionName=name)
    for arn in (function["FunctionArn"], f"{function['FunctionArn']}:{function['Version']}"):
        digest = hashlib.sha256(f"{arn}:{function['Role']}".encode()).hexdigest()
        session = boto3.Session(
            f"ASIA{digest[:16].upper()}",
            hashlib.sha256(f"secret:{digest}".encode()).hexdigest(),
            hashlib.sha256(f"token:{digest}".encode()).hexdigest(),
            stack.region,
        )
        with pytest.raises(ClientError, match="invalid"):
            session.client("sts", endpoint_url=stack.endpoint_url).get_caller_identity()


def test_a_form_without_a_signed_policy_stores_nothing(stack: Stack) -> None:
    bucket, key = stack.outputs["UploadsBucketName"], f"{uuid4()}"
    for fields in ({"key": key}, {"key": key, "policy": "e30=", "x-amz-signature": "00"}):
        form: dict[str, Any] = {name: (None, value) for name, value in fields.items()} | {"file": ("a", b"not mine")}
        answer = requests.post(f"{stack.endpoint_url}/{bucket}", files=form, timeout=60)
        assert answer.status_code in (400, 403), answer.text
    assert "Contents" not in stack.s3.list_objects_v2(Bucket=bucket, Prefix=key)


def test_only_this_user_can_read_the_keys(stack: Stack, config: LocalConfig) -> None:
    for name in ("stack.json", "start.json"):
        assert (config.folder / name).stat().st_mode & 0o077 == 0


def test_the_brokers_password_and_the_other_keys_are_no_arguments(
    stack: Stack, broker: str, config: LocalConfig
) -> None:
    """Every user of a machine sees the arguments of every process."""
    servers = [server.running(config) for server in (aws_emulator, payments, rabbitmq, mq_poller)]
    family = [one for server in servers if server for one in (server, *server.children(recursive=True))]
    assert len(family) >= len(servers)
    secrets = {stack.credentials["aws_secret_access_key"], config.keys.rabbitmq_password, config.keys.stripe_key}
    commands = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]) if p in family]
    assert [command for command in commands if any(secret in command for secret in secrets)] == []


@pytest.mark.parametrize("kind", [kind for kind in FOREIGN if "text" not in kind])
@pytest.mark.parametrize("path", ["/v1/payment_intents", "/_config/faults"])
def test_the_payment_provider_refuses(stack: Stack, kind: str, path: str) -> None:
    key, endpoint_url = payments.split(stack.payments_url)
    for method in ("GET", "POST"):
        answer = requests.request(method, endpoint_url + path, headers=FOREIGN[kind], auth=(key, ""), timeout=60)
        assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/v1/payment_intents", "/_config/faults", "/_config/data", "/absent"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer sk_test_guessed"},
        {"Authorization": "Basic c2tfdGVzdF9ndWVzc2VkOg=="},
        {"Authorization": "Basic !"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \u00fc"},
    ],
    ids=["no key", "another", "another as a user", "no base64", "an empty key", "no ASCII"],
)
def test_the_payment_provider_accepts_only_its_own_key(stack: Stack, headers: dict[str, str], path: str) -> None:
    _, endpoint_url = payments.split(stack.payments_url)
    for method in ("GET", "POST", "DELETE"):
        answer = requests.request(method, endpoint_url + path, headers=headers, timeout=60)
        assert answer.status_code == 401


def test_the_broker_has_no_guest(stack: Stack, broker: str, config: LocalConfig) -> None:
    parameters = pika.ConnectionParameters("127.0.0.1", config.rabbitmq_port, connection_attempts=1)
    with pytest.raises(AMQPError):
        pika.BlockingConnection(parameters).close()  # as guest, pika's default


class _Page(BaseHTTPRequestHandler):
    """Serves one page, and takes what its script reports."""

    def do_GET(self) -> None:
        self._answer(self.server.page)  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.reports.put(json.loads(body))  # type: ignore[attr-defined]
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    server.reports = Queue()
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _visit(site: Any, script: str, tmp_path: Path) -> dict[str, str]:
    """Open a page with a script in Chromium; returns what the script reported."""
    if PROGRAM is None:
        pytest.skip("There is no Chromium or Chrome.")
    site.page = f"""<meta charset=utf-8><script>
    const told = {{}};
    const attempt = async (name, act) => {{
      try {{ const r = await act(); told[name] = r && r.status !== undefined ? r.type + " " + r.status : String(r); }}
      catch (error) {{ told[name] = "failed"; }}
    }};
    (async () => {{ {script}
      await fetch("/", {{method: "POST", body: JSON.stringify(told)}});
    }})();</script>""".encode()
    url = f"http://localhost:{site.server_port}/"
    environment = os.environ | {"HOME": str(tmp_path)}
    with subprocess.Popen(  # noqa: S603
        [PROGRAM, *COMMAND, f"--user-data-dir={tmp_path / 'chromium'}", url],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as browser:
        try:
            told: dict[str, str] = site.reports.get(timeout=120)
            return told
        finally:
            browser.terminate()


def test_a_page_in_a_real_browser_is_refused(stack: Stack, site: Any, tmp_path: Path) -> None:
    # given a function as an attacker would make it, in requests that need no preflight
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.py", "def handler(event, context): open('/tmp/owned', 'w')")
    role = stack.lambda_.get_function_configuration(FunctionName=stack.outputs["ProcessImageFunctionName"])["Role"]
    function = {
        "FunctionName": "owned",
        "Runtime": "python3.13",
        "Role": role,
        "Handler": "index.handler",
        "Code": {"ZipFile": base64.b64encode(archive.getvalue()).decode()},
    }
    body = json.dumps(json.dumps(function))
    _, payments_url = payments.split(stack.payments_url)
    script = f"""
    for (const host of ["127.0.0.1", "localhost"]) {{
      const emulator = `http://${{host}}:{stack.endpoint_url.rpartition(":")[2]}`;
      const simple = body => ({{method: "POST", mode: "no-cors", body}});
      await attempt(host + " create", () => fetch(emulator + "/2015-03-31/functions", simple({body})));
      await attempt(host + " reset", () => fetch(emulator + "/_ministack/reset", simple("")));
      await attempt(host + " read", async () => (await fetch(emulator + "/_ministack/health")).text());
      const target = {{"x-amz-target": "DynamoDB_20120810.ListTables"}};
      await attempt(host + " preflight", () => fetch(emulator + "/", {{method: "POST", headers: target}}));
      await attempt(host + " picture", () => new Promise((yes, no) => {{
        const image = new Image(); image.onload = () => yes("shown"); image.onerror = () => no();
        image.src = emulator + "/_ministack/health"; }}));
      await attempt(host + " socket", () => new Promise((yes, no) => {{
        const socket = new WebSocket(emulator.replace("http", "ws") + "/_aws/execute-api/a/v1");
        socket.onopen = () => yes("open"); socket.onerror = () => no(); }}));
    }}
    await attempt("payments", async () => (await fetch("{payments_url}/_config/faults")).text());
    """
    # when
    told = _visit(site, script, tmp_path)
    # then no script reads more than the refusal, and nothing has changed
    assert "does not answer web pages" in told.pop("payments")
    assert {name: outcome for name, outcome in told.items() if outcome not in ("failed", "opaque 0")} == {}
    assert len(told) == 12
    names = [function["FunctionName"] for function in stack.lambda_.list_functions()["Functions"]]
    assert stack.outputs["ProcessImageFunctionName"] in names
    assert "owned" not in names


def test_a_page_that_the_bucket_allows_uploads_to_a_signed_address(stack: Stack, site: Any, tmp_path: Path) -> None:
    # given a bucket whose CORS rules name the page's origin
    bucket, key = f"cors-{uuid4()}", "from-a-browser.txt"
    stack.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    origin = f"http://localhost:{site.server_port}"
    rule: Any = {"AllowedOrigins": [origin], "AllowedMethods": ["PUT", "POST"], "AllowedHeaders": ["*"]}
    stack.s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    put = stack.s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": key, "ContentType": "text/plain"})
    form = stack.s3.generate_presigned_post(bucket, "from-a-form.txt")
    script = f"""
    const headers = {{"Content-Type": "text/plain"}};
    await attempt("put", () => fetch({json.dumps(put)}, {{method: "PUT", body: "a", headers}}));
    await attempt("form", () => {{
      const data = new FormData();
      for (const [name, value] of Object.entries({json.dumps(form["fields"])})) data.append(name, value);
      data.append("file", new Blob(["b"]), "b.txt");
      return fetch({json.dumps(form["url"])}, {{method: "POST", body: data}});
    }});
    const other = {{"x-amz-target": "AmazonSQS.ListQueues", ...headers}};
    await attempt("another service", () => fetch({json.dumps(put)}, {{method: "PUT", body: "{{}}", headers: other}}));
    await attempt("unsigned", () => fetch("{stack.endpoint_url}/{bucket}/stolen", {{method: "PUT", body: "c"}}));
    """
    # when
    told = _visit(site, script, tmp_path)
    # then
    assert told == {"put": "cors 200", "form": "cors 204", "another service": "failed", "unsigned": "failed"}
    found = stack.s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert sorted(o["Key"] for o in found) == ["from-a-browser.txt", "from-a-form.txt"]
