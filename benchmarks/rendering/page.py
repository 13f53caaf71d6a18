"""docs/performance.md and its plots, from ``benchmarks/results``: `make bench-page`, and the end of `make bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.plots import plot_front, plot_rendering
from benchmarks.rendering.encoders import OUR_DEFAULTS, SHARP_DEFAULTS, SIZES, VIEWS, prices
from benchmarks.rendering.measurements import load
from benchmarks.rendering.targets import bounds, figures, wanted, zipped

_PROJECT = Path(__file__).resolve().parents[2]
_PAGE = _PROJECT / "docs" / "performance.md"
_PLOTS = _PROJECT / "docs" / "performance"


def write() -> None:
    """Write the page and its plots."""
    _PLOTS.mkdir(exist_ok=True)
    rendering, batches, encoders, cold = load("render"), load("batch"), load("encoders"), load("cold_start")
    parts = [_HEAD, *_targets()]
    if rendering:
        parts += _rendering(rendering)
    if batches:
        parts += _batches(batches)
    if encoders:
        parts += _encoders(encoders)
    if cold:
        parts += _cold_starts(cold)
    _PAGE.write_text("\n".join(parts) + "\n", encoding="utf-8")


_HEAD = """# Performance

Made by `make bench` from `benchmarks/results`; do not edit. `make bench ROUNDS=20 ENCODER_PHOTOS=22` is the long run.

