"""`make erase`: show what is kept of photos, remove it, and write a receipt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from darkroom.errors import ServiceUnavailable
from rich.console import Console
from rich.table import Table

from operations import erase
from operations.deployed import DeployedStack
from operations.erase import Removal, Selection, Trace
from operations.receipts import Receipt
from operations.terminal import printable

_MOST_LINES = 20
_POINT_IN_TIME_RECOVERY_DAYS = (
    35  # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Point-in-time-recovery.html
)
_BROWSER_DAYS = 365


def run(stack: DeployedStack, selection: Selection, receipts: Path, console: Console, *, is_real: bool) -> int:
    """Show everything that is kept of the selected photos and, if it is real, remove it; returns the exit code.

    Parameters
    ----------
    receipts:
        Folder of the receipts. An unfinished one of the same selection is continued.

    Raises
    ------
    OperationsError, ServiceUnavailable, ClientError, BotoCoreError
        What was removed is in the receipt; run it again for the rest.
    """
    with console.status("Looking for everything that names these photos ..."):
        found = _find(stack, selection)
        letters = [] if is_real else list(erase.dead_letters(stack, selection))
    console.print(
        _table([*found, *letters])
        if found or letters
        else "Nothing is kept of such photos in the buckets, the tables and the dead-letter queues."
    )
    if not is_real:
        console.print("Unread results are looked for only when they are removed: a look hides them from their reader.")
        console.print("Dry run: nothing was removed. Remove it with YES=1.")
        return 0
    lingers = _what_lingers(stack)
    receipt = Receipt(receipts, stack, selection, lingers)
    unanswered = list(receipt.resume(found, erase.UPLOADS))
    removal = Removal(receipt.note)
    try:
        with console.status("Removing ...") as status:
            for kind in erase.UPLOADS:
                erase.remove_objects(stack, [trace for trace in found if trace.kind == kind], removal)
            unanswered += removal.removed
            receipt.write(removal, unanswered=unanswered)
            erase.remove_objects(stack, [trace for trace in found if trace.kind == "rendition"], removal)
            receipt.write(removal)
            gone = len(unanswered)
            unanswered = erase.wait_until_settled(
                stack, unanswered, lambda done: status.update(f"Waiting for the function: {done:,} of {gone:,} ...")
            )
            receipt.write(removal, unanswered=unanswered)
            keys = sorted({trace.key for trace in found if trace.key})
            kept = {trace.identity for trace, _ in removal.kept}
            fresh = [trace for trace in erase.renditions(stack, selection, keys) if trace.identity not in kept]
            erase.remove_objects(stack, fresh, removal)
            erase.remove_messages(stack, selection, removal)
            erase.remove_items(stack, list(erase.records(stack, selection)), "image_key", removal)
            erase.remove_items(stack, list(erase.tasks(stack, selection)), "task_id", removal)
            invalidation = erase.clear_cdn(stack, selection, keys)
            kept = {trace.identity for trace, _ in removal.kept}
            came = [trace for trace in _find(stack, selection) if trace.identity not in kept]
    except (ServiceUnavailable, ClientError, BotoCoreError, KeyboardInterrupt):
        receipt.write(removal)
        console.print(f"Stopped. What was removed is in {receipt.path}. Run it again for the rest.", soft_wrap=True)
        raise
    is_complete = not (came or removal.kept or unanswered)
    path = receipt.write(removal, is_complete=is_complete, invalidation=invalidation)
    console.print(f"Removed {len(removal.removed):,}. Receipt: {path}", soft_wrap=True)
    for trace, reason in removal.kept[:_MOST_LINES]:
        console.print(f"[red]✗[/] {trace.kind} {printable(trace.name)}: {printable(reason)}", soft_wrap=True)
    if len(removal.kept) > _MOST_LINES:
        console.print(f"[red]✗[/] {len(removal.kept):,} were not removed; the receipt names each, and why.")
    if unanswered:
        console.print(
            f"[yellow]![/] The function has not answered {len(unanswered):,} deletions. Run it again in some minutes."
        )
    if came:
        console.print(f"[yellow]![/] {len(came):,} came while this ran. Run it again.")
    for name, until, why in lingers:
        console.print(f"Until {until}: {name} ({why})", soft_wrap=True)
    return 0 if is_complete else 1


def _find(stack: DeployedStack, selection: Selection) -> list[Trace]:
    found = list(erase.uploads(stack, selection))
    records = list(erase.records(stack, selection))
    keys = sorted({trace.key for trace in (*found, *records)})
    return [
        *found,
        *erase.renditions(stack, selection, keys),
        *records,
        *erase.tasks(stack, selection),
    ]


def _table(found: Sequence[Trace]) -> Table:
    counts = Counter((trace.kind, trace.where) for trace in found)
    photos = len({trace.key for trace in found if trace.key})
    title = f"Kept of {photos:,} photo{'' if photos == 1 else 's'}"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("what", no_wrap=True)
    table.add_column("how many", justify="right")
    table.add_column("where", overflow="fold")
    for (kind, where), number in counts.items():
        table.add_row(kind, f"{number:,}", where)
    return table


def _what_lingers(stack: DeployedStack) -> list[tuple[str, str, str]]:
    """What this command cannot remove, until when it exists, and why."""
    today = datetime.now(UTC).date()
    configuration = stack.lambda_.get_function_configuration(FunctionName=stack.outputs["ProcessImageFunctionName"])
    group = configuration.get("LoggingConfig", {}).get("LogGroup", "")
    groups = stack.logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"] if group else []
    days = groups[0].get("retentionInDays", 0) if groups else 0
    return [
        (
            "the record's history",
            f"{today + timedelta(days=_POINT_IN_TIME_RECOVERY_DAYS)}",
            "point-in-time recovery of the images table",
        ),
        (
            "log lines with the keys",
            f"{today + timedelta(days=days)}" if days else "you delete them",
            f"log group {group}",
        ),
        ("copies in browsers", f"{today + timedelta(days=_BROWSER_DAYS)}", "renditions are sent as immutable"),
        ("copies in backups", "you delete them", "any that you make of the buckets and tables"),
    ]
