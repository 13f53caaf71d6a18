"""The renditions to make of every photo, read from ``renditions.toml``.

The file is edited by people, so everything wrong with it is reported at once, each fault with its place, the value
found and what is allowed. Standard library only: this runs at cold start.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from functions.process_image.formats import OUTPUT_FORMATS, OutputFormat

#: Increased when the pipeline makes other pixels or bytes from the same settings; part of the fingerprint.
PIPELINE_VERSION = 2

LARGEST_SIDE = 8192
FITS = ("inside", "cover")


class InvalidRenditionSet(ValueError):
    """The file does not describe a rendition set; the text lists every fault, one per line."""


@dataclass(frozen=True, slots=True)
class RenditionSpec:
    """One rendition to make, in one format. Two specs may share a name: they have different formats.

    Parameters
    ----------
    name : str
        Its name in object keys, ``[a-z0-9-]{1,32}``.
    width, height : int
        The box it is fitted to, in pixels as displayed, 1 to 8192.
    fit : str
        ``inside`` (all of the photo) or ``cover`` (fill and crop).
    format : str
        A key of :data:`~functions.process_image.formats.OUTPUT_FORMATS`.
    quality : int
        1 to 100; without effect for formats that lose nothing.
    effort : int or None
        The encoder's effort; None for formats that have none.
    """

    name: str
    width: int
    height: int
    fit: str = "inside"
    format: str = "webp"
    quality: int = 80
    effort: int | None = None

    @property
    def output(self) -> OutputFormat:
        """Its format."""
        return OUTPUT_FORMATS[self.format]

    @property
    def extension(self) -> str:
        """The suffix of its object keys."""
        return self.output.extension


@dataclass(frozen=True, slots=True)
class RenditionSet:
    """All renditions to make, in the file's order.

    Parameters
    ----------
    specs : tuple of RenditionSpec
        At least one. Those with the same name are in the order of
        :data:`~functions.process_image.formats.OUTPUT_FORMATS`.
    fingerprint : str
        12 hexadecimal digits that change when, and only when, the output changes: not with the order of the blocks,
        comments or defaults spelled out.
    """

    specs: tuple[RenditionSpec, ...]
    fingerprint: str

    def specs_for(self, frames: int) -> tuple[RenditionSpec, ...]:
        """Return what to make of an upload with so many frames.

        A rendition that has a format for animations gets no other of an animation: a browser that takes both could
        choose the one that stands still.
        """
        moving = {spec.name for spec in self.specs if frames > 1 and spec.output.is_animated}
        return tuple(spec for spec in self.specs if spec.output.is_animated or spec.name not in moving)


def load_rendition_set(path: Path) -> RenditionSet:
    """Read and check a rendition set.

    Parameters
    ----------
    path : Path
        A TOML file in the form of ``renditions.toml``.

    Returns
    -------
    RenditionSet

    Raises
    ------
    InvalidRenditionSet
        The file has faults; the message lists all, one per line.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRenditionSet(f"{path.name}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError both
        raise InvalidRenditionSet(f"{path.name}: is not TOML: {error}") from error

    specs, faults = _specs_of(document)
    if faults:
        raise InvalidRenditionSet("\n".join(f"{path.name}: {fault}" for fault in faults))
    return rendition_set_of(specs)


def rendition_set_of(specs: tuple[RenditionSpec, ...]) -> RenditionSet:
    """Put checked specs together with their fingerprint."""
    telling = sorted(
        (_what_affects_output(spec) for spec in specs), key=lambda fields: (fields["name"], fields["format"])
    )
    text = json.dumps([PIPELINE_VERSION, telling], sort_keys=True)
    return RenditionSet(specs=specs, fingerprint=hashlib.sha256(text.encode()).hexdigest()[:12])


def record_form(rendition_set: RenditionSet, *, keep_location: bool) -> str:
    """Identify what shapes a record: the rendition set, and whether the record keeps the position."""
    return rendition_set.fingerprint + ("-location" if keep_location else "")


def _what_affects_output(spec: RenditionSpec) -> dict[str, Any]:
    fields = asdict(spec)
    if spec.output.usual_quality is None:
        del fields["quality"]
    return fields


@dataclass(frozen=True, slots=True)
class _Field:
    """The check of one field: the allowed values, in words and as a test, and the default."""

    allowed: str
    accepts: Callable[[Any], bool]
    default: Callable[[dict[str, Any]], Any] | None  # None: required; else made from the block


def _whole_number(low: int, high: int) -> Callable[[Any], bool]:
    # TOML's `true` arrives as bool, which Python counts among the whole numbers.
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in choices


def _is_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9-]{1,32}", value) is not None


_SIDE = f"whole numbers from 1 to {LARGEST_SIDE}"

