"""The functions' environment for measurements, as the template sets it."""

from __future__ import annotations

BUCKET = "darkroom-uploads-example"
MEMORY_MB = "1769"

#: An account that does not exist: the measurements make no calls to AWS.
AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_DEFAULT_REGION": "eu-central-1",
}

ENVIRONMENT = {
    "UPLOADS_BUCKET": BUCKET,
    "RENDITIONS_BUCKET": "darkroom-renditions-example",
    "TASKS_TABLE": "tasks",
    "IMAGES_TABLE": "images",
    "TASKS_QUEUE_URL": "http://127.0.0.1/tasks",
    "RERENDER_QUEUE_URL": "http://127.0.0.1/rerenders",
    "IMAGE_EVENTS_TOPIC_ARN": "arn:aws:sns:eu-central-1:000000000000:images",
    "IMAGES_URL": "",
    "DELIVERY_PREFIXES": "",
    "DEAD_LETTER_QUEUE_URL": "http://127.0.0.1/dead",
    "MAX_RECEIVES": "30",
    "MAX_ATTEMPTS": "10",
    "MAX_IMAGE_BYTES": "50000000",
    "MAX_IMAGE_PIXELS": "100000000",
    "MAX_IMAGE_FRAMES": "300",
    "KEEP_LOCATION": "false",
    "TASK_RETENTION_DAYS": "30",
    "POWERTOOLS_SERVICE_NAME": "process-image",
    "POWERTOOLS_METRICS_NAMESPACE": "ImageProcessing",
    "POWERTOOLS_LOG_LEVEL": "INFO",
}

ORDER_ENVIRONMENT = {
    "ORDERS_TABLE": "orders",
    "INVENTORY_TABLE": "inventory",
    "ORDER_EVENTS_TOPIC_ARN": "arn:aws:sns:eu-central-1:123456789012:events",
    "ORDER_QUEUE_URL": "http://127.0.0.1/orders",
    "DEAD_LETTER_QUEUE_URL": "http://127.0.0.1/dead",
    "MAX_RECEIVES": "15",
    "ORDER_RETENTION_DAYS": "never",
    "PAYMENT_SECRET_ARN": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:payments-AbCdEf",
    "PAYMENTS_URL": "https://api.stripe.com",
    "POWERTOOLS_SERVICE_NAME": "process-order",
    "POWERTOOLS_METRICS_NAMESPACE": "OrderProcessing",
}

RELAY_ENVIRONMENT = {
    "IMAGE_TASKS_QUEUE_URL": "http://127.0.0.1/tasks",
    "ORDER_QUEUE_URL": "http://127.0.0.1/orders",
    "DEAD_LETTER_QUEUE_URL": "http://127.0.0.1/dead",
    "ROUTES": "{}",
    "POWERTOOLS_SERVICE_NAME": "relay-rabbitmq",
    "POWERTOOLS_METRICS_NAMESPACE": "RabbitMqIntake",
}

SWEEP_ENVIRONMENT = {name: ORDER_ENVIRONMENT[name] for name in ("ORDERS_TABLE", "ORDER_QUEUE_URL")} | {
    "PAYMENT_SECRET_ARN": ORDER_ENVIRONMENT["PAYMENT_SECRET_ARN"],
    "PAYMENTS_URL": ORDER_ENVIRONMENT["PAYMENTS_URL"],
    "POWERTOOLS_SERVICE_NAME": "sweep-orders",
    "POWERTOOLS_METRICS_NAMESPACE": "OrderProcessing",
}

ANSWER_ENVIRONMENT = {name: ENVIRONMENT[name] for name in ("UPLOADS_BUCKET", "RENDITIONS_BUCKET", "IMAGES_TABLE")} | {
    "ORDERS_TABLE": ORDER_ENVIRONMENT["ORDERS_TABLE"],
    "MAX_IMAGE_BYTES": ENVIRONMENT["MAX_IMAGE_BYTES"],
    "IMAGES_URL": "",
    "DELIVERY_PREFIXES": "",
    "POWERTOOLS_SERVICE_NAME": "answer-requests",
    "POWERTOOLS_METRICS_NAMESPACE": "HttpApi",
}

LOCATE_ENVIRONMENT = {
    "IMAGES_TABLE": ENVIRONMENT["IMAGES_TABLE"],
    "DELIVERY_PREFIXES": "",
    "POWERTOOLS_SERVICE_NAME": "locate-image",
    "POWERTOOLS_METRICS_NAMESPACE": "ImageProcessing",
}
