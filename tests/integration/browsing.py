"""What a browser does with a signed form and with the addresses of pictures."""

from __future__ import annotations

from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import requests

from local.config import LocalConfig
from local.stack import Stack


def post_form(form: dict[str, Any], file: bytes, config: LocalConfig, **fields: str) -> requests.Response:
    """Post a signed form with a file, and with other values of its fields."""
    data = {"Content-Type": "image/jpeg", **form["fields"], **fields}
    return requests.post(
        form["url"], data=data, files={"file": ("lake.jpg", file)}, verify=str(config.certificate), timeout=60
    )


class Download:
    """What came back."""

    def __init__(self, stack: Stack, url: str, method: str = "GET", **headers: str) -> None:
        parts = urlsplit(url)
        # Python asks the system for *.localhost, which not every system knows.
        connection = HTTPConnection("127.0.0.1", parts.port, timeout=60)
        connection.request(method, parts.path, headers={"Host": parts.netloc, **headers})
        answer = connection.getresponse()
        self.status, self.body = answer.status, answer.read()
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
