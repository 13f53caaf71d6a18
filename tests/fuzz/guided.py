"""Fuzz the Python code that reads untrusted bytes, with atheris: inputs that reach new code are mutated further.

Runs in an environment of its own, `.local/atheris`, because atheris is not available for every machine. An input that
stops it is saved in .local/fuzz. https://github.com/google/atheris
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["darkroom", "functions", "PIL", "pi_heif"]):
    from darkroom import image_messages, order_messages
    from darkroom.errors import PermanentFault

    from functions.process_image.photo import Limits
    from functions.process_image.processing.identify import identify
    from functions.process_image.render_messages import ProtocolError, RenderDefect, read_photo
    from functions.relay_rabbitmq.deliveries import Delivery

from tests.fuzz.mutations import small_files

_LIMITS = Limits(max_bytes=1_500_000, max_pixels=5_000_000, max_frames=50)
_EVENTS = Path(__file__).resolve().parents[2] / "events"


def _read_everywhere(data: bytes) -> None:
    """The first byte chooses the reader of the others. The only allowed error is a named fault."""
    reader, content = data[:1], data[1:]
    try:
        match reader:
            case b"o":
                order_messages.read_body(content.decode("utf-8", "replace"))
            case b"m":
                image_messages.read_body(content.decode("utf-8", "replace"))
            case b"p":
                read_photo(content, _LIMITS)
            case b"g":
                Delivery("queue", content, "gzip", None, {}).text()
            case _:
                identify(content, _LIMITS)
    except (PermanentFault, ProtocolError, RenderDefect):
        return


def main() -> None:
    """Begin with real files and messages; further arguments are libFuzzer's."""
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    messages = [path.read_bytes() for path in _EVENTS.glob("*.json")]
    begin = [b"i" + file for file in small_files()] + [reader + text for reader in (b"o", b"m") for text in messages]
    for number, data in enumerate(begin):
        (corpus / f"begin-{number}").write_bytes(data)
    atheris.Setup(sys.argv, _read_everywhere)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
