"""Libraries must not log what people upload or order."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

import functions.process_image.app  # what Lambda imports
import functions.process_order.app
import functions.relay_rabbitmq.app  # noqa: F401


@pytest.fixture
def at_debug() -> Iterator[None]:
    """The root logger as Lambda sets it for LogLevel DEBUG."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    yield
    root.setLevel(before)


@pytest.mark.usefixtures("at_debug")
@pytest.mark.parametrize(
    "library", ["botocore.endpoint", "boto3.resources", "PIL.TiffImagePlugin", "pyvips.vobject", "stripe", "urllib3"]
)
def test_a_library_keeps_its_debugging_to_itself(library: str) -> None:
    assert not logging.getLogger(library).isEnabledFor(logging.INFO)
