"""The environment that the functions read when a test imports them: import this first, where there is no stack."""

import os

os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    "POWERTOOLS_SERVICE_NAME": "process-image",
    "POWERTOOLS_METRICS_NAMESPACE": "Darkroom",
    "POWERTOOLS_TRACE_DISABLED": "true",
    "UPLOADS_BUCKET": "darkroom-uploads-c660aae9-f7a0-5321-98e4-c64097062dd7",
    "RENDITIONS_BUCKET": "darkroom-renditions-example",
    "TASKS_TABLE": "tasks",
    "IMAGES_TABLE": "images",
    "TASKS_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/tasks",
    "RERENDER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/rerenders",
    "IMAGE_EVENTS_TOPIC_ARN": "arn:aws:sns:eu-central-1:123456789012:images",
    "IMAGES_URL": "",
    "DELIVERY_PREFIXES": "",
    "DEAD_LETTER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/dead-letters",
    "MAX_RECEIVES": "5",
    "MAX_ATTEMPTS": "4",
    "MAX_IMAGE_BYTES": "52428800",
    "MAX_IMAGE_PIXELS": "100000000",
    "MAX_IMAGE_FRAMES": "300",
    "KEEP_LOCATION": "false",
    "TASK_RETENTION_DAYS": "30",
    "ORDERS_TABLE": "orders",
    "INVENTORY_TABLE": "inventory",
    "ORDER_RETENTION_DAYS": "never",
    "ORDER_EVENTS_TOPIC_ARN": "arn:aws:sns:eu-central-1:123456789012:order-events",
    "ORDER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/orders",
    "PAYMENT_SECRET_ARN": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:payment-AbCdEf",
    "PAYMENTS_URL": "https://api.stripe.com",
    "ROUTES": '{"image-tasks::/": "image-tasks", "orders::/": "orders"}',
    "IMAGE_TASKS_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/image-tasks",
}
os.environ.pop("AWS_PROFILE", None)
os.environ.pop("AWS_ENDPOINT_URL", None)
