"""What a browser does with a signed form and with signed addresses."""

from __future__ import annotations

from typing import Any

import requests

from local.config import LocalConfig


def certificate(config: LocalConfig) -> str:
    """The file with the emulator's certificate."""
    return str(config.folder / "emulator.crt")


def post_form(form: dict[str, Any], file: bytes, config: LocalConfig, **fields: str) -> requests.Response:
    """Post a signed form with a file, and with other values of its fields."""
    data = {"Content-Type": "image/jpeg", **form["fields"], **fields}
    return requests.post(
        form["url"], data=data, files={"file": ("lake.jpg", file)}, verify=certificate(config), timeout=10
    )
