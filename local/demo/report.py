"""The demo's report page: the renditions next to their originals, the dead letters, and the orders."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import pi_heif
from darkroom.currencies import readable
from PIL import Image, ImageOps
from rich.filesize import decimal as readable_size

from local.config import LocalConfig
from local.demo.deletions import ShownDeletion
from local.demo.orders import ShownOrder
from local.demo.rabbitmq import ShownMessage
from local.demo.thumb_hash import decode
from local.outcomes import DeadLetter
from local.stack import Stack

_TEMPLATE = Path(__file__).with_name("report.html")
# Formats that every browser shows. For any other format the page shows a preview.
_SHOWN_BY_BROWSERS = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif"}
_PREVIEW = (800, 800)

pi_heif.register_heif_opener()


@dataclass
class Shown:
    """The outcome of one photo: a card of the page, a row of the table, an entry of ``demo.json``. Times in ms."""

    name: str
    key: str
    task_id: str
    expected: str | None
    shows: str = ""
    outcome: str = "unfinished"
    error_code: str = ""
    reason: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    notification_latency_ms: int | None = None
    processing_ms: int | None = None
    image: dict[str, Any] = field(default_factory=dict)

    @property
    def as_expected(self) -> bool:
        """Whether the outcome is as expected."""
        ended = self.error_code or self.outcome.lower()
        return self.outcome != "unfinished" if self.expected is None else ended == self.expected


def write(
    config: LocalConfig,
    deployed: Stack,
    shown: Sequence[Shown],
    originals: Mapping[str, Path],
    deletions: Sequence[ShownDeletion],
    dead_letters: Sequence[DeadLetter],
    orders: Sequence[ShownOrder],
    messages: Sequence[ShownMessage],
) -> Path:
    """Write the page with its pictures; returns where it is."""
    folder = config.folder / "report"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "pictures").mkdir(parents=True)
    processed = [row for row in shown if row.outcome == "Processed"]
    cards = [_card(folder, deployed, row, originals[row.name]) for row in processed]
    names = {row.task_id: row for row in shown}
    rows = [
        (names[letter.task_id].name, names[letter.task_id].shows, letter.error_code, letter.reason)
        for letter in dead_letters
    ]
    page = Template(_TEMPLATE.read_text()).substitute(
        cards="\n".join(cards),
        deletions="\n".join(["<h3>Deleted photos</h3>", *(_deletion(folder, deployed, row) for row in deletions)])
        if deletions
        else "",
        letters=_table(("what was sent", "what it is", "error code", "reason"), rows, title="Dead letters"),
        orders=_table(
            ("order", "outcome", "charged", "event published", "way", "reason"),
            [_order(row) for row in orders],
            title="Orders",
        ),
        messages=_table(
            ("message", "published to", "arrived in", "outcome", "reason"),
            [(f"{m.shows} ({m.message_id})", m.queue, m.arrived, m.outcome, m.reason) for m in messages],
            title="RabbitMQ",
        ),
        processed=len(processed),
        dead_letters=len(dead_letters),
        ordered=_summary(orders),
        bytes_in=readable_size(sum(row.bytes_in for row in processed)),
        bytes_out=readable_size(sum(row.bytes_out for row in processed)),
    )
    path = folder / "index.html"
    path.write_text(page)
    return path


def _card(folder: Path, deployed: Stack, row: Shown, original: Path) -> str:
    image = row.image
    figures = [_figure(_original(folder, original), "original", f"{image['width']} × {image['height']}", row.bytes_in)]
    figures += _renditions(folder, deployed, original.name, image)
    facts = [
        ("format", image["format"]),
        ("frames", image["frames"] if image["frames"] > 1 else ""),
        ("camera", image["camera"] or ""),
        ("taken", image["taken_at"] or ""),
        ("notified after", f"{row.notification_latency_ms} ms"),
        ("processed in", f"{row.processing_ms} ms"),
    ]
    told = "".join(f"<div><dt>{label}</dt><dd>{escape(str(value))}</dd></div>" for label, value in facts if value)
    colour = escape(image["dominant_colour"])
    return f"""<article style="--colour: {colour}">
  <header>
    <img class="hash" alt="placeholder" src="{_placeholder(image["placeholder"])}">
    <div><h2>{escape(row.name)}</h2><p>{escape(row.shows)}</p></div>
    <dl>{told}<div><dt>colour</dt><dd><i></i> {colour}</dd></div></dl>
  </header>
  <div class="set">{"".join(figures)}</div>
