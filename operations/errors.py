"""Errors that the user of a command can fix."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

#: AWS refuses, does not answer, or another server answers: a proxy, or what a wrong endpoint leads to.
AWS_ERRORS = (ClientError, BotoCoreError, ResponseParserError)


class OperationsError(Exception):
    """An error that the user can fix; ``str()`` says what is wrong and how to fix it."""


def reason_of(error: Exception) -> str:
    """What one of `AWS_ERRORS`, or another error of a call, says in one line."""
    if isinstance(error, ResponseParserError):  # it quotes all of the answer
        return "the answer cannot be read. It does not come from AWS, or a proxy changed it"
    return " ".join(str(error).splitlines())
