"""When an order that stands still is given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

# A message waits in a queue for 14 days at most, and is delivered for some hours before that.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
STANDS_STILL_AFTER = timedelta(days=15)


def stands_still(since: str, now: float) -> bool:
    """Whether an order is beyond what its messages can still move.

    Parameters
    ----------
    since:
        When its state changed last: ISO 8601 in UTC.
    now:
        Seconds since the epoch.
    """
    return datetime.fromtimestamp(now, UTC) - datetime.fromisoformat(since) > STANDS_STILL_AFTER
