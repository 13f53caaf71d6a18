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

from benchmarks.cost import bill as cost
from benchmarks.cost.function_seconds import Measured

_OURS, _SAMPLE, _THIRD, _GREY = "#1b6ca8", "#d1495b", "#2f8f5b", "#8a8a8a"
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
