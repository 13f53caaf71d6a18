"""The arithmetic of measurements: medians, ratios of pairs, prices, and whether a figure keeps its bound."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from pathlib import Path

_BUDGET = Path(__file__).with_name("budget.toml")

# List prices in US dollars, us-east-1, 2026-11.
# https://aws.amazon.com/lambda/pricing https://aws.amazon.com/s3/pricing https://aws.amazon.com/cloudfront/pricing
_LAMBDA_GB_SECOND = 0.0000133334  # arm64
_GB_OF_ONE_CORE = 1769 / 1024  # https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
_S3_GB_MONTH = 0.023
_CLOUDFRONT_GB = 0.085
_MONTHS = 12


@dataclass(frozen=True)
class Spread:
    """Where the middle half of some measurements lies."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; of a single value, that value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio_of_pairs(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Spread of the ratio within each round: what slowed a whole round down cancels out."""
    return spread([a / b for a, b in zip(numerators, denominators, strict=True)])


def geometric_mean(values: Sequence[float]) -> float:
    """The mean that treats half and double alike."""
    return exp(statistics.fmean(log(value) for value in values))


@dataclass(frozen=True)
class Encoded:
    """One encoding: how alike it is (SSIM), its size in bytes and the seconds of CPU it took."""

    ssim: float
    bytes: float
    seconds: float


def at_ssim(ssim: float, encodings: Sequence[Encoded]) -> Encoded | None:
    """What an encoder takes to reach an SSIM, between its two encodings around it; None if out of reach."""
    ascending = sorted(encodings, key=lambda encoded: encoded.ssim)
    for below, above in pairwise(ascending):
        if below.ssim <= ssim <= above.ssim:
            part = (ssim - below.ssim) / (above.ssim - below.ssim) if above.ssim > below.ssim else 0.0
            size = exp(log(below.bytes) + part * (log(above.bytes) - log(below.bytes)))
            return Encoded(ssim, size, below.seconds + part * (above.seconds - below.seconds))
    return None


def price(seconds: float, size: float, views: float) -> float:
    """Dollars for one rendition: made once, stored for a year, and sent to so many viewers."""
    gigabytes = size / 1e9
    return (
        seconds * _GB_OF_ONE_CORE * _LAMBDA_GB_SECOND
        + gigabytes * _S3_GB_MONTH * _MONTHS
        + views * gigabytes * _CLOUDFRONT_GB
    )


@dataclass(frozen=True)
class Bound:
    """One target: a figure, what it should be, and the generous bound that `make bench` insists on."""

    figure: str
    what: str
    target: float
    budget: float
    at_least: bool

    def is_met(self, measured: float) -> bool:
        """Whether the target is met."""
        return measured >= self.target if self.at_least else measured <= self.target

    def is_kept(self, measured: float) -> bool:
        """Whether the budget is kept."""
        return measured >= self.budget if self.at_least else measured <= self.budget


def bounds() -> list[Bound]:
    """All targets, in the order of the page. Raises TypeError or ValueError if ``budget.toml`` is not made of them."""
    return [Bound(**target) for target in tomllib.loads(_BUDGET.read_text())["target"]]
