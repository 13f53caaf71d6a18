"""Wraps a function in Docker: gives it its variables, and says in one sentence if the laptop stack is unreachable.

The standard library alone. https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html
"""

from __future__ import annotations

import json
import os
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_SECONDS = 2

os.environ.update(json.loads(Path(__file__).with_suffix(".json").read_text()))  # before the function reads them


def lambda_handler(event: Any, context: Any) -> Any:
    """Call the handler that DARKROOM_HANDLER names, if the stack can be reached."""
    url = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    try:
        socket.create_connection((url.hostname or "", url.port or 80), _SECONDS).close()
    except OSError as error:
        sys.exit(f"Docker cannot reach the laptop stack at {url.netloc} ({error}). Start it: make down, make up")
    module, _, name = os.environ["DARKROOM_HANDLER"].rpartition(".")
    return getattr(import_module(module), name)(event, context)
