import functools
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import moto  # noqa: F401 # it reaches no client made before it is imported, and handlers make theirs when imported
import pytest
from hypothesis import HealthCheck, settings

from tests import function_environment  # noqa: F401 # before a test imports a function

# moto begins a session for each test, and each session reads every endpoint of AWS: a fifth of a second.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

settings.register_profile(
    "darkroom",
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("darkroom")


@pytest.fixture
def logged() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Read every line that was logged."""
    from darkroom.logs import logger

    logger.clear_state()  # what an invocation of an earlier test has left
    stream = io.StringIO()
    streams = {handler: handler.setStream(stream) for handler in logger.handlers}  # type: ignore[attr-defined]
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    for handler, before in streams.items():
        if before:
            handler.setStream(before)  # type: ignore[attr-defined]


@pytest.fixture
def log(logged: Callable[[], list[dict[str, Any]]]) -> Callable[[], dict[str, Any]]:
    """Read the one line that was logged."""

    def read() -> dict[str, Any]:
        (line,) = logged()
        return line

    return read


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Read the metrics that were printed, one dictionary per EMF line."""
    from darkroom.reporting import metrics

    metrics.clear_metrics()

    def read() -> list[dict[str, Any]]:
        metrics.flush_metrics()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]

    yield read
    metrics.clear_metrics()
