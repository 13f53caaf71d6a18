"""What the deployed function is told: read and checked once, at cold start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from darkroom.environment import Environment

from functions.process_image.photo import Limits


@dataclass(frozen=True)
class Settings:
    """The image function's settings. ``memory_mb`` and ``task_retention_days`` are in the units of their names."""

    uploads_bucket: str
    renditions_bucket: str
    tasks_table: str
    images_table: str
    tasks_queue_url: str
    results_queue_url: str
    dead_letter_queue_url: str
    max_receives: int
    limits: Limits
    keep_location: bool
    task_retention_days: int
    memory_mb: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings.

        Raises
        ------
        InvalidSettings
            Naming every variable that is missing or wrong.
        """
        variables = Environment(environment)
        settings = cls(
            uploads_bucket=variables.text("UPLOADS_BUCKET"),
            renditions_bucket=variables.text("RENDITIONS_BUCKET"),
            tasks_table=variables.text("TASKS_TABLE"),
            images_table=variables.text("IMAGES_TABLE"),
            tasks_queue_url=variables.text("TASKS_QUEUE_URL"),
            results_queue_url=variables.text("RESULTS_QUEUE_URL"),
            dead_letter_queue_url=variables.text("DEAD_LETTER_QUEUE_URL"),
            max_receives=variables.number("MAX_RECEIVES"),
            limits=Limits(
                max_bytes=variables.number("MAX_IMAGE_BYTES"),
                max_pixels=variables.number("MAX_IMAGE_PIXELS"),
                max_frames=variables.number("MAX_IMAGE_FRAMES"),
            ),
            keep_location=variables.flag("KEEP_LOCATION"),
            task_retention_days=variables.number("TASK_RETENTION_DAYS"),
            memory_mb=variables.number("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
        )
        variables.check()
        return settings
