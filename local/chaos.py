"""`make chaos`: disturb a flow in every way that production does, then audit that nothing was lost or done twice."""

from __future__ import annotations

import json
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local import chaos_images, chaos_orders, chaos_rabbitmq, stack
from local.audit import Audit
from local.machine import Place

FLOWS: dict[str, Callable[[stack.Stack, Place, Console, int], Audit]] = {
    "images": chaos_images.disturb,
    "orders": chaos_orders.disturb,
    "rabbitmq": chaos_rabbitmq.disturb,
}


def run(place: Place, console: Console, flow: str, items: int) -> int:
    """Disturb one flow and print its audit; returns 0 only if the sums are right. Raises LaptopError."""
    deployed = stack.up(place, console)
    audit = FLOWS[flow](deployed, place, console, items)
    (place.folder / "chaos.json").write_text(json.dumps({"flow": flow, **audit.as_dict()}, indent=2) + "\n")
    table = Table(title=f"Audit of {flow}", title_justify="left", show_header=False)
    for name, value in audit.details.items():
        table.add_row(name, str(value))
    console.print(table)
    for finding in audit.findings[:20]:
        console.print(f"[red]✗[/] {escape(finding)}")
    print(audit.summary())
    return 0 if audit.is_right else 1
