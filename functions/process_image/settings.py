"""The settings of the deployed function, read and checked once, at cold start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from darkroom.addresses import Addresses
from darkroom.environment import Environment, EnvironmentSettings

from functions.process_image.photo import Limits


def _limits(environment: Environment) -> Limits:
    return Limits(
        max_bytes=environment.number("MAX_IMAGE_BYTES"),
        max_pixels=environment.number("MAX_IMAGE_PIXELS"),
        max_frames=environment.number("MAX_IMAGE_FRAMES"),
    )


def _existing_buckets(environment: Environment) -> frozenset[str]:
    return environment.words("EXISTING_UPLOADS_BUCKETS")


@dataclass(frozen=True)
class Settings(EnvironmentSettings):
    """The image function's settings. ``memory_mb`` and ``task_retention_days`` are in the units of their names."""

    uploads_bucket: str
    existing_uploads_buckets: Annotated[frozenset[str], _existing_buckets]
    renditions_bucket: str
    tasks_table: str
    images_table: str
    tasks_queue_url: str
    rerender_queue_url: str
    image_events_topic_arn: str
    addresses: Annotated[Addresses, Addresses.read]
    dead_letter_queue_url: str
    max_receives: int
    max_attempts: int
    limits: Annotated[Limits, _limits]
    keep_location: bool
    task_retention_days: int
    memory_mb: Annotated[int, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
