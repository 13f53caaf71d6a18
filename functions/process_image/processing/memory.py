"""x."""

from functions.process_image.photo import Photo
from functions.process_image.rendition_set import RenditionSet


def estimate_memory(photo: Photo, rendition_set: RenditionSet) -> int:
    """X."""
    return 0
