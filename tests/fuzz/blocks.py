"""Try a block of any kind in a process that was started for it."""

from __future__ import annotations

from tests.fuzz.cases import Block, Report


def try_block(block: Block) -> Report:
    """Import only what the kind needs: the render server is the only child process of a block of images."""
    if block.kind == "images":
        from tests.fuzz.images import try_images

        return try_images(block)
    from tests.fuzz.messages import try_messages

    return try_messages(block)
