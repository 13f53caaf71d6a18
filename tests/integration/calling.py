"""Call the API over HTTP, signed as a caller signs."""

from __future__ import annotations

import json
from email.message import Message
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.stack import Stack

Answer = tuple[int, Any, Message]


class Caller:
    """Calls the API with one person's credentials, or unsigned with none."""

    def __init__(
        self,
        stack: Stack,
        credentials: Credentials | None,
        key: str | None = None,
        signer: type[SigV4Auth] = SigV4Auth,
    ) -> None:
        self._stack, self._credentials, self._signer = stack, credentials, signer
        self._key = stack.outputs["ApiKey"] if key is None else key

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        **parameters: Any,
    ) -> Answer:
        query = "?" + urlencode(parameters, quote_via=quote) if parameters else ""
        url = self._stack.outputs["ApiUrl"] + path + query
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"x-api-key": self._key} | ({"Content-Type": content_type} if data is not None else {})
        request = AWSRequest(method, url, headers, data)
        if self._credentials:
            self._signer(self._credentials, "execute-api", self._stack.region).add_auth(request)
        try:
            signed = Request(url, data, dict(request.headers.items()), method=method)  # noqa: S310 # a loopback address
            with urlopen(signed, timeout=60) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read()), answer.headers
        except HTTPError as refused:
            with refused:
                return refused.code, json.loads(refused.read() or b"null"), refused.headers


def owner_of(stack: Stack) -> Credentials:
    """Who deployed the stack, and may do anything."""
    keys = stack.credentials
    return Credentials(keys["aws_access_key_id"], keys["aws_secret_access_key"])
