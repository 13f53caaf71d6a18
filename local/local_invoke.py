"""What `sam local invoke` needs to run the functions in Docker against the laptop stack.

It is a build for Lambda's Python and this machine's processor; its template holds the deployed settings.
`samconfig.toml` names the template: `make up` makes it, and `make down` removes it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from local import sam
from local.config import PROJECT, LocalConfig, machine_architecture
from local.emulators.docker_bridge import docker_answers
from local.stack import Stack

_BUILD = PROJECT / ".local" / "run-make-up-first"  # SAM's error names this folder if it is missing
_GATE = Path(__file__).with_name("local_invoke_gate.py")
_HOST = "host.docker.internal"


def prepare(config: LocalConfig, stack: Stack, console: Console) -> None:
    """Build the functions for Docker if it runs, and write into their template how they reach the stack.

    Raises
    ------
    LaptopError
        `sam build` fails.
    """
    if config.folder != _BUILD.parent or not docker_answers():
        return
    done = _BUILD / "done.json"
    now = {
        "sources": stack.sources,
        "keys": stack.credentials,
        "url": stack.endpoint_url,
        "certificate": config.certificate.read_text(),
    }
    if done.exists() and json.loads(done.read_text()) == now:
        return
    with console.status("sam build for Docker: the functions as Lambda runs them ..."):
        folders = ["--build-dir", str(_BUILD), "--cache-dir", str(config.folder / "local-invoke-cache")]
        parameters = ["--parameter-overrides", f"Architecture={machine_architecture()}"]
        sam.run(config, ["build", *folders, *parameters], log="sam-build-docker.log", for_lambda=True)
    _BUILD.chmod(0o700)  # it holds the keys
    template = _BUILD / "template.yaml"
    content = yaml.load(template.read_text(), yaml.CSafeLoader)
    content["Parameters"]["Architecture"]["Default"] = machine_architecture()
    resources = content["Resources"]
    for name, resource in resources.items():
        if resource["Type"] == "AWS::Serverless::Function" and f"{name}Name" in stack.outputs:
            function = stack.lambda_.get_function_configuration(FunctionName=stack.outputs[f"{name}Name"])
            properties = resource["Properties"]
            _point_at_the_stack(properties, function["Environment"]["Variables"], stack, config)
            _take_in_layers(properties, resources)
    template.write_text(json.dumps(content))  # SAM reads YAML, twice, in a second and a half
    done.write_text(json.dumps(now))
    console.print("[green]✓[/] sam local invoke -e events/s3.json runs the function in Docker")


def remove(config: LocalConfig) -> None:
    """Remove the build, so that SAM says what to do first."""
    if config.folder == _BUILD.parent:
        shutil.rmtree(_BUILD, ignore_errors=True)


def _point_at_the_stack(
    properties: dict[str, Any], deployed: Mapping[str, str], stack: Stack, config: LocalConfig
) -> None:
    """Give a function the variables of the deployed one, and the way to the stack.

    They are in a file: SAM replaces a variable of the template by the shell's of the same name, such as AWS_REGION.
    """
    code = _BUILD / properties["CodeUri"]
    variables = {
        **{name: value.replace("//127.0.0.1:", f"//{_HOST}:") for name, value in deployed.items()},
        "AWS_ENDPOINT_URL": f"https://{_HOST}:{config.tls_port}",
        "AWS_CA_BUNDLE": f"/var/task/{config.certificate.name}",
        "AWS_REGION": stack.region,
        "AWS_DEFAULT_REGION": stack.region,
        **{name.upper(): value for name, value in stack.credentials.items()},
        "AWS_SESSION_TOKEN": "",
        "POWERTOOLS_TRACE_DISABLED": "true",
        "DARKROOM_HANDLER": properties["Handler"],
    }
    (code / f"{_GATE.stem}.json").write_text(json.dumps(variables))
    shutil.copy(_GATE, code)
    shutil.copy(config.certificate, code)
    properties["Handler"] = f"{_GATE.stem}.lambda_handler"


def _take_in_layers(properties: dict[str, Any], resources: Mapping[str, Any]) -> None:
    """Link the packages of a function's layers into its code. For layers SAM would build an image at every call."""
    code = _BUILD / properties["CodeUri"]
    for layer in properties.pop("Layers"):
        packages = _BUILD / resources[layer["Ref"]]["Properties"]["ContentUri"] / "python"
        shutil.copytree(packages, code, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)  # a later layer's file replaces an earlier one's, as in Lambda
    os.link(source, target)
