"""The arithmetic of measurements: medians, ratios of pairs, prices."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log

from benchmarks.cost.prices import MB_PER_CPU, PRICES

_REGION = "us-east-1"
_MONTHS = 12


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of some measurements."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; for a single value, that value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio_of_pairs(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Spread of the ratio within each round: load that slows a whole round cancels out."""
    return spread([a / b for a, b in zip(numerators, denominators, strict=True)])


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean: half and double cancel out."""
    return exp(statistics.fmean(log(value) for value in values))


@dataclass(frozen=True)
class Encoded:
    """One encoding: its SSIM, its size in bytes and its CPU seconds."""

    ssim: float
    bytes: float
    seconds: float


def at_ssim(ssim: float, encodings: Sequence[Encoded]) -> Encoded | None:
    """Interpolate an encoder's bytes and time at an SSIM between the two nearest encodings; None if out of reach."""
    ascending = sorted(encodings, key=lambda encoded: encoded.ssim)
    for below, above in pairwise(ascending):
        if below.ssim <= ssim <= above.ssim:
            part = (ssim - below.ssim) / (above.ssim - below.ssim) if above.ssim > below.ssim else 0.0
            size = exp(log(below.bytes) + part * (log(above.bytes) - log(below.bytes)))
            return Encoded(ssim, size, below.seconds + part * (above.seconds - below.seconds))
    return None


def price(seconds: float, size: float, views: float) -> float:
    """Dollars for one rendition: made once, stored for a year, and sent to a number of viewers."""
    gigabytes = size / 1e9
    bought = {
        "lambda.arm64": seconds * MB_PER_CPU / 1024,
        "s3.storage": gigabytes * _MONTHS,
        "cloudfront.out": gigabytes * views,
    }
    return sum(PRICES[name].of(quantity, _REGION) for name, quantity in bought.items())


def price_of_two(usual: tuple[float, float], better: tuple[float, float], views: float, share: float) -> float:
    """Dollars for a rendition in two formats, each with its seconds and bytes; the second one is one more write.

    Parameters
    ----------
    share:
        Of the viewers, who get the better format.
    """
    return price(*usual, views * (1 - share)) + price(*better, views * share) + PRICES["s3.put"].of(1, _REGION)
