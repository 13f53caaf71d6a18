"""Finds orders that stand still and payments that no order knows."""

import logging

# With JSON logs Lambda sets the root logger to our level, and then these libraries tell of every request.
for _library in ("boto3", "botocore", "urllib3", "stripe"):
    logging.getLogger(_library).setLevel(logging.WARNING)