</article>"""


def _renditions(folder: Path, deployed: Stack, name: str, image: Mapping[str, Any]) -> list[str]:
    """Fetch the renditions of a record, and show them."""
    figures = []
    for rendition in image["renditions"]:
        file = f"{name}-{rendition['key'].rsplit('/', 1)[-1]}"
        deployed.s3.download_file(
            deployed.outputs["RenditionsBucketName"], rendition["key"], str(folder / "pictures" / file)
        )
        size = f"{rendition['width']} × {rendition['height']}"
        figures.append(_figure(f"pictures/{file}", rendition["name"], size, int(rendition["bytes"])))
    return figures


def _deletion(folder: Path, deployed: Stack, row: ShownDeletion) -> str:
    name = row.key.rsplit("/", 1)[-1]
    original = folder / "pictures" / name
    shutil.copyfile(row.photo, original)
    figures = [_figure(f"pictures/{name}", "original", "as uploaded", original.stat().st_size)]
    if row.state == "READY":
        figures += _renditions(folder, deployed, name, row.image)
    facts = [
        ("record", row.state),
        ("renditions left", str(len(row.left))),
        ("withdrawn in", f"{row.withdrawn_ms} ms" if row.withdrawn_ms is not None else "never"),
        ("published again in", f"{row.published_again_ms} ms" if row.published_again_ms is not None else ""),
    ]
    told = "".join(f"<div><dt>{label}</dt><dd>{escape(value)}</dd></div>" for label, value in facts if value)
    return f"""<article style="--colour: {escape(row.image.get("dominant_colour", "transparent"))}">
  <header><div><h2>{escape(name)}</h2><p>{row.done}</p></div><dl>{told}</dl></header>
  <div class="set">{"".join(figures)}</div>
</article>"""


def _figure(source: str, name: str, size: str, byte_count: int) -> str:
    link = quote(source)
    return (
        f'<figure class="{escape(name)}"><a href="{link}"><img alt="{escape(name)}" src="{link}"></a>'
        f"<figcaption><b>{escape(name)}</b> {size} · {readable_size(byte_count)}</figcaption></figure>"
    )


def _original(folder: Path, original: Path) -> str:
    """Write the original, or a preview that browsers can show, next to the page."""
    if original.suffix.lower() in _SHOWN_BY_BROWSERS:
        target = folder / "pictures" / original.name
        shutil.copyfile(original, target)
    else:
        target = folder / "pictures" / f"{original.name}-preview.png"
        try:
            with Image.open(original) as image:
                preview = ImageOps.exif_transpose(image)
                preview.thumbnail(_PREVIEW)
                preview.convert("RGB").save(target)
        except (OSError, ValueError):  # Pillow opens fewer kinds of TIFF than the function; no preview then
            shutil.copyfile(original, target)
    return f"pictures/{target.name}"


def _placeholder(thumb_hash: str) -> str:
    """The picture that a ThumbHash encodes, as a data URL."""
    width, height, rgba = decode(base64.b64decode(thumb_hash))
    buffer = io.BytesIO()
    Image.frombytes("RGBA", (width, height), rgba).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _summary(orders: Sequence[ShownOrder]) -> str:
    if not orders:
        return ""
    completed = sum(row.outcome == "COMPLETED" for row in orders)
    charged = readable(sum(row.charged for row in orders), orders[0].currency)
    return f" Of {len(orders)} orders {completed} were completed, for {charged}."


def _order(row: ShownOrder) -> tuple[str, ...]:
    charged = readable(row.charged, row.currency) if row.charged else ""
    way = " → ".join(entry["state"].lower() for entry in row.history)
    return (f"{row.shows} ({row.order_id})", row.outcome, charged, row.word, way, row.reason)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str) -> str:
    """A table with its title, or nothing if it has no rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<h3>{escape(title)}</h3>\n<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'
