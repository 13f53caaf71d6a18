"""What the image function is told where it is measured, as the template tells the deployed one."""

from __future__ import annotations

BUCKET = "darkroom-uploads-example"
MEMORY_MB = "1769"

ENVIRONMENT = {
    "UPLOADS_BUCKET": BUCKET,
    "RENDITIONS_BUCKET": "darkroom-renditions-example",
    "TASKS_TABLE": "tasks",
    "IMAGES_TABLE": "images",
    "TASKS_QUEUE_URL": "http://127.0.0.1/tasks",
    "RESULTS_QUEUE_URL": "http://127.0.0.1/results",
    "DEAD_LETTER_QUEUE_URL": "http://127.0.0.1/dead",
    "MAX_RECEIVES": "10",
    "MAX_IMAGE_BYTES": "50000000",
    "MAX_IMAGE_PIXELS": "100000000",
    "MAX_IMAGE_FRAMES": "300",
    "KEEP_LOCATION": "false",
    "TASK_RETENTION_DAYS": "30",
    "POWERTOOLS_SERVICE_NAME": "process-image",
    "POWERTOOLS_METRICS_NAMESPACE": "ImageProcessing",
    "POWERTOOLS_LOG_LEVEL": "INFO",
}
