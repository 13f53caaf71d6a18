"""The plots of the documentation, all in one style. Only this module needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

from benchmarks.cost import calculator as cost
from benchmarks.cost.function_seconds import Measured
from benchmarks.scaling.flow_model import Outcome

_OURS, _SAMPLE, _THIRD, _GREY = "#1b6ca8", "#d1495b", "#2f8f5b", "#8a8a8a"
# One point is the maximum over this many minutes, so that a file has a few kilobytes.
_MINUTES = 15
# Labels of the latency axis, by seconds.
_TIMES = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36_000: "10 h", 86_400 * 14: "kept: 14 days"}
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "darkroom",  # the same plot, the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
}


@contextmanager
def _figure(path: Path, rows: int, columns: int, size: tuple[float, float], **options: Any) -> Iterator[Any]:
    """Axes to draw on; the file is written when the block ends."""
    with mpl.rc_context(_STYLE):
        figure, axes = pyplot.subplots(rows, columns, figsize=size, layout="constrained", **options)
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def plot_memory_sizes(measured: Measured, path: Path) -> None:
    """Cost and time of an image by the function's memory, compared with the baseline."""
    loads = [cost.Load(images=1e6, memory_mb=size) for size in cost.MEMORY_SIZES]
    sizes = list(cost.MEMORY_SIZES)
    best = cost.best_memory(loads[0], measured)
    with _figure(path, 1, 2, (8, 3)) as (dollars, seconds):
        for architecture, style in (("arm64", "-"), ("x86_64", "--")):
            of = [replace(load, architecture=architecture) for load in loads]
            ours = [cost.bill_of_ours(load, measured).dollars for load in of]
            sample = [cost.bill_of_sample(load, measured).dollars for load in of]
            dollars.plot(sizes, ours, style, marker="o", ms=3, color=_OURS, label=f"Darkroom, {architecture}")
            dollars.plot(sizes, sample, style, marker="o", ms=3, color=_SAMPLE, label=f"baseline, {architecture}")
        dollars.set(ylabel="USD a million images", ylim=(0, None))
        ours = [cost.billed_seconds_of_ours(load, measured) for load in loads]
        sample = [cost.billed_seconds_of_sample(load, measured) for load in loads]
        seconds.plot(sizes, ours, marker="o", ms=3, color=_OURS, label="Darkroom")
        seconds.plot(sizes, sample, marker="o", ms=3, color=_SAMPLE, label="baseline")
        seconds.set(ylabel="seconds an image", ylim=(0, None))
        for axes in (dollars, seconds):
            axes.set(xlabel="memory, MB")
            axes.axvline(best, color=_GREY, lw=0.8, ls=":")
            axes.annotate(f"best: {best}", (best, 0), (4, 4), textcoords="offset points", color=_GREY)
            axes.legend(fontsize=8)


def plot_backlogs(outcomes: Sequence[tuple[str, Outcome, Outcome]], path: Path) -> None:
    """Images waiting over two days, a line for each load: with the template's defaults, and as recommended."""
    colours = mpl.colormaps["viridis"]
    with _figure(path, 1, 2, (8, 3.4), sharey=True) as grid:
        for axes, index, title in zip(grid, (0, 1), ("template's defaults", "as recommended"), strict=True):
            for number, (name, *pair) in enumerate(outcomes):
                backlog = pair[index].backlog
                blocks = [backlog[i : i + _MINUTES] for i in range(0, len(backlog), _MINUTES)]
                hours = [block[0][0] / 3600 for block in blocks]
                waiting = [max(images for _, images in block) for block in blocks]
                is_burst = "hour" in name
                colour = _SAMPLE if is_burst else colours(number / len(outcomes))
                axes.plot(hours, waiting, color=colour, lw=1.2, ls="--" if is_burst else "-", label=name)
            axes.set(xlabel="hours", xlim=(0, 48), xticks=range(0, 49, 6))
            axes.set_yscale("symlog", linthresh=1)
            axes.set_ylim(0, 1e9)
            axes.set_title(title, fontsize=9, loc="left")
            axes.yaxis.set_major_formatter(lambda value, _: _short(value))
        grid[0].set_ylabel("images waiting")
        grid[1].legend(fontsize=8)


