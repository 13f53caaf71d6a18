"""What the functions tell: metrics and log lines, by the service under which they do.

``tests/unit/test_telemetry.py`` holds this to the code, ``tests/template/rules/operations.py`` holds alarms, dashboard
and saved queries to this.
"""

from __future__ import annotations

_FAULTS = {"DeadLettered", "Retried"}

# By dimensions in alphabetical order.
METRICS: dict[str, dict[tuple[str, ...], set[str]]] = {
    "process-image": {
        ("service",): {
            *("Processed", "Duplicate", "Superseded", "Deleted", "Unchanged"),
            *("TakenOver", "Defects", "BytesIn", "BytesOut"),
            *("NotificationLatency", "QueueTime", "ProcessingTime"),
            *_FAULTS,
        },
        ("error_code", "service"): _FAULTS,
    },
    "process-order": {
        ("service",): {
            *("Completed", "Rejected", "Duplicate", "Defects", "PaymentFailures"),
            *("QueueTime", "ProcessingTime"),
            *_FAULTS,
        },
        ("error_code", "service"): _FAULTS,
        ("code", "service"): {"Rejected"},
    },
    "sweep-orders": {
        ("service",): {"StoodStill", "UnknownPayments", "Defects", "Retried"},
        ("error_code", "service"): {"Retried"},
    },
    "answer-requests": {("service",): {"Defects", "Retried"}, ("error_code", "service"): {"Retried"}},
    "relay-rabbitmq": {("service",): {"Relayed", "Defects", *_FAULTS}, ("error_code", "service"): _FAULTS},
}

_OF_EVERY_LINE = {"level", "location", "message", "timestamp", "service"}
_OF_FAULTS = {"error_code", "exception", "exception_name", "stack_trace"}

LOG_FIELDS: dict[str, set[str]] = {
    "process-image": {
        *("task_id", "bucket", "key", "version_id"),
        *("NotificationLatencyMs", "QueueTimeMs", "ProcessingTimeMs"),
        *_OF_EVERY_LINE,
        *_OF_FAULTS,
    },
    "process-order": {"order_id", "rejection", "QueueTimeMs", "ProcessingTimeMs", *_OF_EVERY_LINE, *_OF_FAULTS},
    "sweep-orders": {
        *("stood_still", "payment_id", "order_id", "amount", "currency"),
        *_OF_EVERY_LINE,
        *_OF_FAULTS,
    },
    "answer-requests": {"error_code", *_OF_EVERY_LINE},
    "relay-rabbitmq": {"task_id", "queue", "relayed", "dead_lettered", *_OF_EVERY_LINE, *_OF_FAULTS},
}
