"""`make bench`: measures, writes docs/performance.md, and compares with ``budget.toml``.

The exit code is 1 if a budget is exceeded. The parts are ``render``, ``batch``, ``encoders``, ``formats`` and
``cold``; ``page`` only writes the page. It runs in ``.local/bench``; ``benchmarks.api_reads`` measures reads over HTTP.
"""

from __future__ import annotations

import argparse
import os
import sys

from rich.console import Console
from rich.table import Table

from benchmarks.rendering import batches, cold_start, encoders, formats, page
from benchmarks.rendering import comparison as rendering
from benchmarks.rendering.measurements import save
from benchmarks.rendering.targets import bounds, broken, figures

_PARTS = ("render", "batch", "encoders", "formats", "cold", "page")
_STARTS_A_ROUND = 3  # each takes a second or two
_SLOW_FROM = 10  # photos: a run that long has time for the slow AVIF efforts


def main() -> int:
    """Measure the requested parts; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(_PARTS)}; default all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each photo is rendered (default 3)")
    parser.add_argument("--encoder-photos", type=int, default=3, help="photos for the encoders, at most 17 (default 3)")
    options = parser.parse_args()
    parts = options.parts or list(_PARTS)
    if unknown := set(parts) - set(_PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; the parts are {', '.join(_PARTS)}")
    rounds, photos = max(options.rounds, 1), max(options.encoder_photos, 1)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    if os.getloadavg()[0] > 1:
        console.print(f"This machine is busy (load {os.getloadavg()[0]:.1f}): wall times are too long.")

    if "render" in parts:
        save("render", rendering.measure(rounds, console))
    if "batch" in parts:
        save("batch", batches.measure(rounds, console))
    if "encoders" in parts:
        save("encoders", encoders.measure(photos, slow=photos >= _SLOW_FROM, console=console))
    if "formats" in parts:
        save("formats", formats.measure(rounds, photos, console))
    if "cold" in parts:
        save("cold_start", cold_start.measure(_STARTS_A_ROUND * rounds, console))
    page.write()
    _print_targets(console)
    over = broken()
    for line in over:
        console.print(f"Over budget: {line}")
    return 1 if over else 0


def _print_targets(console: Console) -> None:
    measured = figures()
    table = Table(title="Targets (details: docs/performance.md)", title_justify="left", header_style="bold")
    for column in ("", "wanted", "measured", "met"):
        table.add_column(column)
    for bound in bounds():
        if bound.figure in measured:
            value = measured[bound.figure]
            sign = "at least" if bound.at_least else "at most"
            table.add_row(
                bound.what, f"{sign} {bound.target:g}", f"{value:.3g}", "yes" if bound.is_met(value) else "no"
            )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
