"""Translate errors of AWS calls into Darkroom's faults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from darkroom.errors import ServiceUnavailable


def error_code(error: ClientError) -> str:
    """Return AWS's code of an error, such as ``NoSuchKey``; empty if there is none."""
    return error.response.get("Error", {}).get("Code", "")


@contextmanager
def aws_faults_as_transient(action: str) -> Iterator[None]:
    """Turn every error of an AWS call into ServiceUnavailable.

    A missing permission is transient too: once the role is fixed, the retry or the redrive succeeds.

    Parameters
    ----------
    action:
        What the call should do, for the reason: "send the dead letter".
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise ServiceUnavailable(f"Could not {action}: {error}") from error