The photos are real pictures, joined and enlarged smoothly to the sizes of uploads (`benchmarks/rendering/photos.py`).
Every baseline runs in a process of its own, all on one core, in turns, in an order shuffled anew for each photo of each
round. Baselines are compared by CPU seconds, photo by photo and round by round: the machine may be busy with other
work, which lengthens the wall clock but hardly these. Each writes the same four renditions (256, 640, 1280 and 1920
pixels), WebP with effort 4 or progressive JPEG, quality 80. SSIM is that of the luma against Pillow's Lanczos from all
pixels, the mean of the four."""


def _targets() -> list[str]:
    measured = figures()
    lines = ["", "## Targets", "", "| Target | Wanted | Measured | Met |", "|---|---|---|---|"]
    for bound in bounds():
        value = measured.get(bound.figure)
        said = "not measured" if value is None else f"{value:.3g}"
        met = "" if value is None else "yes" if bound.is_met(value) else "**no**"
        lines.append(f"| {bound.what[0].upper()}{bound.what[1:]} | {wanted(bound, bound.target)} | {said} | {met} |")
    note = "Ratios are the least, or the most, over the photos of 12 megapixels and more: each photo has to keep them."
    return [*lines, "", note]


def _about(measured: dict[str, Any]) -> str:
    machine = measured["machine"]
    rounds = f"{measured['rounds']} rounds. " if "rounds" in measured else ""
    return (
        f"{rounds}{machine['date']}, {machine['processor']}, {machine['system']}, load {machine['load']} at the end.\n"
        f"{machine['versions']}."
    )


def _rendering(measured: dict[str, Any]) -> list[str]:
    rows = measured["rows"]
    again = [row["ratio"] for row in rows if row["baseline"] == "ours again"]
    low, high = min(r["median"] for r in again), max(r["median"] for r in again)
    widest = max((r["high"] - r["low"] for r in again), default=0)
    lines = [
        "",
        "## Rendering, side by side",
        "",
        _about(measured),
        "",
        f"Noise: ours against ours is {low:.2f} to {high:.2f} by photo; the middle half of its pairs spans up to"
        f" {widest:.2f}.",
        "Differences smaller than that say nothing.",
    ]
    lines += [f"\n{name} was not measured: {how}." for name, how in measured["missing"].items()]
    for rendition_set, title in (("webp", "WebP"), ("jpeg", "JPEG")):
        plot = f"{rendition_set}.svg"
        plot_rendering([row for row in rows if row["set"] == rendition_set], title, _PLOTS / plot)
        lines += ["", f"### {title} set", "", f"![CPU seconds of the {title} set](performance/{plot})"]
        for photo in dict.fromkeys(row["photo"] for row in rows if row["set"] == rendition_set):
            lines += [
                "",
                f"**{photo}**",
                "",
                *_rows([r for r in rows if (r["set"], r["photo"]) == (rendition_set, photo)]),
            ]
    lines += [
        "",
        "`parts alone` is libvips decoding, resizing and encoding one after the other, each from memory to memory,",
        "without placeholder. sharp has no HEVC decoder; of the animation, only those are shown that keep it moving.",
        "vipsthumbnail's rows include the start of its four processes; memory is a fresh process's, above a bare",
        "interpreter.",
    ]
    return lines


def _rows(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| | CPU s (middle half) | through ours (middle half) | wall s | MB | bytes | SSIM |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cpu, ratio = row["cpu"], row["ratio"]
        lines.append(
            f"| {row['baseline']} | {cpu['median']:.3f} ({cpu['low']:.3f} to {cpu['high']:.3f})"
            f" | {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}) | {row['seconds']['median']:.2f}"
            f" | {'' if row['peak_mb'] is None else round(row['peak_mb'])} | {row['bytes']:,}"
            f" | {'' if row['ssim'] is None else format(row['ssim'], '.4f')} |"
        )
    return lines


def _batches(measured: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## A batch of ten, with slow S3",
        "",
        _about(measured),
        "",
        "Whole handlers, event to answer, against a stand-in in another process that takes"
        f" {measured['s3_seconds'] * 1000:.0f} ms over each call of S3.",
        "One core is Lambda at 1769 MB: there the computing of large photos is nearly all.",
        "Two cores are Lambda at 3538 MB.",
        "",
        "| Batch | Handler | wall s | CPU s | one message alone, wall s |",
        "|---|---|---|---|---|",
    ]
    for batch in measured["batches"]:
        what = f"ten of {batch['photo']}, {batch['cores']} core{'s' if batch['cores'] > 1 else ''}"
        for name in ("ours", "usual sample"):
            alone = f"{batch['chain']['seconds']['median']:.2f}" if name == "ours" else ""
            times = batch[name]
            lines.append(
                f"| {what} | {name} | {times['seconds']['median']:.2f} | {times['cpu']['median']:.2f} | {alone} |"
            )
    handler, apart, calls = measured["handler"], measured["apart"], measured["with_aws_calls"]
    return [
        *lines,
        "",
        "What the wall time is compared with is the larger of the batch's CPU time, through the cores, and of the wall"
        " time of one message alone.",
        "",
        f"The handler itself takes {handler['median']:.1f} ms of CPU an image ({handler['low']:.1f} to"
        f" {handler['high']:.1f}): event to answer over ports in memory.",
        f"That every image is rendered in a process of its own takes {apart['median']:.1f} ms more"
        f" ({apart['low']:.1f} to {apart['high']:.1f}), which the tables above leave out"
        " ([why it is worth that](decisions/0015-decoding-apart.md)).",
        "Both with a photo of 16 x 16 pixels, less the rendering of that photo.",
        f"With boto3's nine calls and a photo of 0.3 megapixels it is {calls['median']:.0f} ms in all.",
    ]


def _encoders(measured: dict[str, Any]) -> list[str]:
    rows = measured["rows"]
    plot_front(rows, SIZES, _PLOTS / "encoders.svg")
    priced = dict(prices(rows))
    lines = [
        "",
        "## Encoder settings",
        "",
        _about(measured),
        "",
        f"{measured['photos']} photos. All at one SSIM, by interpolation between qualities: that of WebP at effort 4"
        " and quality 80.",
        "A photo is left out of a row where the qualities tried do not span that:"
        f" {min(row['photos'] for row in rows)} are left at least.",
        "1 is WebP at effort 4. To the left is faster, down is smaller.",
        "",
        "![Bytes over time of every setting](performance/encoders.svg)",
        "",
        "| Setting | " + " | ".join(f"{size} px: time, bytes" for size in SIZES) + " |",
        "|---|" + "---|" * len(SIZES),
    ]
    for name in dict.fromkeys(row["setting"] for row in rows):
        of_setting = {row["size"]: row for row in rows if row["setting"] == name}
        cells = [
            f"{of_setting[size]['seconds_ratio']:.2f}, {of_setting[size]['bytes_ratio']:.3f}"
            if size in of_setting
            else ""
            for size in SIZES
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "### Priced",
        "",
        "US dollars for a million photos of four renditions: computed once (Lambda, arm64, 1769 MB), stored for a year",
        "(S3 Standard), and each rendition sent to so many viewers (CloudFront); prices in",
        "`benchmarks/cost/prices.py`.",
        "",
        "| Setting | " + " | ".join(f"{views:,} views" for views in VIEWS) + " |",
        "|---|" + "---|" * len(VIEWS),
        *(
            f"| {_marked(name)} | " + " | ".join(f"{sum_:,.2f}" for sum_ in sums) + " |"
            for name, sums in priced.items()
        ),
        "",
        _ADVICE,
    ]
    return lines


def _marked(name: str) -> str:
    marks = ["ours"] if name in OUR_DEFAULTS.values() else []
    marks += ["sharp's"] if name in SHARP_DEFAULTS.values() else []
    return f"{name} ({' and '.join(marks)} default)" if marks else name


_ADVICE = "Which setting when: [docs/decisions/0017-encoder-settings.md](decisions/0017-encoder-settings.md)."


def _cold_starts(measured: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## Cold starts",
        "",
        _about(measured),
        "",
        "A fresh process on one core that imports the handler out of what `sam build` made, until it is ready for its",
        "first event; for images that includes the render server. Beside it a process that makes the same clients by",
        "`boto3.client` and imports its codec alone: pyvips, Pillow and pi-heif for images, a validator and",
        "Stripe's library for orders, a validator for the relay. `evicted`: the kernel has forgotten every file of it,",
        "of boto3 and of the standard library. Lambda's clock is another; the ratios are what counts.",
        "",
        "| Function | Page cache | | wall s (middle half) | CPU s | MB read | wall, through the least (middle half) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in measured["starts"]:
        wall, ratio = row["seconds"], row["ratio"]
        lines.append(
            f"| {row['function']} | {row['cache']} | {row['baseline']}"
            f" | {wall['median']:.2f} ({wall['low']:.2f} to {wall['high']:.2f})"
            f" | {row['cpu']['median']:.2f} | {row['read_mb']['median']:.0f}"
            f" | {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}) |"
        )
    lines += [
        "",
        "### What is imported",
        "",
        "`-X importtime`, milliseconds by package, the largest; without the time in which clients are made.",
        "",
        "| Function | all | |",
        "|---|---|---|",
    ]
    for name, imports in measured["imports"].items():
        packages = ", ".join(f"{package} {ms:.0f}" for package, ms in imports["packages"].items())
        lines.append(f"| {name} | {imports['all']:.0f} | {packages} |")
    lines += [
        "",
        "### What is deployed",
        "",
        "MB by part, built for this machine; Lambda's differ by the size of the wheels.",
        "",
        "| Part | zipped | of it bytecode | unpacked |",
        "|---|---|---|---|",
    ]
    for name, size in measured["sizes"].items():
        lines.append(f"| {name} | {size['zipped']:.2f} | {size['bytecode']:.2f} | {size['unpacked']:.1f} |")
    lines += [
        f"| **{name} with its layers** | **{megabytes:.1f}** | | |" for name, megabytes in zipped(measured).items()
    ]
    return lines
