import os

from hypothesis import HealthCheck, settings

os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    "POWERTOOLS_SERVICE_NAME": "process-image",
    "POWERTOOLS_METRICS_NAMESPACE": "Darkroom",
    "POWERTOOLS_TRACE_DISABLED": "true",
    "UPLOADS_BUCKET": "darkroom-uploads-example",
    "RENDITIONS_BUCKET": "darkroom-renditions-example",
    "TASKS_TABLE": "tasks",
    "IMAGES_TABLE": "images",
    "TASKS_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/tasks",
    "RESULTS_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/results",
    "DEAD_LETTER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/dead-letters",
    "MAX_RECEIVES": "5",
    "MAX_IMAGE_BYTES": "52428800",
    "MAX_IMAGE_PIXELS": "100000000",
    "MAX_IMAGE_FRAMES": "300",
    "KEEP_LOCATION": "false",
    "TASK_RETENTION_DAYS": "30",
}
os.environ.pop("AWS_PROFILE", None)
os.environ.pop("AWS_ENDPOINT_URL", None)

settings.register_profile(
    "darkroom",
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("darkroom")
