"""The log: lines of JSON without control characters."""

from __future__ import annotations

import json
import re
from typing import Any

from aws_lambda_powertools import Logger

# JSON escapes those of ASCII alone. These begin an escape sequence, a line or another direction of the text, too.
_CONTROLS = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def in_json(value: Any) -> str:
    """Return a value as JSON that shows what it says in any terminal: names of photos and of products are foreign."""
    text = json.dumps(value, default=str, separators=(",", ":"), ensure_ascii=False)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


logger = Logger(json_serializer=in_json)
