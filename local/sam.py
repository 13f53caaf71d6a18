"""The SAM CLI against the laptop stack: build once for all stacks of this folder, run any command."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import yaml

from local.config import PROJECT, LaptopError, LocalConfig, build_environment, sam_command, template_parameters, tool

# The sources of a deployment; a change of any other file needs no new one.
_SOURCES = ("template.yaml", "samconfig.toml", "api", "bundle", "functions", "layers")
_BUILD = PROJECT / ".local" / "build"  # as samconfig.toml has it
_BUILT_FROM = _BUILD.with_name("build.sources")
_ZIPPED = _BUILD / "zipped.json"  # the template, with an archive for each folder of code
# Options of `sam deploy` that zip nothing again.
DEPLOYED_AS_BUILT = ("--template-file", str(_ZIPPED), "--config-file", str(PROJECT / "samconfig.toml"))


def build(config: LocalConfig) -> None:
    """Build once for all stacks of this folder: the build depends only on the sources and the interpreter."""
    with _BUILD.with_name("build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        parameters = template_parameters(config)
        sources = hash_of_sources(parameters["PythonRuntime"], parameters["Architecture"])
        built = _ZIPPED.exists() and _BUILT_FROM.exists()
        if not built or _BUILT_FROM.read_text() != sources:
            run(config, ["build"], log="sam-build.log")
            _zip()
            _BUILT_FROM.write_text(sources)


def _zip() -> None:
    """Zip the built code once for all stacks, which takes SAM five seconds in every deployment."""
    template = yaml.load((_BUILD / "template.yaml").read_text(), yaml.CSafeLoader)
    for name, resource in template["Resources"].items():
        for code in {"CodeUri", "ContentUri"} & resource.get("Properties", {}).keys():
            folder = _BUILD / resource["Properties"][code]
            resource["Properties"][code] = shutil.make_archive(str(_BUILD / name), "zip", folder)
    # SAM parses the template seven times in a deployment: a second and a half each as YAML.
    _ZIPPED.write_text(json.dumps(template, indent=1))


def run(config: LocalConfig, arguments: Sequence[str], *, log: str | None = None, for_lambda: bool = False) -> int:
    """Run a SAM command against the laptop stack.

    Parameters
    ----------
    log:
        File name for the output; without one it goes to the terminal.
    for_lambda:
        Whether to build for Lambda's runtime instead of this machine's Python.

    Returns
    -------
    int
        Its exit code, if the output goes to the terminal.

    Raises
    ------
    LaptopError
        It failed; the message has the line of the log that explains it. Only if the output goes to a log.
    """
    environment = build_environment() | {
        "AWS_ENDPOINT_URL": config.endpoint_url,
        "AWS_ACCESS_KEY_ID": config.keys.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": config.keys.aws_secret_access_key,
        "AWS_DEFAULT_REGION": setting("region"),
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(config.folder / "sam-cli"),  # instead of the home folder
    }
    if for_lambda:
        del environment["DARKROOM_BUILD_FOR_THIS_MACHINE"]
    elif arguments[0] == "build":
        _BUILT_FROM.unlink(missing_ok=True)
    path = config.logs / log if log else None
    # SAM does not remove its temporary files: empty folders of every build, the layers' archives of every sync.
    with (
        tempfile.TemporaryDirectory(prefix="sam-", dir=config.folder, ignore_cleanup_errors=True) as temporary,
        path.open("wb") if path else nullcontext() as output,
    ):
        code = subprocess.run(
            [tool("sam", "sam"), *arguments] if for_lambda else sam_command(config, arguments),
            env=environment | {"TMPDIR": temporary},
            # sync has no option for where it builds, and .aws-sam/build is what sam deploy ships to AWS.
            cwd=config.folder if arguments[0] == "sync" else PROJECT,
            check=False,
            input=b"y\n" if output else None,  # sync asks
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        ).returncode
    if path and code != 0:
        raise LaptopError(f"sam {arguments[0]} failed: {_why(path)} (full output: {path.relative_to(PROJECT)})")
    return code


def setting(name: str) -> str:
    """What samconfig.toml has for every command against the laptop stack."""
    settings = tomllib.loads((PROJECT / "samconfig.toml").read_text())
    return str(settings["local"]["global"]["parameters"][name])


def hash_of_sources(*parameters: object) -> str:
    """Tell two states of the sources apart, and two sets of parameters."""
    digest = hashlib.sha256(repr(parameters).encode())
    for path in sorted(_source_files()):
        digest.update(str(path.relative_to(PROJECT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _source_files() -> Iterator[Path]:
    for name in _SOURCES:
        path = PROJECT / name
        inside = path.rglob("*") if path.is_dir() else [path]
        yield from (p for p in inside if p.is_file() and "__pycache__" not in p.parts)


def _why(log: Path) -> str:
    """The most informative line of a SAM log."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("Error", "ERROR", "make:"))]
    return (telling or lines or ["it printed nothing"])[-1]
