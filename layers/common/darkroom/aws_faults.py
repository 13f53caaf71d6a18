"""Errors of AWS calls, as faults of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from darkroom.errors import ServiceUnavailable


def error_code(error: ClientError) -> str:
    """AWS's code of an error, such as ``NoSuchKey``; empty if it gives none."""
    return error.response.get("Error", {}).get("Code", "")


@contextmanager
def aws_faults_as_transient(action: str) -> Iterator[None]:
    """Turn whatever an AWS call raises into ServiceUnavailable.

    That holds for a missing permission too: mending the role lets the retry, or later the redrive, pass.

    Parameters
    ----------
    action:
        What the call was to do, for the reason: "send the dead letter".
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise ServiceUnavailable(f"Could not {action}: {error}") from error
