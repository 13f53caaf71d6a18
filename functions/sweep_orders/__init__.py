"""Find orders that stand still and payments that no order knows."""

import logging

# With JSON logs Lambda sets the root logger to the function's level, and these libraries would log every request.
for _library in ("boto3", "botocore", "urllib3", "stripe"):
    logging.getLogger(_library).setLevel(logging.WARNING)
