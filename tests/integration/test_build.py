"""The output of `sam build`."""

from __future__ import annotations

from importlib.util import MAGIC_NUMBER, cache_from_source
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from bundle.bundle import FUNCTIONS, NOT_NEEDED
from local.config import PROJECT
from local.stack import Stack
from tests.template.template import load
from tests.template.test_bundle import brought_by

# How bytecode says that it is taken without a look at its source: https://peps.python.org/pep-0552/
_UNCHECKED = MAGIC_NUMBER + (0b01).to_bytes(4, "little")
_LARGEST_ARCHIVE = 60_000_000
_LAYERS = load((PROJECT / "template.yaml").read_text()).layers
_PARTS = [*FUNCTIONS, *_LAYERS]


@pytest.fixture
def build(stack: Stack) -> Path:
    """Where the stack of the suite was built."""
    return PROJECT / ".local" / "build"


def _is_compiled(source: Path) -> bool:
    bytecode = Path(cache_from_source(str(source)))
    return bytecode.exists() and bytecode.read_bytes().startswith(_UNCHECKED)


@pytest.mark.parametrize("part", _PARTS)
def test_every_module_has_unchecked_bytecode_for_this_interpreter(build: Path, part: str) -> None:
    sources = list((build / part).rglob("*.py"))

    assert sources
    assert [str(source) for source in sources if not _is_compiled(source)] == []


@pytest.mark.parametrize("layer", _LAYERS)
def test_a_layer_has_nothing_from_the_runtime_and_nothing_unused(build: Path, layer: str) -> None:
    packages = build / layer / "python"

    with_runtime = {"dateutil" if name == "python-dateutil" else name for name in brought_by("boto3")}
    assert not with_runtime & {path.stem for path in packages.iterdir()}
    assert [path for pattern in NOT_NEEDED for path in packages.glob(pattern)] == []


def test_the_sum_is_below_the_size_limit_of_a_function(build: Path) -> None:
    archive = BytesIO()
    with ZipFile(archive, "w", ZIP_DEFLATED) as written:
        for path in (path for part in _PARTS for path in (build / part).rglob("*")):
            written.write(path, path.relative_to(build))

    assert archive.tell() < _LARGEST_ARCHIVE
