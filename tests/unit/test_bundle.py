"""The build that `sam build` runs: code with bytecode that works on a read-only file system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bundle.bundle import bundle

RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all programs, empty at first."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def interpreter(path: Path) -> Path:
    """The runtime's interpreter, on the PATH."""
    (path / RUNTIME).symlink_to(sys.executable)
    return path / RUNTIME


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "handler.py").write_text("def said(): return 'compiled'\nIS_KNOWN = 'a' in {'a', 'b', 'c', 'd', 'e'}\n")
    return folder


def bytecode_of(target: Path) -> Path:
    return target / "__pycache__" / f"handler.{sys.implementation.cache_tag}.pyc"


class TestBytecode:
    def test_it_is_loaded_without_checking_the_source(self, source: Path, tmp_path: Path, interpreter: Path) -> None:
        bundle(RUNTIME, "arm64", source, tmp_path / "target")

        (tmp_path / "target" / "handler.py").write_text("def said(): return 'read from the source'\n")  # and a new date
        command = [sys.executable, "-B", "-c", "import handler; print(handler.said())"]
        environment = {"PYTHONPATH": str(tmp_path / "target")}
        said = subprocess.run(  # noqa: S603
            command, env=environment, capture_output=True, text=True, check=True
        )
        assert said.stdout == "compiled\n"

    def test_the_same_source_gives_the_same_bytes_anywhere(
        self, source: Path, tmp_path: Path, interpreter: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = set()
        for number in ("1", "2"):
            monkeypatch.setenv("PYTHONHASHSEED", number)
            bundle(RUNTIME, "arm64", source, tmp_path / "targets" / number)
            made.add(bytecode_of(tmp_path / "targets" / number).read_bytes())

        assert len(made) == 1

    @pytest.mark.parametrize("shim", ["", "#!/bin/sh\nexit 127\n"], ids=["none", "the shim of one that is not"])
    def test_without_the_runtimes_interpreter_the_build_continues_with_a_warning(
        self, shim: str, source: Path, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        if shim:
            (path / RUNTIME).write_text(shim)
            (path / RUNTIME).chmod(0o755)

        bundle(RUNTIME, "arm64", source, tmp_path / "target")

        assert (tmp_path / "target" / "handler.py").exists()
        assert not bytecode_of(tmp_path / "target").exists()
        assert f"There is no {RUNTIME} on the PATH: this is built without bytecode" in capsys.readouterr().out

    def test_the_builders_own_settings_do_not_matter(
        self, source: Path, tmp_path: Path, interpreter: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "elsewhere"))
        monkeypatch.setenv("PYTHONOPTIMIZE", "1")

        bundle(RUNTIME, "arm64", source, tmp_path / "target")

        assert bytecode_of(tmp_path / "target").exists()


class TestPackages:
    @pytest.fixture
    def said(self, path: Path, tmp_path: Path) -> Path:
        """The arguments of each call of a fake python3.13."""
        said = tmp_path / "said"
        (path / "python3.13").write_text(f'#!/bin/sh\necho "$PIP_REQUIRE_VIRTUALENV $PIP_USER $@" >>{said}\n')
        (path / "python3.13").chmod(0o755)
        return said

    @pytest.mark.parametrize(("architecture", "machine"), [("arm64", "aarch64"), ("x86_64", "x86_64")])
    def test_they_are_wheels_for_lambda_with_the_hashes_that_are_pinned(
        self, architecture: str, machine: str, said: Path, source: Path, tmp_path: Path
    ) -> None:
        (source / "requirements.txt").touch()

        bundle("python3.13", architecture, source, tmp_path / "target")

        (install,) = (line for line in said.read_text().splitlines() if " install " in line)
        assert install.startswith("0 0 -m pip install "), "even with options for the user's own installations"
        for options in (
            "--require-hashes",
            "--no-deps",
            "--only-binary :all: --no-binary pyvips",
            "--implementation cp --python-version 3.13",
            f"--platform manylinux_2_34_{machine}",
            f"--platform manylinux_2_28_{machine}",
            f"--platform manylinux2014_{machine}",
            f"--requirement {source}/requirements.txt --target {tmp_path}/target",
        ):
            assert options in install
        assert "manylinux_2_35" not in install, "Lambda's C library is older"

    def test_for_the_laptop_they_are_for_this_machine(
        self, said: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DARKROOM_BUILD_FOR_THIS_MACHINE", "1")
        (source / "requirements.txt").touch()

        bundle("python3.13", "arm64", source, tmp_path / "target")

        assert "--platform" not in said.read_text()


class TestContent:
    def test_unused_files_are_left_out(self, source: Path, tmp_path: Path, interpreter: Path) -> None:
        for name in ("stripe/params/_charge.py", "stripe/_charge.py", "PIL/_imagingft.cpython-313.so", "bin/vips"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).touch()

        bundle(RUNTIME, "arm64", source, tmp_path / "target")

        names = {
            str(p.relative_to(tmp_path / "target")) for p in (tmp_path / "target").rglob("*") if p.suffix != ".pyc"
        }
        assert names >= {"handler.py", "stripe/_charge.py", "PIL"}
        assert not names & {"stripe/params", "PIL/_imagingft.cpython-313.so", "bin"}

    def test_old_bytecode_and_hidden_files_are_left_out(self, source: Path, tmp_path: Path, path: Path) -> None:
        for name in ("__pycache__/handler.cpython-39.pyc", ".env"):
            (source / name).parent.mkdir(exist_ok=True)
            (source / name).touch()

        bundle(RUNTIME, "arm64", source, tmp_path / "target")

        assert [path.name for path in (tmp_path / "target").iterdir()] == ["handler.py"]

    def test_packages_are_not_built_for_a_runtime_whose_c_library_is_too_old(
        self, source: Path, tmp_path: Path
    ) -> None:
        (source / "requirements.txt").touch()

        with pytest.raises(SystemExit, match=r"python3\.11 works only on the laptop stack"):
            bundle("python3.11", "arm64", source, tmp_path / "target")
