"""docs/cost.md and its plot, from the calculator's own numbers: `make cost-page`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.cost.calculator import (
    MEMORY_SIZES,
    Load,
    best_memory,
    bill_of_ours,
    bill_of_sample,
    billed_seconds_of_ours,
    billed_seconds_of_sample,
    per_million,
)
from benchmarks.cost.durations import BYTES_PER_SECOND, MEGAPIXELS_PER_MB, WAITS
from benchmarks.cost.function_seconds import Measured, load
from benchmarks.cost.prices import AS_OF, MB_PER_CPU, PRICES, REGIONS, SOURCES
from benchmarks.function_settings import MEMORY_MB

_DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = _DOCS / "cost.md"
_PLOT = _DOCS / "plots" / "cost-by-memory.svg"


def page_of(measured: Measured) -> str:
    """docs/cost.md."""
    usual = Load(images=1e6)
    parts = (_bill(usual, measured), _volumes(usual, measured), _memory(usual, measured), _grounds(measured))
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def _bill(usual: Load, measured: Measured) -> Iterator[str]:
    ours, sample = bill_of_ours(usual, measured), bill_of_sample(usual, measured)
    fixed = ours.dollars - ours.running_dollars
    yield "<!-- Made by `make cost-page` from benchmarks/cost/page.py, prices.py and results. Do not edit. -->"
    yield "# Cost"
    yield ""
    yield (
        f"A million images of {usual.megabytes:g} MB in a month cost **{ours.dollars:.1f} USD** in {usual.region} with"
        f" {usual.memory_mb} MB and {usual.architecture}: {ours.running_dollars:.1f} for the images, and {fixed:.1f}"
        " that the stack costs with no image at all. The usual sample, with the same renditions and nothing else, costs"
        f" **{sample.dollars:.1f} USD**. `make cost IMAGES=1000000 MB=4` says the same of your numbers (MEMORY, ARCH,"
        " REGION, BATCH, VIEWS)."
    )
    yield ""
    yield "| Component | Driven by | USD | The usual sample |"
    yield "|---|---|---:|---:|"
    for lines, theirs, note in ((ours.running, sample.running, ""), (ours.fixed, sample.fixed, ", always")):
        beside = {line.price: line.dollars for line in theirs}
        for line in lines:
            yield (f"| {line.component} | {line.driver}{note} | {line.dollars:.2f} | {beside.get(line.price, 0):.2f} |")
    yield f"| | **Together** | **{ours.dollars:.2f}** | **{sample.dollars:.2f}** |"
    yield ""
    yield (
        "The usual sample takes records one after the other, decodes the photo for each size and writes each rendition"
        " when it is done. It knows no task, no version, no record and no result, so it pays nothing for them: what"
        " Darkroom pays for DynamoDB, traces, metrics and alarms is the price of not doing a thing twice and of"
        " knowing what became of it."
    )
    yield ""
    yield "While the images are kept, every month:"
    yield ""
    yield "| | | USD a month |"
    yield "|---|---|---:|"
    for line in ours.kept:
        yield f"| {line.component} | {line.driver} | {line.dollars:.2f} |"
    yield ""


def _volumes(usual: Load, measured: Measured) -> Iterator[str]:
    yield "## By volume"
    yield ""
    yield (
        f"USD a million images, {usual.architecture}, {usual.memory_mb} MB: what is always there weighs on few images,"
        " and of many only a part is traced."
    )
    yield ""
    yield f"| Images a month | {usual.region} | us-east-1 | the usual sample, {usual.region} |"
    yield "|---:|---:|---:|---:|"
    for images in (1e4, 1e5, 1e6, 1e7, 1e8):
        here, america = replace(usual, images=images), replace(usual, images=images, region="us-east-1")
        row = (
            per_million(bill_of_ours(here, measured), here),
            per_million(bill_of_ours(america, measured), america),
            per_million(bill_of_sample(here, measured), here),
        )
        yield f"| {images:,.0f} | " + " | ".join(f"{dollars:,.2f}" for dollars in row) + " |"
    yield ""


def _memory(usual: Load, measured: Measured) -> Iterator[str]:
    bills = {size: bill_of_ours(replace(usual, memory_mb=size), measured) for size in MEMORY_SIZES}
    seconds = {size: billed_seconds_of_ours(replace(usual, memory_mb=size), measured) for size in MEMORY_SIZES}
    best, cheapest = best_memory(usual, measured), min(bills, key=lambda size: bills[size].dollars)
    template = "and so the template has it" if str(best) == MEMORY_MB else f"while the template has {MEMORY_MB} MB"
    yield "## Memory"
    yield ""
    yield (
        f"**{best} MB** is best: what Lambda costs times how long an image takes is least there, {template}. The"
        f" cheapest, {cheapest} MB, saves {1 - bills[cheapest].dollars / bills[best].dollars:.0%} of the bill and takes"
        f" {seconds[cheapest] / seconds[best]:.1f} times as long. Below {MB_PER_CPU} MB a function has a part of a CPU"
        " and takes longer for the same price, only its waiting for AWS costs less. Above it, it has part of a second"
        " CPU, which is paid in full and helps as far as two encoders run."
    )
    yield ""
    yield "![Cost and time by memory size](plots/cost-by-memory.svg)"
    yield ""
    yield (
        "| MB | seconds an image | USD a million, arm64 | x86_64 | the usual sample, seconds | USD a million, arm64 |"
    )
    yield "|---:|---:|---:|---:|---:|---:|"
    for size in MEMORY_SIZES:
        arm, x86 = replace(usual, memory_mb=size), replace(usual, memory_mb=size, architecture="x86_64")
        yield (
            f"| {size} | {seconds[size]:.2f} | {bills[size].dollars:.2f} |"
            f" {bill_of_ours(x86, measured).dollars:.2f} | {billed_seconds_of_sample(arm, measured):.2f} |"
            f" {bill_of_sample(arm, measured).dollars:.2f} |"
        )
    yield ""
    full = replace(usual, batch=10)
    yield (
        "These are images that come one by one. When they queue, an invocation takes ten and waits for AWS about once:"
        f" {bill_of_ours(full, measured).dollars:.2f} USD a million instead of"
        f" {bill_of_ours(usual, measured).dollars:.2f}, and {bill_of_sample(full, measured).dollars:.2f} instead of"
        f" {bill_of_sample(usual, measured).dollars:.2f}."
    )
    yield ""


def _grounds(measured: Measured) -> Iterator[str]:
    yield "## What it rests on"
    yield ""
    yield (
        f"Measured on {measured.machine}, {measured.measured_on} (`benchmarks/results/function_seconds.json`): CPU"
        " seconds of one core, taken for those of a Lambda vCPU of either architecture. Yours will differ; measure with"
        " `make bench`."
    )
    yield ""
    yield "| Megapixels | Darkroom, CPU s | the usual sample, CPU s | Darkroom on one core, s | on two, s |"
    yield "|---:|---:|---:|---:|---:|"
    for point in measured.rendering:
        yield (
            f"| {point.megapixels:g} | {point.ours:.2f} | {point.sample:.2f} | {point.one_core:.2f} |"
            f" {point.two_cores:.2f} |"
        )
    yield ""
    ours, sample = (f"{seconds * 1000:.0f} ms" for seconds in (measured.handler_ours, measured.handler_sample))
    yield (
        f"To each comes what the handler takes beside rendering, calls of AWS most of all: {ours} with Darkroom, which"
        f" also renders each image in a process of its own, {sample} with the sample."
    )
    yield ""
    waits = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in WAITS.items())
    yield (
        f"Assumed: a call waits {waits}; S3 sends {BYTES_PER_SECOND / 1e6:.0f} MB a second; {MEGAPIXELS_PER_MB}"
        " megapixels to a MB of JPEG; images come evenly; every image is its key's first version, so that nothing is"
        " tagged stale; an upload is one PutObject. Left out: retries, cold starts, orders, RabbitMQ, the API, whoever"
        " reads the results, keeping the logs for a month (about a twentieth of taking them in), and the yearly new"
        " version of the alarm topic's key, a dollar a month more in each of the first two years."
    )
    yield ""
    yield (
        f"List prices, compared in {AS_OF} with public copies of AWS's own price list of August and September 2026,"
        " before free tiers, volume discounts and taxes. Where one was not found for a region, it is from memory:"
    )
    yield ""
    yield f"| | {REGIONS[0]}, USD | {REGIONS[1]}, USD | found for | |"
    yield "|---|---:|---:|---|---|"
    for price in PRICES.values():
        scale, of = (1e6, ", a million") if price.dollars[REGIONS[0]] < 1e-3 else (1, "")
        dollars = " | ".join(f"{price.dollars[region] * scale:.4g}" for region in REGIONS)
        found = "both" if price.checked == REGIONS else ", ".join(price.checked)
        yield f"| {price.unit}{of} | {dollars} | {found} | [{price.service}]({SOURCES[price.service]}) |"


def main() -> None:
    """Write the page and its plot."""
    from benchmarks import plots  # matplotlib, which `make bench` installs

    measured = load()
    PAGE.write_text(page_of(measured))
    plots.plot_memory_sizes(measured, _PLOT)


if __name__ == "__main__":
    main()
