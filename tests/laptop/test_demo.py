"""`make demo`, on the stack of the tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import requests
from rich.console import Console

from local.config import LaptopError, LocalConfig
from local.demo import command as demo
from local.stack import Stack
from tests.console import recording, said
from tests.integration.uploading import SAMPLES


@pytest.fixture
def console() -> Console:
    return recording(132)


@pytest.mark.usefixtures("broker")
def test_the_demo_ends_as_expected(stack: Stack, config: LocalConfig, console: Console) -> None:
    assert demo.run(config, console, None) == 0, said(console)
    told = json.loads((config.folder / "demo.json").read_text())
    assert told["as_expected"]
    assert {image["outcome"] for image in told["images"]} == {"Processed", "DeadLettered"}
    assert len(told["dead_letters"]) == sum(image["outcome"] == "DeadLettered" for image in told["images"])
    for image in told["images"]:
        assert image["processing_ms"] is not None
    assert [(o["outcome"], o["charged"], o["told"][:1]) for o in told["orders"]] == [
        ("COMPLETED", 9800, ["OrderCompleted"]),
        ("COMPLETED", 6900, ["OrderCompleted"]),
        ("REJECTED", 0, ["OrderRejected"]),
        ("REJECTED", 0, ["OrderRejected"]),
        ("MalformedMessage", 0, []),
    ]
    assert [(m["arrived"], m["outcome"]) for m in told["rabbitmq"]] == [
        ("ImageTasksQueue", "Processed"),
        ("OrderQueue", "COMPLETED"),
        ("RabbitMqDeadLetterQueue", "MalformedMessage"),
    ]
    assert [(d["state"], len(d["left"]) > 0, d["published_again_ms"] is None) for d in told["deletions"]] == [
        ("DELETED", False, True),
        ("READY", True, False),
    ]
    page = (config.folder / "report" / "index.html").read_text()
    assert all(name in page for name in ("gone.jpg", "back-again.jpg-thumb.webp"))
    for sample in SAMPLES.glob("*.[jJ][pP][gG]"):
        assert sample.name in page


def test_the_demo_runs_again_and_takes_a_folder_of_photos(
    stack: Stack, config: LocalConfig, console: Console, tmp_path: Path
) -> None:
    # given names that are awkward in a terminal, and two photos whose names differ only in their ending
    for name in ("mine [copy].jpg", "odd [red].heic", "mine [copy].heic"):
        shutil.copy(SAMPLES / ("raccoon.jpg" if name.endswith("jpg") else "hopper.heic"), tmp_path / name)
    assert demo.run(config, console, tmp_path) == 0, said(console)
    assert json.loads((config.folder / "demo.json").read_text())["as_expected"]
    for name in ("mine [copy].jpg", "odd [red].heic", "mine [copy].heic"):
        assert name in said(console)
    pictures = {path.name for path in (config.folder / "report" / "pictures").iterdir()}
    assert {"mine [copy].jpg-thumb.webp", "mine [copy].heic-thumb.webp"} <= pictures
    # and the page for uploads is served
    assert config.web_url in said(console)
    assert "Photos to upload" in requests.get(config.web_url, timeout=60).text


@pytest.mark.parametrize(
    ("names", "reason"),
    [([], "no photos"), (["photo.jPG"], "Rename photo.jPG"), (None, "is not a folder")],
    ids=["empty folder", "mixed-case suffix", "no folder"],
)
def test_the_demo_says_what_is_wrong_with_a_folder(
    stack: Stack, config: LocalConfig, console: Console, tmp_path: Path, names: list[str] | None, reason: str
) -> None:
    folder = tmp_path / "missing" if names is None else tmp_path
    for name in names or []:
        (folder / name).touch()
    with pytest.raises(LaptopError, match=reason):
        demo.run(config, console, folder)
