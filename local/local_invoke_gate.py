"""Wraps a function in Docker: reports in one sentence if the laptop stack is unreachable, else calls the function.

The standard library alone. https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html
"""

from __future__ import annotations

import os
import socket
import sys
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

_SECONDS = 2


def lambda_handler(event: Any, context: Any) -> Any:
    """Call the handler that DARKROOM_HANDLER names, if there is a stack to work with."""
    url = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    try:
        socket.create_connection((url.hostname or "", url.port or 80), _SECONDS).close()
    except OSError as error:
        sys.exit(f"Docker cannot reach the laptop stack at {url.netloc} ({error}). Start it: make down, make up")
    module, _, name = os.environ["DARKROOM_HANDLER"].rpartition(".")
    return getattr(import_module(module), name)(event, context)
