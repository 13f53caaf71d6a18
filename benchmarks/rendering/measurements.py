"""The latest measurements in ``benchmarks/results``: a JSON file for each part, with the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.rendering.processes import processor

_RESULTS = Path(__file__).parents[1] / "results"


def save(name: str, measured: dict[str, Any]) -> None:
    """Save measurements with the machine and the versions."""
    _RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **measured}, indent=1)
    (_RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def machine() -> dict[str, str]:
    """Return what this machine is, its load now, and the versions of what is measured on it."""
    packages = ("pyvips", "pyvips-binary", "pillow", "pi-heif", "boto3")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages), *_others()]
        ),
    }


def _others() -> Iterator[str]:
    package = json.loads((Path(__file__).with_name("sharp") / "package.json").read_text())
    yield f"sharp {package['dependencies']['sharp']}"
    for command in (["node", "--version"], ["vips", "--version"]):
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError):
            continue
        yield f"{command[0]} {said.stdout.split()[0].strip('v').removeprefix('ips-')}"


def load(name: str) -> dict[str, Any] | None:
    """The latest measurements; None if there are none."""
    path = _RESULTS / f"{name}.json"
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return found
