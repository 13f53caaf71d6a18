"""`make cost`: print what a month of images costs on AWS, by component, compared with the baseline."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from math import inf

from rich.console import Console
from rich.table import Table

from benchmarks.cost.bill import Line, Load, best_memory, bill_of_ours, bill_of_sample, per_million
from benchmarks.cost.function_seconds import Measured, load
from benchmarks.cost.prices import AS_OF, REGIONS
from benchmarks.cost.template_counts import PHOTOS_ONLY


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the bill; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="make cost",
        usage="make cost [IMAGES=1000000] [MB=4] [MEMORY=1769] [ARCH=arm64] [REGION=eu-central-1] [BATCH=1] [VIEWS=0] "
        "[DELIVERY=1 STABLE=0] [PHOTOS_ONLY=1]",
        description="Calculate what a month of images costs on AWS, by component, compared with the baseline.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    number, usual = _number, Load(images=1_000_000)
    parser.add_argument("--images", type=number(1), default=usual.images, metavar="IMAGES", help="a month")
    parser.add_argument("--mb", type=number(0.01, 1000), default=usual.megabytes, metavar="MB", help="of one upload")
    parser.add_argument(
        "--memory", type=number(128, 10_240), default=usual.memory_mb, metavar="MEMORY", help="of the function, in MB"
    )
    parser.add_argument("--arch", choices=("arm64", "x86_64"), default=usual.architecture, help="of the function")
    parser.add_argument("--region", choices=REGIONS, default=usual.region, help="whose prices are taken")
    parser.add_argument(
        "--batch", type=number(1, 10), default=usual.batch, metavar="BATCH", help="messages that an invocation takes"
    )
    parser.add_argument(
        "--views", type=number(0), default=usual.views, metavar="VIEWS", help="of each image, sent to the internet"
    )
    parser.add_argument("--delivery", action="store_true", help="CloudFront sends the views: Delivery=true")
    parser.add_argument(
        "--stable", type=number(0, 1), default=0, metavar="STABLE", help="share of the views by a stable address"
    )
    parser.add_argument("--photos-only", action="store_true", help="a stack with Orders=false and HttpApi=false")
    given = parser.parse_args(arguments)
    if given.stable and not given.delivery:
        parser.error("STABLE is the share of stable addresses, which only DELIVERY=1 has")
    wanted = Load(
        given.images,
        given.mb,
        int(given.memory),
        given.arch,
        given.region,
        given.batch,
        given.views,
        given.delivery,
        given.stable,
    )
    parameters = {**(PHOTOS_ONLY if given.photos_only else {}), **({"Delivery": "true"} if given.delivery else {})}
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    _print(console, wanted, load(), parameters)
    return 0


def _number(least: float, most: float = inf) -> Callable[[str], float]:
    """Read a number from ``least`` to ``most``. Raises ArgumentTypeError."""

    def read(text: str) -> float:
        try:
            value = float(text.replace(",", ""))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number, like 1000000 or 1e6") from None
        if not (least <= value <= most and value < inf):
            bounds = f"from {least:g} to {most:,.0f}" if most < inf else f"{least:g} or more"
            raise argparse.ArgumentTypeError(f"{text} is out of range: it must be {bounds}")
        return value

    return read


def _print(console: Console, wanted: Load, measured: Measured, parameters: Mapping[str, str]) -> None:
    ours, sample = bill_of_ours(wanted, measured, parameters), bill_of_sample(wanted, measured)
    table = Table(
        title=f"{wanted.images:,.0f} images of {wanted.megabytes:g} MB a month, {wanted.region}",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("component")
    table.add_column("driven by")
    for column in ("quantity", "USD"):
        table.add_column(column, justify="right")

    def rows(lines: Sequence[Line], before: str = "") -> None:
        for line in lines:
            quantity = f"{line.quantity:,.0f}" if line.quantity >= 10 else f"{line.quantity:.2g}"
            table.add_row(line.component, before + line.driver, quantity, f"{line.dollars:,.2f}")
        table.add_section()

    rows(ours.running)
    rows(ours.fixed, "always: ")
    for name, bill, style in (("Darkroom", ours, "bold"), ("Baseline", sample, "")):
        million = f"{per_million(bill, wanted):,.2f} USD a million images"
        table.add_row(name, million, "", f"{bill.dollars:,.2f}", style=style)
    table.add_section()
    rows(ours.kept, "while kept, a month: ")
    console.print(table)
    console.print(
        f"Best memory size: {best_memory(wanted, measured)} MB. Measured on {measured.machine},"
        f" {measured.measured_on}. Prices of {AS_OF}, before free tiers. docs/cost.md explains what is included."
    )


if __name__ == "__main__":
    sys.exit(main())
