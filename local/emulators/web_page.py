"""The backend of the sample page in samples/web: start it, find it, stop it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from local.config import PROJECT, LocalConfig
from local.emulators.processes import Server, check_free


def running(config: LocalConfig) -> psutil.Process | None:
    """Find the backend of this stack, or None if it is not running."""
    return _server(config).running()


def start(config: LocalConfig, environment: Mapping[str, str]) -> None:
    """Start the backend, again if it runs, and wait until it answers. Raises LaptopError.

    Parameters
    ----------
    environment:
        The stack's address, keys and outputs, as the sample reads them.
    """
    stop(config)
    check_free(config.web_port)
    variables = {**environment, "WEB_PORT": str(config.web_port)}
    _server(config).start(Path(sys.executable), environment=variables, folder=config.folder)


def stop(config: LocalConfig) -> bool:
    """Stop the backend; returns whether it was running."""
    return _server(config).stop()


def _server(config: LocalConfig) -> Server:
    return Server(
        name="The sample page's backend",
        script=PROJECT / "samples" / "web" / "server.py",
        pid_file=config.folder / "web_page.pid",
        log=config.logs / "web_page.log",
        health_url=config.web_url,
    )
