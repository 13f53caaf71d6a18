"""Numbers in the documentation are those of the template."""

from __future__ import annotations

import re

import pytest

from tests.template.template import ROOT, load

TEMPLATE = load((ROOT / "template.yaml").read_text())
PARAMETERS = TEMPLATE["Parameters"]
QUEUES = TEMPLATE.queues
WORDS = {5: "five", 10: "ten", 15: "fifteen"}


def text_of(page: str) -> str:
    return " ".join((ROOT / page).read_text().split())


def attempts(flow: str) -> str:
    if flow == "images":  # not every receive of an image task is an attempt
        image_function = TEMPLATE["Resources"]["ProcessImageFunction"]["Properties"]
        return WORDS[int(image_function["Environment"]["Variables"]["MAX_ATTEMPTS"])]
    return WORDS[QUEUES[_QUEUES[flow]]["RedrivePolicy"]["maxReceiveCount"]]


def documented_defaults() -> dict[str, str]:
    """Return each parameter's default from docs/parameters.md; several parameters may share a row and its defaults."""
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", (ROOT / "docs/parameters.md").read_text(), re.MULTILINE)
    found: dict[str, str] = {}
    for names, defaults in ((row[0].split(", "), row[1].strip().split(", ")) for row in rows):
        shared = defaults * len(names) if len(defaults) == 1 else defaults
        found |= {name.strip("`"): value.strip("`") for name, value in zip(names, shared, strict=True)}
    return found


def test_the_page_of_parameters_has_every_default() -> None:
    assert documented_defaults() == {name: str(values["Default"]) or "none" for name, values in PARAMETERS.items()}


@pytest.mark.parametrize("page", ["docs/error-codes.md", "docs/images.md", "docs/architecture.md", "README.md"])
def test_defaults_named_in_passing_are_the_template_s(page: str) -> None:
    named = re.findall(r"`(\w+)` \((\d+)\)", text_of(page))
    assert [(name, number) for name, number in named if number != str(PARAMETERS[name]["Default"])] == []


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("docs/error-codes.md", "An image task is moved after {images} attempts, an order after {orders}"),
        ("docs/reliability.md", "at every attempt ({images} for images, {orders} for orders)"),
        ("docs/decisions/0007-dead-letters.md", "(the {images} for images, the {orders} for orders)"),
        ("docs/architecture.md", "to the dead-letter queue after {images} attempts"),
        ("docs/runbook.md", "a reader received a result {results} times without deleting it"),
    ],
)
def test_the_attempts_before_a_dead_letter(page: str, sentence: str) -> None:
    counts = {flow: attempts(flow) for flow in ("images", *_QUEUES)}
    if "the {" in sentence:
        counts = {
            name: {"five": "fifth", "ten": "tenth", "fifteen": "fifteenth"}[count] for name, count in counts.items()
        }
    assert sentence.format(**counts) in text_of(page)


_QUEUES = {"orders": "OrderQueue", "results": "ResultsQueue"}


def test_the_runbook_says_when_a_message_becomes_a_dead_letter() -> None:
    image_function = TEMPLATE["Resources"]["ProcessImageFunction"]["Properties"]["Environment"]["Variables"]
    images = f"Images: {image_function['MAX_ATTEMPTS']} failed attempts or {image_function['MAX_RECEIVES']} receives."
    orders = f"Orders: {QUEUES['OrderQueue']['RedrivePolicy']['maxReceiveCount']} receives."
    assert f"{images} {orders}" in text_of("docs/runbook.md")


def test_messages_are_kept_for_as_long_as_the_runbook_says() -> None:
    assert "stays in a queue or a dead-letter queue for 14 days" in text_of("docs/runbook.md")
    assert {queue["MessageRetentionPeriod"] for queue in QUEUES.values()} == {14 * 86_400}


def test_limits_of_images_in_words() -> None:
    codes = text_of("docs/error-codes.md")
    assert f"`MaxImageBytes` ({PARAMETERS['MaxImageBytes']['Default'] >> 20} MB)" in codes
    assert f"`MaxImagePixels` ({PARAMETERS['MaxImagePixels']['Default'] // 10**6} million" in codes
    images = text_of("docs/images.md")
    assert f"| {PARAMETERS['MaxImageBytes']['Default'] >> 20} MB | `MaxImageBytes` |" in images
    assert f"| {PARAMETERS['MaxImagePixels']['Default'] // 10**6} million | `MaxImagePixels` |" in images
    assert f"| {PARAMETERS['MaxImageFrames']['Default']} | `MaxImageFrames` |" in images
    megabytes, megapixels = (
        PARAMETERS["MaxImageBytes"]["Default"] >> 20,
        PARAMETERS["MaxImagePixels"]["Default"] // 10**6,
    )
    assert f"at most {megabytes} MB and {megapixels} megapixels" in text_of("README.md")
    assert f"deleted after {PARAMETERS['StaleRenditionDays']['Default']} days" in text_of("README.md")
