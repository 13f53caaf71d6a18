"""`make chaos`."""
from __future__ import annotations
from rich.console import Console
from local.machine import Place
def run(place: Place, console: Console, flow: str, items: int) -> int:
    return 1