def plot_latencies(outcomes: Sequence[tuple[str, Outcome, Outcome]], path: Path) -> None:
    """Time from upload to published, by load: median, p99 and maximum."""
    names = [name for name, *_ in outcomes]
    with _figure(path, 1, 2, (8, 3), sharey=True) as grid:
        for axes, index, title in zip(grid, (0, 1), ("template's defaults", "as recommended"), strict=True):
            for quantile, colour, label in (
                ("max", _SAMPLE, "the slowest"),
                ("p99", _OURS, "99 of 100"),
                ("p50", _THIRD, "half of them"),
            ):
                values = [getattr(pair[index], quantile) for _, *pair in outcomes]
                axes.plot(names, values, marker="o", ms=4, ls=":", color=colour, label=label)
            axes.set_yscale("log")
            axes.set_ylim(1, 3e6)
            axes.set_yticks(list(_TIMES), list(_TIMES.values()))
            axes.minorticks_off()
            axes.set_title(title, fontsize=9, loc="left")
            axes.tick_params(axis="x", rotation=30)
        grid[0].set_ylabel("upload to published")
        grid[1].legend(fontsize=8, loc="upper right")


def plot_ramp(curves: Sequence[tuple[str, Sequence[tuple[float, float]]]], path: Path) -> None:
    """Batches at once, by minutes since the start of a backlog."""
    with _figure(path, 1, 1, (6, 3)) as axes:
        for (name, curve), colour in zip(curves, (_SAMPLE, _OURS, _THIRD, _GREY), strict=True):
            minutes, counts = [second / 60 for second, _ in curve], [count for _, count in curve]
            axes.plot(minutes, counts, color=colour, label=f"{name}: {counts[-1]:,.0f}")
        axes.set_yscale("log")
        axes.set(xlabel="minutes with a backlog", ylabel="batches at once", xlim=(0, None), ylim=(4, 5000))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.minorticks_off()
        axes.legend(fontsize=8, loc="center right")


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:,g} {unit}"
    return f"{value:g}"


def plot_rendering(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """CPU seconds of every baseline on every large photo: rows of ``results/render.json``, of one set."""
    large = [row for row in rows if row["megapixels"] >= 12]
    photos = list(dict.fromkeys(row["photo"] for row in large))
    baselines = [name for name in dict.fromkeys(row["baseline"] for row in large) if name != "ours again"]
    width = 0.8 / len(baselines)
    with _figure(path, 1, 1, (9, 4)) as axes:
        for number, name in enumerate(baselines):
            found = {row["photo"]: row["cpu"] for row in large if row["baseline"] == name}
            at = [place for place, photo in enumerate(photos) if photo in found]
            spreads = [found[photos[place]] for place in at]
            errors = [[s["median"] - s["low"] for s in spreads], [s["high"] - s["median"] for s in spreads]]
            axes.bar([a + number * width for a in at], [s["median"] for s in spreads], width, yerr=errors, label=name)
        axes.set_xticks([place + 0.4 - width / 2 for place in range(len(photos))], photos)
        axes.set_ylabel("CPU seconds, median and middle half")
        axes.set_title(f"{title} set, photos of 12 megapixels and more")
        axes.legend(fontsize=8)


def plot_front(rows: Sequence[Mapping[str, Any]], sizes: Sequence[int], path: Path) -> None:
    """Bytes against time of every encoder setting, by rendition size: rows of ``results/encoders.json``."""
    with _figure(path, 1, len(sizes), (15, 4.5), sharey=True) as panels:
        for size, axes in zip(sizes, panels, strict=True):
            for kind, colour in (("webp", _OURS), ("avif", _SAMPLE), ("jpeg", _THIRD)):
                found = [row for row in rows if row["size"] == size and row["format"] == kind]
                times, lengths = [r["seconds_ratio"] for r in found], [r["bytes_ratio"] for r in found]
                axes.scatter(times, lengths, c=colour, label=kind)
                for row in found:
                    label = row["setting"].removeprefix(f"{kind} ").replace("effort ", "")
                    axes.annotate(label, (row["seconds_ratio"], row["bytes_ratio"]), fontsize=7)
            axes.set_xscale("log")
            axes.set_title(f"{size} px")
            axes.set_xlabel("time ÷ that of WebP effort 4")
        panels[0].set_ylabel("bytes ÷ those of WebP effort 4")
        panels[0].legend()
