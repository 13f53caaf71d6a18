"""The network between this machine and its Docker containers: functions in a container reach the emulators over it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from ipaddress import ip_network


@dataclass(frozen=True)
class DockerBridge:
    """The address of this machine for containers (host.docker.internal), and the containers' network."""

    address: str
    network: str


def docker_answers() -> bool:
    """Whether Docker is running."""
    return _docker("version", "--format", "{{.Server.Version}}") is not None


def docker_bridge() -> DockerBridge | None:
    """Find the network; None if Docker is not running, or if containers reach the loopback address, as on macOS."""
    if sys.platform != "linux":
        return None
    told = _docker("network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}")
    for given in json.loads(told or "[]") or []:
        network = ip_network(given["Subnet"])
        address = given.get("Gateway") or str(network[1])
        if network.version == 4 and _is_of_this_machine(address):
            return DockerBridge(address, str(network))
    return None


def _docker(*arguments: str) -> str | None:
    """The output of a Docker command, or None if it fails."""
    program = shutil.which("docker")
    try:
        result = subprocess.run([program or "", *arguments], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout


def _is_of_this_machine(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
