"""The build method that `sam build` runs for each function and layer, in a copy of its folder.

SAM passes a custom build method only the folder of its Makefile. So the template names
``bundle/<runtime>/<architecture>``, whose Makefile calls this. It needs only the standard library.
docs/decisions/0018-bytecode.md
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# The same import path in Lambda, in tests and on the laptop.
FUNCTIONS = {
    "ProcessImageFunction": "functions/process_image",
    "LocateImageFunction": "functions/locate_image",
    "ProcessOrderFunction": "functions/process_order",
    "RelayRabbitMqFunction": "functions/relay_rabbitmq",
    "SweepOrdersFunction": "functions/sweep_orders",
    "AnswerRequestsFunction": "functions/answer_requests",
}
_LAYER = "python"  # https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html
_PLACES = FUNCTIONS | {"SchemasLayer": f"{_LAYER}/schemas"}
# Parts of a layer that Darkroom never imports, if they are half a megabyte of the archive or more; and pip's commands.
NOT_NEEDED = (
    "PIL/_imagingft.*",  # text on images, and the four libraries that only it needs
    "pillow.libs/libfreetype*",
    "pillow.libs/libharfbuzz*",
    "pillow.libs/libbrotli*",
    "aws_lambda_powertools/event_handler",  # HTTP routers
    "stripe/params",  # types
    "bin",
    "*.dist-info/RECORD",  # contains the path of the installing interpreter
)
# The C library of Amazon Linux 2023, the base of these runtimes; a wheel may need an older one, never a newer one.
_GLIBC = 34
_OLDEST_GLIBC = 17
_RUNTIMES_ON_IT = ("python3.12", "python3.13", "python3.14")
_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
# pyvips has no wheel. Without libvips' headers, which it finds with pkg-config, it is pure Python; the compiled part
# comes with pyvips-binary.
_SOURCE_ALONE = "pyvips"
# Ignores the user's own settings for pip.
_PIP_ENVIRONMENT = {"PKG_CONFIG": "false", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_USER": "0"}
# Set by the laptop stack, whose functions run here and not in Lambda.
_FOR_THIS_MACHINE = "DARKROOM_BUILD_FOR_THIS_MACHINE"


def bundle(runtime: str, architecture: str, source: Path, target: Path) -> None:
    """Install a folder's requirements, or copy its code; leave out what is not needed; compile the rest.

    Parameters
    ----------
    runtime, architecture : str
        Lambda's names: ``python3.13``, ``arm64``.
    source : Path
        A folder with a requirements.txt, or with code.
    target : Path
        The output folder.
    """
    interpreters = [name for name in (runtime, "python3", "python") if _runs(name, "-c", _is_version(runtime))]
    if (source / "requirements.txt").exists():
        _install(runtime, architecture, [*interpreters, sys.executable], source / "requirements.txt", target)
    else:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"), dirs_exist_ok=True)
    for path in (path for pattern in NOT_NEEDED for path in target.glob(pattern)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if interpreters:
        _compile(interpreters[0], target)
    else:
        print(  # noqa: T201 # sam shows standard output always, standard error only after a failure
            f"There is no {runtime} on the PATH: this is built without bytecode and takes 1.5 times as long to start. "
            "Install it, then build once with --no-cached.",
            flush=True,
        )


def _is_version(runtime: str) -> str:
    return f"import sys; sys.exit('python%d.%d' % sys.version_info[:2] != '{runtime}')"


def _runs(*command: str) -> bool:
    """Whether a command exists and succeeds; a name on the PATH may be a shim for a missing Python."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603
    except OSError:
        return False


def _install(runtime: str, architecture: str, interpreters: list[str], requirements: Path, target: Path) -> None:
    for_lambda = [] if os.environ.get(_FOR_THIS_MACHINE) else _for_lambda(runtime, architecture)
    with_pip = next((name for name in interpreters if _runs(name, "-m", "pip", "--version")), None)
    if with_pip is None:
        sys.exit(f"There is no pip for {interpreters[0]}. Install it: {interpreters[0]} -m ensurepip")
    command = [with_pip, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    command += ["--require-hashes", "--requirement", str(requirements), "--target", str(target)]
    command += for_lambda
    if subprocess.run(command, check=False, env={**os.environ, **_PIP_ENVIRONMENT}).returncode != 0:  # noqa: S603
        sys.exit(f"pip could not install {requirements.name} for {runtime} on {architecture}: see above.")


def _for_lambda(runtime: str, architecture: str) -> list[str]:
    """Pip's options for wheels of the target runtime and architecture."""
    if runtime not in _RUNTIMES_ON_IT:
        sys.exit(f"{runtime} works only on the laptop stack: Lambda's C library is too old for the image codecs.")
    machine = _MACHINES[architecture]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC, _OLDEST_GLIBC - 1, -1)]
    platforms.append(f"manylinux2014_{machine}")
    return [
        *("--only-binary", ":all:", "--no-binary", _SOURCE_ALONE),
        *("--implementation", "cp", "--python-version", runtime[len("python") :]),
        *(word for name in platforms for word in ("--platform", name)),
    ]


def _compile(interpreter: str, target: Path) -> None:
    """Write unchecked bytecode: SAM changes the dates of all files, and Lambda's folder is read-only.

    It does not contain the folder's path, so the same source gives the same bytes and is not published again.
    """
    command = [interpreter, "-I", "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*command, "-s", str(target), str(target)], check=True, stdout=sys.stderr)  # noqa: S603


if __name__ == "__main__":
    makefile, resource = sys.argv[1:]
    runtime, architecture = Path(makefile).parts[-3:-1]
    bundle(runtime, architecture, Path.cwd(), Path(os.environ["ARTIFACTS_DIR"]) / _PLACES.get(resource, _LAYER))
