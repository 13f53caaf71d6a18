"""What the deployed function is told: read and checked once, at cold start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from functions.process_image.photo import Limits


class InvalidSettings(ValueError):
    """The function's environment is incomplete or wrong; names every variable at fault."""


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
        faults: list[str] = []

        def text(name: str) -> str:
            value = environment.get(name, "")
            if not value:
                faults.append(f"{name} is not set")
            return value

        def number(name: str) -> int:
            value = text(name)
            if value and not (value.isdecimal() and int(value) > 0):
                faults.append(f"{name} is {value!r}; it must be a whole number above 0")
            return int(value) if value.isdecimal() else 0

        def flag(name: str) -> bool:
            value = text(name)
            if value not in ("", "true", "false"):
                faults.append(f"{name} is {value!r}; it must be 'true' or 'false'")
            return value == "true"

        settings = cls(
            uploads_bucket=text("UPLOADS_BUCKET"),
            renditions_bucket=text("RENDITIONS_BUCKET"),
            tasks_table=text("TASKS_TABLE"),
            images_table=text("IMAGES_TABLE"),
            tasks_queue_url=text("TASKS_QUEUE_URL"),
            results_queue_url=text("RESULTS_QUEUE_URL"),
            dead_letter_queue_url=text("DEAD_LETTER_QUEUE_URL"),
            max_receives=number("MAX_RECEIVES"),
            limits=Limits(
                max_bytes=number("MAX_IMAGE_BYTES"),
                max_pixels=number("MAX_IMAGE_PIXELS"),
                max_frames=number("MAX_IMAGE_FRAMES"),
            ),
            keep_location=flag("KEEP_LOCATION"),
            task_retention_days=number("TASK_RETENTION_DAYS"),
            memory_mb=number("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
        )
        if faults:
            raise InvalidSettings("; ".join(faults))
        return settings
