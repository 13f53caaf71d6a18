"""Send a RabbitMQ broker's messages to the queues."""

import logging

# With JSON logs Lambda sets the root logger to the function's level, and these libraries would log every request.
for _library in ("boto3", "botocore", "urllib3"):
    logging.getLogger(_library).setLevel(logging.WARNING)
