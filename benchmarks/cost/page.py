"""docs/cost.md and its plot, from the calculator's own numbers: `make cost-page`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.cost.bill import (
    MEMORY_SIZES,
    MISSED_REDIRECTS,
    MISSED_RENDITIONS,
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
from benchmarks.cost.template_counts import PHOTOS_ONLY
from benchmarks.function_settings import MEMORY_MB
from benchmarks.markdown import wrapped

_DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = _DOCS / "cost.md"
_PLOT = _DOCS / "plots" / "cost-by-memory.svg"


def page_of(measured: Measured) -> str:
    """docs/cost.md."""
    usual = Load(images=1e6)
    parts = (
        _bill(usual, measured),
        _volumes(usual, measured),
        _memory(usual, measured),
        _views(usual, measured),
        _grounds(measured),
    )
    return wrapped(line for part in parts for line in part)


def _bill(usual: Load, measured: Measured) -> Iterator[str]:
    ours, sample = bill_of_ours(usual, measured), bill_of_sample(usual, measured)
    fixed = ours.dollars - ours.running_dollars
    yield "<!-- Made by `make cost-page` from benchmarks/cost/page.py, prices.py and results. Do not edit. -->"
    yield "# Cost"
    yield ""
    yield (
        f"A million images of {usual.megabytes:g} MB in a month cost **{ours.dollars:.1f} USD** in {usual.region} with"
        f" {usual.memory_mb} MB and {usual.architecture}: {ours.running_dollars:.1f} for the images, and {fixed:.1f}"
        " for the idle stack. The baseline (Pillow, resizing the photo for each size), with the same renditions"
        " and nothing"
        f" else, costs **{sample.dollars:.1f} USD**. `make cost IMAGES=1000000 MB=4` calculates yours (MEMORY, ARCH,"
        " REGION, BATCH, VIEWS, DELIVERY, STABLE)."
    )
    yield ""
    photos_only = sum(line.dollars for line in bill_of_ours(usual, measured, PHOTOS_ONLY).fixed)
    yield (
        "A stack with photos only, that is with `Orders=false HttpApi=false`, costs"
        f" **{photos_only:.2f} USD** a month while it is idle. `make cost PHOTOS_ONLY=1` lists for what."
    )
    yield ""
    yield "| Component | Driven by | USD | Baseline |"
    yield "|---|---|---:|---:|"
    for lines, theirs, note in ((ours.running, sample.running, ""), (ours.fixed, sample.fixed, ", always")):
        other = {line.price: line.dollars for line in theirs}
        for line in lines:
            yield (f"| {line.component} | {line.driver}{note} | {line.dollars:.2f} | {other.get(line.price, 0):.2f} |")
    yield f"| | **Together** | **{ours.dollars:.2f}** | **{sample.dollars:.2f}** |"
    yield ""
    yield (
        "The baseline handles records one after the other, decodes the photo for each size and writes each rendition"
        " when it is done. It has no tasks, versions, records or results, and pays nothing for them. What Darkroom pays"
        " for DynamoDB, traces, metrics and alarms is the price of doing each task once and of knowing its outcome."
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
        f"USD per million images, {usual.architecture}, {usual.memory_mb} MB. With few images the fixed cost"
        " dominates; with"
        " many, only a part is traced."
    )
    yield ""
    yield f"| Images a month | {usual.region} | us-east-1 | baseline, {usual.region} |"
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
    template = "as the template has it" if str(best) == MEMORY_MB else f"the template has {MEMORY_MB} MB"
    yield "## Memory"
    yield ""
    yield (
        f"**{best} MB** is best: Lambda's cost times the time of an image is least there; {template}. The"
        f" cheapest, {cheapest} MB, saves {1 - bills[cheapest].dollars / bills[best].dollars:.0%} of the bill and takes"
        f" {seconds[cheapest] / seconds[best]:.1f} times as long. Below {MB_PER_CPU} MB a function has a part of a CPU"
        " and takes longer for the same price; only its waiting for AWS costs less. Above that it has part of a second"
        " CPU, which costs in full and helps only while two encoders run."
    )
    yield ""
    yield "![Cost and time by memory size](plots/cost-by-memory.svg)"
    yield ""
    yield ("| MB | seconds per image | USD per million, arm64 | x86_64 | baseline, seconds | USD per million, arm64 |")
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
        "These images arrive one by one. When they queue, an invocation takes ten and waits for AWS about once:"
        f" {bill_of_ours(full, measured).dollars:.2f} USD a million instead of"
        f" {bill_of_ours(usual, measured).dollars:.2f}, and {bill_of_sample(full, measured).dollars:.2f} instead of"
        f" {bill_of_sample(usual, measured).dollars:.2f}."
    )
    yield ""


def _views(usual: Load, measured: Measured) -> Iterator[str]:
    viewed = replace(usual, views=1)
    kinds = {
        "By S3, at signed addresses": viewed,
        "By CloudFront, at immutable addresses": replace(viewed, delivered=True),
        "By CloudFront, at stable addresses": replace(viewed, delivered=True, by_stable_address=1),
    }
    unseen = sum(line.dollars for line in bill_of_ours(usual, measured).kept)
    yield "## Views"
    yield ""
    yield (
        f"USD for a million views of an image's largest rendition ({measured.largest_rendition_bytes:,} bytes) in"
        f" {usual.region}, before CloudFront's free tier. `make cost VIEWS=10 DELIVERY=1 STABLE=0.5` adds yours."
    )
    yield ""
    yield "| | USD | of that for requests |"
    yield "|---|---:|---:|"
    for name, load_ in kinds.items():
        lines = bill_of_ours(load_, measured).kept
        sent = sum(line.dollars for line in lines if line.price in ("transfer.out", "cloudfront.out"))
        dollars = sum(line.dollars for line in lines) - unseen
        yield f"| {name} | {dollars:.2f} | {dollars - sent:.2f} |"
    yield ""
    yield (
        f"CloudFront is assumed to pass on {MISSED_RENDITIONS:.0%} of the requests for a rendition to S3, and"
        f" {MISSED_REDIRECTS:.0%} of those for a stable address to `LocateImageFunction`. An invalidation costs nothing"
        " for the first thousand paths a month, and 0.005 USD for each one more: only `make erase` makes any."
    )
    yield ""


def _grounds(measured: Measured) -> Iterator[str]:
    yield "## Measurements and assumptions"
    yield ""
    yield (
        f"Measured on {measured.machine}, {measured.measured_on} (`benchmarks/results/function_seconds.json`): CPU"
        " seconds of one core, assumed equal to those of a Lambda vCPU of either architecture. Yours differ;"
        " measure with"
        " `make bench`."
    )
    yield ""
    yield "| Megapixels | Darkroom, CPU s | baseline, CPU s | Darkroom on one core, s | on two, s |"
    yield "|---:|---:|---:|---:|---:|"
    for point in measured.rendering:
        yield (
            f"| {point.megapixels:g} | {point.ours:.2f} | {point.sample:.2f} | {point.one_core:.2f} |"
            f" {point.two_cores:.2f} |"
        )
    yield ""
    ours, sample = (f"{seconds * 1000:.0f} ms" for seconds in (measured.handler_ours, measured.handler_sample))
    yield (
        f"The handler adds to each, mostly for AWS calls: {ours} with Darkroom, which also starts a process for"
        " each image,"
        f" {sample} with the baseline."
    )
    yield ""
    waits = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in WAITS.items())
    yield (
        f"Assumptions: a call waits {waits}; S3 sends {BYTES_PER_SECOND / 1e6:.0f} MB a second; {MEGAPIXELS_PER_MB}"
        " megapixels per MB of JPEG; images arrive evenly; every image is the first version of its key, so nothing is"
        " tagged stale; an upload is one PutObject. Not included: retries, cold starts, orders, RabbitMQ, the API, the"
        " reader of the results, storage of the logs (about a twentieth of their ingestion), and the yearly new"
        " version of"
        " the alarm topic's key, one dollar a month more in each of the first two years."
    )
    yield ""
    yield (
        f"List prices, compared in {AS_OF} with public copies of AWS's price list of August and September 2026,"
        " before free"
        " tiers, volume discounts and taxes. A price that was not found for a region is from memory:"
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
