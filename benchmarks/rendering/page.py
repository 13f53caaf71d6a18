"""docs/performance.md and its plots, from ``benchmarks/results``: `make bench-page`, and the end of `make bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.markdown import wrapped
from benchmarks.plots import plot_front, plot_rendering
from benchmarks.rendering.comparison import AGAIN, OURS, SHARP
from benchmarks.rendering.encoders import (
    AVIF_VIEWERS,
    OUR_DEFAULTS,
    SHARP_DEFAULTS,
    SIZES,
    TOGETHER,
    VIEWS,
    prices,
    views_to_pay,
)
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
    if formats := load("formats"):
        parts += _formats(formats, encoders["rows"] if encoders else [])
    if cold:
        parts += _cold_starts(cold)
    if ten := load("ten_at_once"):
        parts += _ten_at_once(ten)
    if first := load("first_byte"):
        parts += first_bytes(first)
    _PAGE.write_text(wrapped("\n".join(parts).splitlines()), encoding="utf-8")


_HEAD = """# Performance

Made by `make bench` from `benchmarks/results`; do not edit. `make bench ROUNDS=20 ENCODER_PHOTOS=17` is the long run.

The photos are mosaics of real pictures at their own resolution, with noise as of a sensor: there is detail in every
pixel (`benchmarks/rendering/photos.py`). Sections with an earlier date than
2026-11-28 used smoother photos. Every tool runs in a process of its own, all on one core, in turns, in an
order that is shuffled for each photo of each round. They are compared by CPU seconds, photo by photo and round by
round: other work on the machine lengthens the wall time but hardly these. Each writes the same four renditions (256,
640, 1280 and 1920 pixels), WebP with effort 4 or progressive JPEG, quality 80. SSIM (of the luma) and SSIMULACRA2
compare a rendition with Pillow's Lanczos from all pixels. Where one SSIM is shown, it is the mean of the four.

