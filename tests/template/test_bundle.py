"""What the folders of bundle/ and the layers' requirements must hold."""

from __future__ import annotations

import re
from importlib.metadata import requires
from itertools import product
from pathlib import Path

import pytest

from tests.template.template import ROOT, load

PARAMETERS = load((ROOT / "template.yaml").read_text())["Parameters"]
LAYERS = sorted(path.parent.name for path in ROOT.glob("layers/*/requirements.txt"))


def makefile_faults(folder: Path) -> list[str]:
    """Every runtime and architecture that the template allows has its Makefile, and all say the same."""
    allowed = product(PARAMETERS["PythonRuntime"]["AllowedValues"], PARAMETERS["Architecture"]["AllowedValues"])
    wanted = {f"{runtime}/{architecture}/Makefile" for runtime, architecture in allowed}
    texts = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("Makefile")}
    faults = [f"{name} is missing" for name in sorted(wanted - texts.keys())]
    faults += [f"{name} is for nothing" for name in sorted(texts.keys() - wanted)]
    return faults + ([] if len(set(texts.values())) == 1 else ["the Makefiles differ"])


def brought_by(package: str) -> set[str]:
    """A package and all that it needs, by name."""
    names = {re.split(r"[^\w.-]", need, maxsplit=1)[0] for need in requires(package) or () if "extra ==" not in need}
    return {package}.union(*(brought_by(name) for name in names))


def names_in(requirements: str) -> set[str]:
    """What a requirements.txt installs."""
    return set(re.findall(r"^([\w.-]+)==", requirements, re.MULTILINE))


def test_every_runtime_and_architecture_has_the_same_makefile() -> None:
    assert makefile_faults(ROOT / "bundle") == []


def test_a_missing_an_extra_and_a_changed_makefile_are_found(tmp_path: Path) -> None:
    for number, name in enumerate(("python3.13/arm64", "python3.9/arm64")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "Makefile").write_text(str(number))

    faults = makefile_faults(tmp_path)

    assert "python3.13/x86_64/Makefile is missing" in faults
    assert "python3.9/arm64/Makefile is for nothing" in faults
    assert "the Makefiles differ" in faults


@pytest.mark.parametrize("layer", LAYERS)
def test_no_layer_brings_what_comes_with_lambdas_runtime(layer: str) -> None:
    installed = names_in((ROOT / "layers" / layer / "requirements.txt").read_text())

    assert installed
    assert not installed & brought_by("boto3")


def test_what_comes_with_boto3_is_known() -> None:
    assert {"botocore", "jmespath", "s3transfer", "six", "urllib3"} <= brought_by("boto3")
    assert names_in("jmespath==1.1.0 \\\n    --hash=sha256:82\npyvips-binary==8.18.7 \\\n") == {
        "jmespath",
        "pyvips-binary",
    }
