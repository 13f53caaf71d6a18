"""The current version of every upload, as S3 lists it or as an S3 Inventory report has it."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from operations.errors import OperationsError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Without these an object cannot be compared with its record.
_COLUMNS = ("Key", "Size", "ETag")
_COLUMNS_OF_VERSIONS = ("VersionId", "IsLatest", "IsDeleteMarker")


@dataclass(frozen=True)
class CurrentUpload:
    """What S3 shows as current under a key. ``source`` identifies the content, ``size`` is in bytes."""

    key: str
    version_id: str | None
    source: str
    size: int


def listed(s3: S3Client, bucket: str, prefix: str) -> Iterator[CurrentUpload]:
    """List the uploads whose keys begin with a prefix. Raises ClientError, BotoCoreError."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for version in page.get("Versions", []):
            if version["IsLatest"]:
                yield _upload(version["Key"], version["VersionId"], version["ETag"], version["Size"])


def in_inventory(s3: S3Client, bucket: str, prefix: str, manifest: str) -> Iterator[CurrentUpload]:
    """Read the uploads whose keys begin with a prefix from an S3 Inventory report in CSV.

    A report is up to a day older than the bucket: what was uploaded since is not in it, and of what was replaced since
    it has the older version, whose task changes nothing.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html

    Parameters
    ----------
    manifest:
        Address of the report's manifest: ``s3://bucket/path/manifest.json``.

    Raises
    ------
    OperationsError
        It is not a report of this bucket in CSV with the columns that are needed and, if there are any, all versions.
    ClientError, BotoCoreError
        AWS refuses or does not answer.
    """
    scheme, _, address = manifest.partition("://")
    where, _, key = address.partition("/")
    if scheme != "s3" or not where or not key:
        raise OperationsError(f"INVENTORY={manifest} is not the address of a manifest: s3://bucket/path/manifest.json")
    try:
        report = json.loads(s3.get_object(Bucket=where, Key=key)["Body"].read())
        columns = [name.strip() for name in report["fileSchema"].split(",")]
        of, kind, files = report["sourceBucket"], report["fileFormat"], report["files"]
        named = [(str(file["key"]), str(file["MD5checksum"])) for file in files]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise OperationsError(f"{manifest} is not the manifest of an S3 Inventory report.") from None
    if kind != "CSV":
        raise OperationsError(f"The inventory report is in {kind}. Configure one in CSV.")
    if of != bucket:
        raise OperationsError(f"The inventory report is of bucket {of}, not of {bucket}.")
    has_versions = "Status" in s3.get_bucket_versioning(Bucket=bucket)
    needed = (*_COLUMNS, *_COLUMNS_OF_VERSIONS) if has_versions else _COLUMNS
    if lacking := [name for name in needed if name not in columns]:
        versions = "all versions, " if has_versions else ""
        raise OperationsError(
            f"The inventory report lacks {', '.join(lacking)}. Configure it with {versions}Size and ETag."
        )
    for name, checksum in named:
        for row in _rows(s3, where, name, checksum, columns):
            found = unquote_plus(row["Key"])  # S3 encodes it in CSV
            is_current = row.get("IsLatest", "true") == "true" and row.get("IsDeleteMarker") != "true"
            if is_current and found.startswith(prefix):
                yield _upload(found, row.get("VersionId") or "null", row["ETag"], int(row["Size"] or 0))


def _rows(s3: S3Client, bucket: str, key: str, checksum: str, columns: list[str]) -> Iterator[Mapping[str, Any]]:
    packed = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    if hashlib.md5(packed, usedforsecurity=False).hexdigest() != checksum:
        raise OperationsError(f"s3://{bucket}/{key} is not the file that the manifest names: its checksum differs.")
    with gzip.open(io.BytesIO(packed), "rt", encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines, columns)


def _upload(key: str, version_id: str, etag: str, size: int) -> CurrentUpload:
    version = None if version_id == "null" else version_id
    return CurrentUpload(key, version, version or etag.strip('"'), size)
