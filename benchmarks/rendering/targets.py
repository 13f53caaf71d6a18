"""The targets of ``budget.toml``, and the figures to compare with them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rendering.cold_start import FUNCTIONS
from benchmarks.rendering.measurements import load

_BUDGET = Path(__file__).with_name("budget.toml")


@dataclass(frozen=True)
class Bound:
    """One target: a figure, its target, and the looser bound that `make bench` enforces."""

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
    """All targets, in the order of the page. Raises TypeError or ValueError if ``budget.toml`` is invalid."""
    return [Bound(**target) for target in tomllib.loads(_BUDGET.read_text())["target"]]


def figures() -> dict[str, float]:
    """Every figure that a target can name, from the present results."""
    found: dict[str, float] = {}
    if rendering := load("render"):
        found |= figures_of_rendering(rendering["rows"])
    if batches := load("batch"):
        found["handler ms"] = batches["handler"]["median"]
        found["process ms"] = batches["apart"]["median"]
        for batch in batches["batches"]:
            found[f"batch, {batch['photo']} / wall"] = batch["wall_to_longest"]["median"]
            found[f"batch, {batch['photo']} / baseline"] = batch["sample_to_ours"]["median"]
    if cold := load("cold_start"):
        found |= _figures_of_starts(cold)
    return found


def _figures_of_starts(measured: dict[str, Any]) -> dict[str, float]:
    ours = [row for row in measured["starts"] if row["baseline"] == "ours"]
    found = {f"start, {row['cache']} / {row['function']}": row["ratio"]["median"] for row in ours}
    return found | {"zipped MB": max(zipped(measured).values())}


def zipped(measured: dict[str, Any]) -> dict[str, float]:
    """Megabytes of each measured function with its layers. A newer function waits for the next measurement."""
    sizes = measured["sizes"]
    return {
        name: sum(sizes[part]["zipped"] for part in (name, *function.layers))
        for name, function in FUNCTIONS.items()
        if name in sizes
    }


def figures_of_rendering(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The figures of the rows of ``results/render.json``. A loss below 0 is a gain: fewer bytes are not worse."""
    found: dict[str, float] = {}
    mine = {(row["photo"], row["set"]): row for row in rows if row["baseline"] == "ours"}
    lost, grown = [], []
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for row in (row for row in rows if row["megapixels"] >= 12):
        names = [f"{row['set']} / {row['baseline']}"]
        names += [f"{names[0]} / profile"] if "p3" in row["photo"] else []
        ratio = row["ratio"]["median"]
        for name in names:
            if row["baseline"] == "parts alone":
                found[name] = max(found.get(name, 0), 1 / ratio)
            else:
                found[name] = min(found.get(name, ratio), ratio)
        ours = mine[row["photo"], row["set"]]
        lost.append(row["ssim"] - ours["ssim"] if row["ssim"] else 0.0)
        if row["baseline"] == "sharp, per size":
            grown.append(ours["bytes"] / row["bytes"])
        if row["baseline"] == "sharp, one decode" and row.get("kind"):
            pairs += zip(ours["renditions"], row["renditions"], strict=True)
        if row["baseline"] == "ours" and row["peak_mb"] is not None:
            name = f"peak MB, {row['photo']}"
            found[name] = max(found.get(name, 0), row["peak_mb"])
    found["ssim lost"] = max(lost)
    if grown:
        found["bytes"] = max(grown)
    if pairs:
        found["detail / ssim"] = max(sharp["ssim"] - mine["ssim"] for mine, sharp in pairs)
        found["detail / ssimulacra2"] = max(sharp["ssimulacra2"] - mine["ssimulacra2"] for mine, sharp in pairs)
        found["detail / bytes"] = max(mine["bytes"] / sharp["bytes"] - 1 for mine, sharp in pairs)
    return found


def broken() -> list[str]:
    """The exceeded budgets, in words."""
    measured = figures()
    return [
        f"{bound.what}: {measured[bound.figure]:.3g}, budget {wanted(bound, bound.budget)}"
        for bound in bounds()
        if bound.figure in measured and not bound.is_kept(measured[bound.figure])
    ]


def wanted(bound: Bound, value: float) -> str:
    """A target or a budget in a few characters, as ``≤ 5``."""
    return f"{'≥' if bound.at_least else '≤'} {value:g}"
