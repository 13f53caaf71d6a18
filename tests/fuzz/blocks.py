"""Tries a block, whatever its kind, in a process that was started for it."""

from __future__ import annotations

from tests.fuzz.cases import Block, Report


def try_block(block: Block) -> Report:
    """Import what the kind needs and nothing else: an images block has no other child than the render server."""
    if block.kind == "images":
        from tests.fuzz.images import try_images

        return try_images(block)
    from tests.fuzz.messages import try_messages

    return try_messages(block)