The baseline is Pillow, resizing the photo again for each size, as most samples do: no task, no record, no result."""


def _targets() -> list[str]:
    measured = figures()
    lines = ["", "## Targets", "", "| Target | Limit | Measured | Met |", "|---|---|---|---|"]
    for bound in bounds():
        value = measured.get(bound.figure)
        said = "not measured" if value is None else f"{value:.3g}"
        met = "" if value is None else "yes" if bound.is_met(value) else "**no**"
        lines.append(f"| {bound.what[0].upper()}{bound.what[1:]} | {wanted(bound, bound.target)} | {said} | {met} |")
    note = (
        "*A ÷ B* is A's CPU time divided by B's: above 1, B is faster. Ratios are the least, or the most, over the\n"
        "photos of 12 megapixels and more: each photo has to meet them."
    )
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
        "## Rendering",
        "",
        _about(measured),
        "",
        f"Noise: Darkroom ÷ Darkroom is {low:.2f} to {high:.2f} by photo; the middle half of its pairs spans up to"
        f" {widest:.2f}.",
        "Smaller differences mean nothing.",
    ]
    lines += [f"\n{name} was not measured: {how}." for name, how in measured["missing"].items()]
    for rendition_set, title in (("webp", "WebP"), ("jpeg", "JPEG")):
        plot = f"{rendition_set}.svg"
        plot_rendering([r for r in rows if r["set"] == rendition_set and not r.get("kind")], title, _PLOTS / plot)
        lines += ["", f"### {title} set", "", f"![CPU seconds of the {title} set](performance/{plot})"]
        for photo in dict.fromkeys(r["photo"] for r in rows if r["set"] == rendition_set and not r.get("kind")):
            lines += [
                "",
                f"**{photo}**",
                "",
                *_rows([r for r in rows if (r["set"], r["photo"]) == (rendition_set, photo)]),
            ]
    lines += [
        "",
        "`parts alone` is libvips decoding, resizing and encoding one after the other, each from memory to memory,",
        "without placeholder. sharp has no HEVC decoder. For the animation, only tools that keep it moving are shown.",
        "vipsthumbnail's rows include the start of its four processes. Memory is that of a fresh process, above a bare",
        "interpreter.",
    ]
    return [*lines, *_detail(rows), *_TRIED]


def _detail(rows: list[dict[str, Any]]) -> list[str]:
    """The comparison with sharp of every kind of photo, rendition by rendition."""
    of = {(row["baseline"], row["photo"], row["set"]): row for row in rows if row.get("kind")}
    compared = [(photo, rendition_set) for name, photo, rendition_set in of if name == SHARP]
    if not compared:
        return []
    widths = [rendition["width"] for rendition in of[(SHARP, *compared[0])]["renditions"]]
    lines = [
        "",
        "### Detail",
        "",
        "Every kind of photo, Darkroom with sharp from one decode. Time is sharp's ÷ Darkroom's, with the middle",
        "half of the pairs; `again` is Darkroom ÷ Darkroom. For each rendition: SSIM and SSIMULACRA2 of Darkroom",
        "less those of sharp, and Darkroom's bytes less sharp's in per cent.",
    ]
    for rendition_set in dict.fromkeys(rendition_set for _, rendition_set in compared):
        lines += [
            "",
            f"| {rendition_set.upper().replace('WEBP', 'WebP')} set | time | again | "
            + " | ".join(f"{width} px" for width in widths)
            + " |",
            "|---|---|---|" + "---|" * len(widths),
        ]
        for photo in (photo for photo, of_set in compared if of_set == rendition_set):
            ours, again, sharp = (of[name, photo, rendition_set] for name in (OURS, AGAIN, SHARP))
            time = sharp["ratio"]
            cells = [
                f"{mine['ssim'] - theirs['ssim']:+.4f}, {mine['ssimulacra2'] - theirs['ssimulacra2']:+.2f},"
                f" {100 * (mine['bytes'] / theirs['bytes'] - 1):+.1f} %"
                for mine, theirs in zip(ours["renditions"], sharp["renditions"], strict=True)
            ]
            lines.append(
                f"| {photo} | {time['median']:.2f} ({time['low']:.2f} to {time['high']:.2f})"
                f" | {again['ratio']['median']:.2f} | " + " | ".join(cells) + " |"
            )
    return lines


_TRIED = [
    "",
    "The JPEG decoder shrinks as much as leaves 1.5 times the largest rendition, which is sharp's factor for these",
    "photos; the WebP decoder shrinks to the largest rendition, as sharp's does. A smaller rendition is made from the",
    "smallest one that is at least four times as large, or from the largest; sharp's are all made from the largest.",
    "",
    "What brought nothing, or was left out: libvips passes only halves, quarters and eighths to libjpeg-turbo, none",
    "of its other scales. The placeholder is hashed while the encoders run, and takes no thread of its own. AVIF at",
    "effort 0 for large sizes is [decision 17](decisions/0017-encoder-settings.md), measured with photos that have",
    "less detail.",
    "",
    "jpegli was measured with `pyjpegli` 0.3.2: three photos (fur, architecture, skin) at 1920 pixels, at the",
    "SSIMULACRA2 of our progressive JPEG at quality 80. Its sequential files have 7, 2 and 5 % fewer bytes and take",
    "22, 22 and 20 ms of CPU time instead of 119, 98 and 79; SSIM is .0038, .0005 and .0061 lower. libjpeg-turbo",
    "takes 13 to 15 ms without optimised tables. It is not used: the package is one person's, in beta, and encodes",
    "RGB alone, no grey.",
]


def _shown(name: str) -> str:
    return name.replace("ours", "Darkroom")


def _rows(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| | CPU s (middle half) | ÷ Darkroom (middle half) | wall s | MB | bytes | SSIM |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cpu, ratio = row["cpu"], row["ratio"]
        lines.append(
            f"| {_shown(row['baseline'])} | {cpu['median']:.3f} ({cpu['low']:.3f} to {cpu['high']:.3f})"
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
        "Whole handlers, event to answer, against a fake of AWS in another process whose S3 calls take"
        f" {measured['s3_seconds'] * 1000:.0f} ms each.",
        "One core is Lambda at 1769 MB, where large photos spend nearly all their time computing.",
        "Two cores are Lambda at 3538 MB.",
        "",
        "| Batch | Handler | wall s | CPU s | one message alone, wall s |",
        "|---|---|---|---|---|",
    ]
    for batch in measured["batches"]:
        what = f"ten of {batch['photo']}, {batch['cores']} core{'s' if batch['cores'] > 1 else ''}"
        for name in ("ours", "baseline"):
            alone = f"{batch['chain']['seconds']['median']:.2f}" if name == "ours" else ""
            times = batch[name]
            lines.append(
                f"| {what} | {_shown(name)} | {times['seconds']['median']:.2f} | {times['cpu']['median']:.2f} |"
                f" {alone} |"
            )
    handler, apart, calls = measured["handler"], measured["apart"], measured["with_aws_calls"]
    return [
        *lines,
        "",
        "The wall time is compared with the larger of the batch's CPU time per core and the wall time of one message"
        " alone.",
        "",
        f"The handler itself takes {handler['median']:.1f} ms of CPU per image ({handler['low']:.1f} to"
        f" {handler['high']:.1f}): event to answer over ports in memory.",
        f"The separate process of each image takes {apart['median']:.1f} ms more"
        f" ({apart['low']:.1f} to {apart['high']:.1f}), which the tables above do not include"
        " ([why it is worth that](decisions/0015-decoding-apart.md)).",
        "Both with a photo of 16 x 16 pixels, less the rendering of that photo.",
        f"With boto3's nine calls and a photo of 0.3 megapixels it is {calls['median']:.0f} ms in total.",
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
        f"{measured['photos']} photos. All at the SSIM of WebP at effort 4 and quality 80, by interpolation between"
        " qualities.",
        "A row leaves out the photos whose qualities do not span that SSIM;"
        f" at least {min(row['photos'] for row in rows)} remain.",
        "1 is WebP at effort 4. Further left is faster, further down is smaller.",
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
        "(S3 Standard), and each rendition sent to this many viewers (CloudFront); prices in",
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


def _formats(measured: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "",
        "### A second format",
        "",
        _about(measured),
        "",
        f"{measured['photos']} photos, each rendered with every set, in turns: the default set, and with all of it in"
        " AVIF, too, from the same decode.",
        "",
        "| Set | CPU s a photo | ÷ WebP | kB of WebP | kB of AVIF |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, of_set in measured["sets"].items():
        webp, avif = (of_set["bytes"].get(f"image/{one}", 0) / 1000 for one in ("webp", "avif"))
        shown = f"{avif:.0f}" if avif else ""
        lines.append(f"| {name} | {of_set['seconds']:.2f} | {of_set['ratio']:.2f} | {webp:.0f} | {shown} |")
    if rows:
        pays = " and ".join(f"from {views_to_pay(rows, name):.0f} views ({name})" for name in TOGETHER)
        lines += [
            "",
            f"By the prices above, if {AVIF_VIEWERS:.0%} of the viewers take AVIF, both formats together are cheaper"
            f" than WebP alone {pays} of each rendition in its first year on.",
        ]
    return lines


def _marked(name: str) -> str:
    marks = ["ours"] if name in OUR_DEFAULTS.values() else []
    marks += ["sharp's"] if name in SHARP_DEFAULTS.values() else []
    return f"{name} ({' and '.join(marks)} default)" if marks else name


_ADVICE = "Which setting when: [docs/decisions/0017-encoder-settings.md](decisions/0017-encoder-settings.md)."


def _ten_at_once(measured: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## Ten images at once",
        "",
        _about(measured),
        "",
        "`python -m benchmarks.rendering.ten_at_once`: ten images in one batch of a function with 1769 MB, one vCPU and"
        " 50 s, with the real render server and admission; the default boxes. Every format of uploads has the default"
        " renditions, a small photo every other format and effort. An attempt is a receive that began the image; a task"
        " becomes a dead letter after ten, or after 30 receives. A photo that fills the default boxes is expected to"
        " take more CPU time than an image may (25 s) in AVIF from effort 5 on: choose a lower effort or smaller"
        " boxes.",
        "",
        "| Images | ready | receives | attempts, at most | s of all receives | expected s of an image |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in measured["rows"].items():
        ready = f"{row['ready']} of {row['images']}" + (f", {row['fault']}" if row["fault"] else "")
        lines.append(
            f"| {name} | {ready} | {row['receives']} | {row['attempts']} | {row['seconds']:.0f}"
            f" | {row['estimate']:.1f} |"
        )
    return lines


def _cold_starts(measured: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## Cold starts",
        "",
        _about(measured),
        "",
        "A fresh process on one core that imports the handler from the output of `sam build`, until it is ready"
        " for its",
        "first event; for images that includes the render server. It is compared with a process that only creates the",
        "same clients with `boto3.client` and imports its codec: pyvips, Pillow and pi-heif for images, a"
        " validator and",
        "Stripe's library for orders, a validator for the relay. `evicted`: none of its files, nor those of boto3"
        " and of",
        "the standard library, are in the page cache. Lambda has other times; compare the ratios.",
        "",
        "| Function | Page cache | | wall s (middle half) | CPU s | MB read | wall ÷ the least (middle half) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in measured["starts"]:
        wall, ratio = row["seconds"], row["ratio"]
        lines.append(
            f"| {row['function']} | {row['cache']} | {_shown(row['baseline'])}"
            f" | {wall['median']:.2f} ({wall['low']:.2f} to {wall['high']:.2f})"
            f" | {row['cpu']['median']:.2f} | {row['read_mb']['median']:.0f}"
            f" | {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}) |"
        )
    apart = measured.get("apart", {})
    for text in dict.fromkeys(apart.values()):
        names = ", ".join(name for name in apart if apart[name] == text)
        lines += ["", f"Measured at another time: {names}, {text}."]
    lines += [
        "",
        "### What is imported",
        "",
        "`-X importtime`, milliseconds by package, the largest; without the creation of clients.",
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
        "MB by part, built for this machine; the wheels for Lambda have other sizes.",
        "",
        "| Part | zipped | of that bytecode | unpacked |",
        "|---|---|---|---|",
    ]
    for name, size in measured["sizes"].items():
        lines.append(f"| {name} | {size['zipped']:.2f} | {size['bytecode']:.2f} | {size['unpacked']:.1f} |")
    lines += [
        f"| **{name} with its layers** | **{megabytes:.1f}** | | |" for name, megabytes in zipped(measured).items()
    ]
    return lines


def first_bytes(measured: dict[str, Any]) -> list[str]:
    """The section on the time from an upload to the first byte of a rendition."""
    rows = [f"| {name} | {cuts['p50']:.0f} | {cuts['p99']:.0f} |" for name, cuts in measured["ms"].items()]
    about = _about(measured)
    return [
        "",
        "## From the upload to the first byte",
        "",
        about,
        "",
        f"`make first-byte` on the laptop stack: {measured['uploads']} uploads of {measured['photo']}, one after the"
        " other. A form is signed, the photo posted, the record looked up every 50 ms until it is there, and a"
        " rendition fetched. AWS has other times: here the emulator is one process, and there is no network.",
        "",
        "| Stage | p50, ms | p99, ms |",
        "|---|---:|---:|",
        *rows,
    ]
