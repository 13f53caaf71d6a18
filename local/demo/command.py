"""`make demo`: send photos, orders and RabbitMQ messages to the deployed stack, and report each outcome."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import time
from typing import Any

from rich.console import Console
from rich.table import Table

from local import stack
from local.config import LocalConfig
from local.demo import deletions as demo_deletions
from local.demo import images as demo_images
from local.demo import orders as demo_orders
from local.demo import rabbitmq as demo_rabbitmq
from local.demo import report
from local.demo.deletions import ShownDeletion
from local.demo.orders import ShownOrder
from local.demo.rabbitmq import ShownMessage
from local.demo.report import Shown
from local.emulators import web_page
from local.order_events import listening
from local.outcomes import DeadLetter
from operations.terminal import printable

_COLUMNS_OF_A_WIDE_TABLE = 110


def run(config: LocalConfig, console: Console, photos: Path | None) -> int:
    """Run the demo; returns 0 only if everything ended as expected. Raises LaptopError.

    Parameters
    ----------
    photos:
        A folder of photos to upload instead of the sample photos, orders and messages.
    """
    samples = demo_images.own_photos(photos) if photos else demo_images.shipped_samples()
    deployed = stack.up(config, console)
    started = time()
    orders: list[ShownOrder] = []
    messages: list[ShownMessage] = []
    deletions: list[ShownDeletion] = []
    with listening(deployed) as listener:
        if not photos:
            orders = demo_orders.send(deployed)
        images = demo_images.send_in(deployed, samples, console)
        if not photos:
            images += demo_images.send_odd_messages(deployed)
            deletions = demo_deletions.send_in(deployed)
        if not photos and deployed.rabbitmq_url:
            messages = demo_rabbitmq.send(deployed, images[0].key)
        demo_images.wait(deployed, images, console)
        dead_letters = demo_images.learn_outcomes(deployed, images, started)
        if deletions:
            demo_deletions.delete_and_undelete(deployed, deletions, console)
        if orders:
            demo_orders.wait(deployed, orders, console)
            demo_orders.learn_outcomes(deployed, orders, listener)
        if messages:
            demo_rabbitmq.learn_outcomes(deployed, messages, console)
    seconds = time() - started
    _print(console, images, deletions, orders, messages, dead_letters, seconds)
    page = report.write(
        config, deployed, images, {s.path.name: s.path for s in samples}, deletions, dead_letters, orders, messages
    )
    wrong = _tell_what_is_wrong(config, console, images, deletions, orders, messages)
    _write_json(config, images, deletions, orders, messages, dead_letters, seconds, as_expected=not wrong)
    web_page.start(config, stack.variables_of(deployed))
    console.print(f"Upload photos yourself: {config.web_url} (until make down)", soft_wrap=True)
    console.print(f"Report page: {printable(str(page))}", soft_wrap=True)
    return 1 if wrong else 0


def _print(
    console: Console,
    images: Sequence[Shown],
    deletions: Sequence[ShownDeletion],
    orders: Sequence[ShownOrder],
    messages: Sequence[ShownMessage],
    dead_letters: Sequence[DeadLetter],
    seconds: float,
) -> None:
    narrow = console.width < _COLUMNS_OF_A_WIDE_TABLE
    console.print(demo_images.tabulate(images, narrow=narrow))
    if dead_letters:
        letters = Table(title="Dead letters", title_justify="left", header_style="bold")
        letters.add_column("error code", overflow="fold")
        letters.add_column("reason", overflow="fold")
        letters.add_column("image", overflow="fold")
        names = {row.task_id: row.name for row in images}
        for letter in dead_letters:
            letters.add_row(printable(letter.error_code), printable(letter.reason), printable(names[letter.task_id]))
        console.print(letters)
    if deletions:
        console.print(demo_deletions.tabulate(deletions))
    if orders:
        console.print(demo_orders.tabulate(orders, narrow=narrow))
    if messages:
        console.print(demo_rabbitmq.tabulate(messages, narrow=narrow))
    console.print(f"Finished in {seconds:.1f} s.")


def _tell_what_is_wrong(
    config: LocalConfig,
    console: Console,
    images: Sequence[Shown],
    deletions: Sequence[ShownDeletion],
    orders: Sequence[ShownOrder],
    messages: Sequence[ShownMessage],
) -> bool:
    """Print a line for each unexpected outcome; returns whether there was any."""
    faults = [
        f"{row.name}: expected {row.expected or 'an end'}, but it is {row.error_code or row.outcome}. {row.reason}"
        for row in images
        if not row.as_expected
    ]
    faults += [
        f"{row.key}: {row.done}, but its record is {row.state}, with {len(row.left)} renditions in the bucket."
        for row in deletions
        if not row.as_expected
    ]
    faults += [
        f"{row.order_id}: expected {row.expected}, but it is {row.outcome}, charged {row.charged} of {row.amount}, "
        f"events: {', '.join(row.told) or 'none'}. {row.reason}"
        for row in orders
        if not row.as_expected
    ]
    faults += [
        f"{row.message_id}: expected {row.expected}, but it is {row.outcome}, arrived {row.arrived}. {row.reason}"
        for row in messages
        if not row.as_expected
    ]
    for fault in faults:
        console.print(f"[red]✗[/] {printable(fault)}")
    ends = [row.outcome for rows in (images, orders, messages) for row in rows] + [row.state for row in deletions]
    if "unfinished" in ends:
        console.print(f"Log of the functions: {printable(str(config.logs / 'emulator.log'))}", soft_wrap=True)
    return bool(faults)


def _write_json(
    config: LocalConfig,
    images: Sequence[Shown],
    deletions: Sequence[ShownDeletion],
    orders: Sequence[ShownOrder],
    messages: Sequence[ShownMessage],
    dead_letters: Sequence[DeadLetter],
    seconds: float,
    *,
    as_expected: bool,
) -> None:
    content = {
        "as_expected": as_expected,
        "seconds": round(seconds, 3),
        "images": [asdict(row) | {"as_expected": row.as_expected} for row in images],
        "deletions": [
            {name: value for name, value in asdict(row).items() if name != "photo"} | {"as_expected": row.as_expected}
            for row in deletions
        ],
        "orders": [asdict(row) | {"as_expected": row.as_expected} for row in orders],
        "rabbitmq": [_told(row) for row in messages],
        "dead_letters": [asdict(letter) for letter in dead_letters],
    }
    # DynamoDB's numbers are decimals; all of Darkroom's are whole, except positions.
    text = json.dumps(content, indent=2, ensure_ascii=False, default=lambda n: int(n) if n == int(n) else float(n))
    (config.folder / "demo.json").write_text(text + "\n")


def _told(row: ShownMessage) -> dict[str, Any]:
    told = asdict(row) | {"as_expected": row.as_expected}
    return {name: value for name, value in told.items() if name != "message"}  # JSON cannot express bytes
