"""Renders an uploaded image and publishes its newest version."""

import logging

# With JSON logs Lambda sets the root logger to our level, and then these libraries tell of every request and, byte by
# byte, of every photo. Before they are imported, because some log even then.
for _library in ("boto3", "botocore", "PIL", "pyvips", "urllib3"):
    logging.getLogger(_library).setLevel(logging.WARNING)
