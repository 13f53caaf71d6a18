"""Render an uploaded image and publish its newest version."""

import logging

# With JSON logs Lambda sets the root logger to our level, and these libraries would log every request and, byte by
# byte, every photo. Set before they are imported, because some log even then.
for _library in ("boto3", "botocore", "PIL", "pyvips", "urllib3"):
    logging.getLogger(_library).setLevel(logging.WARNING)
