"""Fulfils an order: reserves stock, charges, commits, tells the customer."""

import logging

# With JSON logs Lambda sets the root logger to our level, and then these libraries tell of every request.
for _library in ("boto3", "botocore", "stripe", "urllib3"):
    logging.getLogger(_library).setLevel(logging.WARNING)
