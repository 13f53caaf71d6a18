"""Answers an image's stable address with a redirect to its current rendition."""

import logging

# With JSON logs Lambda sets the root logger to our level, and then these libraries log every request.
for _library in ("boto3", "botocore", "urllib3"):
    logging.getLogger(_library).setLevel(logging.WARNING)
