"""Start MiniStack with the features that the template needs and MiniStack lacks.

It runs in the emulator's own environment (.local/emulator). ``local/emulators/aws_emulator.py`` passes the settings as
MiniStack's environment variables.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

CHECKED_VERSION = "1.5.33"


def parse_templates_in_c() -> None:
    """Parse YAML with libyaml: a deployment parses the template several times, and PyYAML takes a second each time.

    Call this before MiniStack is imported. Remove this when MiniStack uses yaml.CSafeLoader.
    """
    import yaml

    if yaml.__with_libyaml__:
        yaml.SafeLoader = yaml.CSafeLoader  # type: ignore[assignment,misc] # CfnLoader inherits from it


def allow_batches_as_single_messages() -> None:
    """Allow batches to callers that may send, delete or hide a message, as SQS does: IAM has no actions for batches.

    MiniStack requires sqs:SendMessageBatch. Remove this when ``make demo`` relays RabbitMQ's messages without it.
    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsqs.html
    """
    from ministack.core import iam_actions

    extract = iam_actions.extract_iam_action

    def patched(service: str, *args: Any) -> str | None:
        action: str | None = extract(service, *args)
        return action.removesuffix("Batch") if action and service == "sqs" else action

    iam_actions.extract_iam_action = patched


def keep_trace_headers_of_batches() -> None:
    """Keep the system attributes of the messages of a batch, as SQS does.

    MiniStack keeps them of single messages alone. Remove this when ``test_message_cases.py`` passes without it.
    """
    from ministack.services import sqs

    send, send_batch = sqs._act_send_message, sqs._act_send_message_batch  # noqa: SLF001 # there is no public hook
    of_batch: ContextVar[list[Any]] = ContextVar("of_batch")

    def patched(data: dict[str, Any], url: str) -> Any:
        of_entries = of_batch.get([])
        return send(data | {"MessageSystemAttributes": of_entries.pop(0)} if of_entries else data, url)

    def patched_batch(data: dict[str, Any], url: str) -> Any:
        token = of_batch.set([entry.get("MessageSystemAttributes") for entry in data.get("Entries", [])])
        try:
            return send_batch(data, url)
        finally:
            of_batch.reset(token)

    sqs._act_send_message = patched  # noqa: SLF001
    sqs._HANDLERS["SendMessageBatch"] = patched_batch  # noqa: SLF001


def hand_parameters_to_sam() -> None:
    """Pass the values of the parameters to SAM, as CloudFormation does: GradualRollout decides what it creates.

    MiniStack passes only the defaults. Remove this when ``make up`` deploys without it.
    """
    from ministack.services.cloudformation import changesets, engine, handlers
    from samtranslator.translator import transform as sam

    apply, transform = engine._apply_transforms, sam.transform  # noqa: SLF001 # there is no public hook

    def patched(template: Any, provided: Any = None, previous: Any = None) -> Any:
        values = engine._transform_parameters(template, provided, previous)  # noqa: SLF001
        sam.transform = lambda template, _, policies: transform(template, values, policies)
        return apply(template, provided, previous)

    for module in (changesets, handlers):
        module._apply_transforms = patched  # noqa: SLF001


def leave_secrets_empty() -> None:
    """Create a secret without a value if the template gives none, as CloudFormation does.

    MiniStack stores an empty text. Remove this when ``get-secret-value`` answers ResourceNotFoundException without it.
    """
    from ministack.services import secretsmanager
    from ministack.services.cloudformation import provisioners

    handlers = provisioners._RESOURCE_HANDLERS["AWS::SecretsManager::Secret"]  # noqa: SLF001 # there is no public hook
    create = handlers["create"]

    def patched(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
        name, attributes = create(logical_id, properties, stack_name)
        if not properties.keys() & {"SecretString", "GenerateSecretString"}:
            secretsmanager._secrets[name]["Versions"].clear()  # noqa: SLF001
        return name, attributes

    handlers["create"] = patched


def repeat_names() -> None:
    """Give a stack the same id, and so its resources the same names, at every start: ``events/`` contains them.

    MiniStack chooses the id of a stack and the name of a bucket at random, as AWS does. This stays.
    """
    from ministack.services.cloudformation import changesets, handlers, provisioners

    create, random_id = changesets._create_change_set, changesets.new_uuid  # noqa: SLF001 # there is no public hook

    def patched(params: Any) -> Any:
        name = changesets._p(params, "StackName")  # noqa: SLF001
        is_new = handlers._resolve_stack(name) is None  # noqa: SLF001
        ids = [str(uuid5(NAMESPACE_URL, name))] if is_new else []  # the first id is the stack's
        changesets.new_uuid = lambda: ids.pop() if ids else random_id()
        try:
            return create(params)
        finally:
            changesets.new_uuid = random_id

    handlers._ACTION_HANDLERS["CreateChangeSet"] = patched  # noqa: SLF001
    buckets = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]  # noqa: SLF001
    create_bucket = buckets["create"]

    def create_named(*args: Any, **kwargs: Any) -> Any:
        provisioners._NAME_SEED.set(provisioners._NAME_SEED.get() or "laptop")  # noqa: SLF001
        return create_bucket(*args, **kwargs)

    buckets["create"] = create_named


def listen_on(plain_address: str, docker_addresses: Sequence[str]) -> None:
    """Serve HTTPS to containers too, plain HTTP in addition to HTTPS, and nothing on port 443.

    The functions use TLS, as the stack's policies require. Clients on this laptop do not need the certificate.
    MiniStack also opens port 443 if it can, which other programs may need. Remove this when it has settings for these.
    """
    from hypercorn.config import Config
    from ministack import app

    Config.bind = property(
        lambda config: [*config._bind, *docker_addresses],  # noqa: SLF001
        lambda config, addresses: setattr(config, "_bind", addresses),
    )
    Config._insecure_bind = [plain_address]  # noqa: SLF001
    may_bind = app._port_is_bindable  # noqa: SLF001
    app._port_is_bindable = lambda host, port: port != 443 and may_bind(host, port)  # noqa: SLF001


def make_certificate(certificate: Path, key: Path) -> None:
    """Write a key and a certificate for this machine's names, valid for a month."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    private_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "darkroom laptop stack")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("localhost"),
                    x509.DNSName("host.docker.internal"),
                    x509.IPAddress(ip_address("127.0.0.1")),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private_key, hashes.SHA256())
    )
    key.touch(mode=0o600)
    key.write_bytes(
        private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def main() -> None:
    """Patch MiniStack, then serve until stopped."""
    installed = version("ministack")
    if installed != CHECKED_VERSION:
        sys.exit(f"{Path(__file__).name} was checked with MiniStack {CHECKED_VERSION}, not {installed}: read it again.")
    make_certificate(Path(os.environ["MINISTACK_SSL_CERT"]), Path(os.environ["MINISTACK_SSL_KEY"]))
    parse_templates_in_c()
    allow_batches_as_single_messages()
    keep_trace_headers_of_batches()
    hand_parameters_to_sam()
    leave_secrets_empty()
    sys.path.append(str(Path(__file__).parents[2]))
    from local.emulators import (
        ministack_api,
        ministack_cloudfront,
        ministack_faults,
        ministack_guard,
        ministack_lambda,
        ministack_operations,
    )

    ministack_lambda.install()
    ministack_api.install()
    ministack_operations.install()
    ministack_cloudfront.install()
    ministack_faults.install()
    ministack_guard.install()  # last, so that it runs before everything else
    repeat_names()
    listen_on(os.environ["DARKROOM_PLAIN_ADDRESS"], os.environ.get("DARKROOM_DOCKER_ADDRESS", "").split())
    from ministack.app import main as serve

    serve()


if __name__ == "__main__":
    main()
