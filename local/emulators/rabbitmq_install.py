"""Find RabbitMQ on this machine, or install it into .local without root.

``make setup`` runs this with a bare Python: standard library only.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".local" / "rabbitmq-server"
BY_HAND = "apt-get install rabbitmq-server (Debian and Ubuntu) or brew install rabbitmq (macOS)"
_UNPACKED = FOLDER / "root"
_LEFT_OUT = FOLDER / "left-out"
# Debian's script in /usr/sbin changes the user and needs root.
_SYSTEM_WIDE = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    f"{os.environ.get('HOMEBREW_PREFIX', '/opt/homebrew')}/sbin/rabbitmq-server",
    "/opt/homebrew/sbin/rabbitmq-server",
    "/usr/local/sbin/rabbitmq-server",
)
# A separate apt configuration: it resolves against the installed packages and writes only into its folder.
# Debug::NoLocking, because only root can take the lock of the system's dpkg.
_APT = """\
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Log "{folder}/log";
Debug::NoLocking "1";
APT::Sandbox::User "root";
APT::Install-Recommends "0";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


class InstallError(Exception):
    """RabbitMQ cannot be installed; ``str()`` says why."""


def find() -> Path | None:
    """Find the broker's program: the system's, else the one in .local; None if there is none."""
    candidates = [*map(Path, _SYSTEM_WIDE), _UNPACKED / "usr/lib/rabbitmq/bin/rabbitmq-server"]
    return next((path for path in candidates if path.is_file()), None)


def environment(program: Path) -> dict[str, str]:
    """The environment variables that the program needs to find Erlang."""
    path = os.environ["PATH"]
    if not program.is_relative_to(_UNPACKED):
        return {"PATH": os.pathsep.join([path, str(program.parent.parent / "bin")])}  # Homebrew's erl
    erlang = _UNPACKED / "usr/lib/erlang"
    libraries = {str(library.parent) for library in _UNPACKED.glob("**/*-linux-gnu*/**/*.so*")}
    return {
        "PATH": os.pathsep.join([str(erlang / "bin"), path]),
        "LD_LIBRARY_PATH": os.pathsep.join(sorted(libraries)),
        "ERL_LIBS": str(erlang / "lib"),  # if some packages of Erlang are installed system-wide
    }


def why_left_out() -> str:
    """Return one sentence: why RabbitMQ is missing and what to do."""
    reason = _LEFT_OUT.read_text() if _LEFT_OUT.exists() else "make setup has not brought it"
    return f"RabbitMQ is missing, because {reason}. Install it with {BY_HAND}, or run: make setup"


def install() -> None:
    """Install RabbitMQ. Raises InstallError."""
    if shutil.which("brew"):
        print("Installing RabbitMQ with Homebrew: brew install rabbitmq ...", flush=True)
        _run(["brew", "install", "--quiet", "rabbitmq"])
    elif shutil.which("apt-get") and shutil.which("dpkg"):
        print("Installing RabbitMQ into .local/rabbitmq-server ...", flush=True)
        _unpack_packages()
    elif sys.platform == "darwin":
        raise InstallError("there is no Homebrew")
    else:
        raise InstallError("this system has no apt")
    if find() is None:
        raise InstallError("its program is not where it should be")
    print("Installed  RabbitMQ")


def relocate(root: Path, home: Path) -> None:
    """Fix paths that point out of an unpacked tree: absolute links, and the folder that ``erl`` has as a constant.

    Parameters
    ----------
    root:
        The tree.
    home:
        Where it will be.
    """
    for link in [path for path in root.rglob("*") if path.is_symlink()]:
        target = link.readlink()
        if target.is_absolute() and (inside := root / target.relative_to("/")).exists():
            link.unlink()
            link.symlink_to(os.path.relpath(inside, link.parent))
    erl = root / "usr/lib/erlang/bin/erl"
    if erl.exists():
        constant = f"ROOTDIR={shlex.quote(str(home / 'usr/lib/erlang'))}"
        erl.write_text(
            re.sub(r"ROOTDIR=\"?/usr/lib/erlang\"?$", lambda _: constant, erl.read_text(), flags=re.MULTILINE)
        )


def _unpack_packages() -> None:
    apt, root = FOLDER / "apt", FOLDER / "unpacking"
    for folder in (FOLDER, _UNPACKED):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("lists/partial", "archives/partial", "log"):
        (apt / name).mkdir(parents=True)
    settings = apt / "apt.conf"
    settings.write_text(_APT.format(folder=apt))
    command = ["apt-get", "--quiet", "--quiet", "--yes", f"--config-file={settings}"]
    try:
        _run([*command, "update"], check=False)  # another source of the machine may be broken
        if not any((apt / "lists").glob("*_Packages*")):
            raise InstallError("apt-get cannot reach the system's package sources")
        _run([*command, "--download-only", "install", "rabbitmq-server"])
        for package in sorted((apt / "archives").glob("*.deb")):
            _run(["dpkg", "-x", package, root])
    finally:
        shutil.rmtree(apt, ignore_errors=True)
    relocate(root, _UNPACKED)
    root.rename(_UNPACKED)
    program = find()
    if program is not None:
        starts_crypto = "{ok, _} = application:ensure_all_started(crypto), halt(0)."
        _run(["erl", "-noinput", "-eval", starts_crypto], environment=os.environ | environment(program))


def _run(command: Iterable[str | Path], *, check: bool = True, environment: Mapping[str, str] | None = None) -> None:
    command = [str(part) for part in command]
    done = subprocess.run(
        command,
        env={**(environment or os.environ), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if check and done.returncode != 0:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith(("E:", "Error"))]
        raise InstallError(f"{Path(command[0]).name} failed: {(telling or lines or ['it said nothing'])[0]}")


def main() -> None:
    """Install RabbitMQ, unless it is installed or an earlier attempt failed and `--again` is not given."""
    if find() is not None or (_LEFT_OUT.exists() and "--again" not in sys.argv):
        return
    try:
        install()
    except (InstallError, OSError) as error:
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        _LEFT_OUT.write_text(str(error).rstrip("."))
        print(f"{why_left_out()}", file=sys.stderr)


if __name__ == "__main__":
    main()
