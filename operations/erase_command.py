"""`make erase`: show what is kept of photos, remove it, and write a receipt."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.table import Table

from operations import erase
from operations.deployed import DeployedStack
from operations.erase import Removal, Selection, Trace

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
    OperationsError, ClientError, BotoCoreError
        What was removed is in the receipt; run it again for the rest.
    """
    with console.status("Looking for everything that names these photos ..."):
        found = _find(stack, selection)
    console.print(_table(found) if found else "Nothing is kept of such photos in the buckets and tables.")
    if not is_real:
        console.print("Unread results and dead letters are looked for only when they are removed.")
        console.print("Dry run: nothing was removed. Remove it with YES=1.")
        return 0
    receipt = _Receipt(receipts, stack, selection)
    removal = Removal()
    try:
        with console.status("Removing ...") as status:
            gone = [trace for trace in found if trace.kind in ("upload", "delete marker")]
            erase.remove_objects(stack, gone, removal)
            erase.remove_objects(stack, [trace for trace in found if trace.kind == "rendition"], removal)
            receipt.write(removal)
            settled = erase.wait_until_settled(
                stack, gone, lambda done: status.update(f"Waiting for the function: {done:,} of {len(gone):,} ...")
            )
            keys = sorted({trace.key for trace in found if trace.key})
            erase.remove_objects(stack, list(erase.renditions(stack, selection, keys)), removal)
            receipt.write(removal)
            erase.remove_messages(stack, selection, removal)
            erase.remove_items(stack, list(erase.records(stack, selection)), "image_key", removal)
            erase.remove_items(stack, list(erase.tasks(stack, selection)), "task_id", removal)
            invalidation = erase.clear_cdn(stack, selection)
            left = _find(stack, selection)
    except (ClientError, BotoCoreError, KeyboardInterrupt):
        receipt.write(removal)
        console.print(f"Stopped. What was removed is in {receipt.path}. Run it again for the rest.", soft_wrap=True)
        raise
    path = receipt.write(removal, is_complete=not (left or removal.kept) and settled, invalidation=invalidation)
    console.print(f"Removed {len(removal.removed):,}. Receipt: {path}", soft_wrap=True)
    for trace, reason in removal.kept:
        console.print(f"[red]✗[/] {trace.kind} {trace.name}: {reason}", markup=True, soft_wrap=True)
    if not settled:
        console.print("[yellow]![/] The function has not answered every deletion yet. Run it again in a few minutes.")
    if left:
        console.print(f"[yellow]![/] {len(left):,} came while this ran. Run it again.")
    for name, until, why in _what_lingers(stack):
        console.print(f"Until {until}: {name} ({why})", soft_wrap=True)
    return 0 if settled and not left and not removal.kept else 1


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


def _table(found: list[Trace]) -> Table:
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


class _Receipt:
    """The receipt of one selection: everything removed, over all runs until it is complete."""

    def __init__(self, folder: Path, stack: DeployedStack, selection: Selection) -> None:
        name = sha256(f"{stack.account}/{stack.stack_name}/{selection}".encode()).hexdigest()[:12]
        now = datetime.now(UTC)
        self._stack, self._selection, self._started = stack, selection, now
        self._before: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"erased-{name}-{now:%Y%m%dT%H%M%SZ}.json"
        for path in sorted(folder.glob(f"erased-{name}-*.json")):
            content = json.loads(path.read_text())
            if not content["is_complete"]:
                self.path, self._before = path, content["removed"]

    def write(self, removal: Removal, *, is_complete: bool = False, invalidation: str = "") -> Path:
        """Write all that is known by now, in place of what was written before."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        known = {(entry["where"], entry["name"], entry["version_id"]): entry for entry in self._before}
        for trace in removal.removed:
            known.setdefault((trace.where, trace.name, trace.version_id), asdict(trace) | {"at": at})
        self._before = list(known.values())
        content = {
            "stack": self._stack.stack_name,
            "account": self._stack.account,
            "region": self._stack.region,
            **asdict(self._selection),
            "is_complete": is_complete,
            "removed": self._before,
            "not_removed": [asdict(trace) | {"reason": reason} for trace, reason in removal.kept],
            "cloudfront_invalidation": invalidation,
            "lingers": [{"what": what, "until": until, "why": why} for what, until, why in _what_lingers(self._stack)],
        }
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        draft.replace(self.path)
        return self.path
