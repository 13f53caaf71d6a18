"""Fulfil an order: reserve stock, charge, commit, notify the customer."""

import logging

# With JSON logs Lambda sets the root logger to the function's level, and these libraries would log every request.
for _library in ("boto3", "botocore", "stripe", "urllib3"):
    logging.getLogger(_library).setLevel(logging.WARNING)