_FIELDS = {
    "name": _Field("1 to 32 of a-z, 0-9 and -", _is_name, None),
    "width": _Field(_SIDE, _whole_number(1, LARGEST_SIDE), None),
    "height": _Field(_SIDE, _whole_number(1, LARGEST_SIDE), lambda block: block.get("width")),
    "fit": _Field(", ".join(FITS), _one_of(FITS), lambda _: "inside"),
    "format": _Field(", ".join(OUTPUT_FORMATS), _one_of(tuple(OUTPUT_FORMATS)), lambda _: "webp"),
    "quality": _Field("whole numbers from 1 to 100", _whole_number(1, 100), lambda block: _usual_quality(block)),
}
# With several formats each has its own.
_OF_A_FORMAT = ("quality", "effort")


def _specs_of(document: dict[str, Any]) -> tuple[tuple[RenditionSpec, ...], list[str]]:
    """Turn a parsed file into its specs and its faults."""
    faults = [
        f"unknown field {field} at the top; allowed are [[rendition]] blocks"
        for field in document.keys() - {"rendition"}
    ]
    faults.sort()
    blocks = document.get("rendition", [])
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        return (), [*faults, f"rendition is {_shown(blocks)}; allowed are blocks that begin with [[rendition]]"]
    if not blocks:
        return (), [*faults, "has no rendition; at least one [[rendition]] block is needed"]

    specs = []
    seen: dict[str, int] = {}
    for number, block in enumerate(blocks, start=1):
        alone, wrong = _one_per_format(block)
        values = []
        for one in alone:
            fields, faults_of_one = _fields_of(one)
            values.append(fields)
            wrong += [fault for fault in faults_of_one if fault not in wrong]
        name = block.get("name")
        if isinstance(name, str):
            if name in seen:
                wrong.append(f"name is already that of rendition {seen[name]}; each name may stand once")
            seen.setdefault(name, number)
        place = f"rendition {number} {_shown(name)}" if name is not None else f"rendition {number}"
        faults += [f"{place}: {fault}" for fault in wrong]
        if not wrong:
            specs += [RenditionSpec(**fields) for fields in values]
    return tuple(specs), faults


def _one_per_format(block: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Turn a block with ``formats`` into one block for each, and its faults; another block is returned as it is."""
    if "formats" not in block:
        return [block], []
    formats, faults = block["formats"], []
    shared = {name: value for name, value in block.items() if name not in ("format", "formats", *_OF_A_FORMAT)}
    if "format" in block:
        faults.append("has format and formats; allowed is one of them")
    known = isinstance(formats, list) and all(one in tuple(OUTPUT_FORMATS) for one in formats)
    if not known or not formats or len(set(formats)) < len(formats):
        faults.append(f"formats is {_shown(formats)}; allowed are some of {', '.join(OUTPUT_FORMATS)}, each once")
        return [shared], faults
    for field in _OF_A_FORMAT:
        given = block.get(field, {})
        if not isinstance(given, dict):
            example = f"{{ {formats[0]} = {_shown(given)} }}"
            faults.append(f"{field} is {_shown(given)}; with formats, allowed is one for each, such as {example}")
            return [shared], faults
        faults += [f"{field} is for {one}, which is not among the formats" for one in given if one not in formats]
    own = {one: {field: block[field][one] for field in _OF_A_FORMAT if one in block.get(field, {})} for one in formats}
    return [{**shared, "format": one, **own[one]} for one in OUTPUT_FORMATS if one in formats], faults


def _usual_quality(block: dict[str, Any]) -> int:
    image_format = block.get("format", "webp")
    output = OUTPUT_FORMATS.get(image_format) if isinstance(image_format, str) else None
    return (output.usual_quality if output else None) or 80  # of no effect in a format without one


def _fields_of(block: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Check one block against the table; the effort, whose range depends on the format, separately."""
    values: dict[str, Any] = {}
    faults = []
    for name, field in _FIELDS.items():
        if name in block:
            values[name] = block[name]
            if not field.accepts(block[name]):
                faults.append(f"{name} is {_shown(block[name])}; allowed are {field.allowed}")
        elif field.default is None:
            faults.append(f"{name} is missing; allowed are {field.allowed}")
        else:
            values[name] = field.default(block)

    image_format = values["format"]
    output = OUTPUT_FORMATS.get(image_format) if isinstance(image_format, str) else None
    highest, usual = (output and output.efforts) or (None, None)
    values["effort"] = block.get("effort", usual)
    if "effort" in block and highest is not None and not _whole_number(0, highest)(block["effort"]):
        faults.append(
            f"effort is {_shown(block['effort'])}; allowed for {image_format} are whole numbers from 0 to {highest}"
        )
    if "effort" in block and highest is None and _FIELDS["format"].accepts(image_format):
        faults.append(f"effort is {_shown(block['effort'])}; {image_format} has no effort, leave it out")

    known = (*_FIELDS, "formats", "effort")
    faults += [f"unknown field {name}; allowed are {', '.join(known)}" for name in block if name not in known]
    return values, faults


def _shown(value: object) -> str:
    """Show a value as the file would."""
    return json.dumps(value, default=str, ensure_ascii=False)
