"""The uploads and the renditions bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from botocore.exceptions import ClientError
from darkroom.aws_faults import aws_faults_as_transient, error_code
from darkroom.errors import ServiceUnavailable

from functions.process_image.formats import content_type_of
from functions.process_image.images import is_rendition_of, rendition_prefix
from functions.process_image.photo import Rendition

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_GONE = {"NoSuchKey", "404"}
# "405": a delete marker; "400": S3 never issued such a version id. HEAD has no body to name an error.
_NO_SUCH_VERSION = {"NoSuchVersion", "MethodNotAllowed", "405", "InvalidArgument", "400"}
# A rendition's name changes with its content, so it can be cached forever.
_CACHE_CONTROL = "public, max-age=31536000, immutable"
# The lifecycle rule of the renditions bucket looks for it.
_STALE = {"darkroom:stale": "true"}
_KEYS_PER_DELETE = 1000  # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html


@dataclass(frozen=True)
class S3Upload:
    """An open GetObject answer."""

    answer: GetObjectOutputTypeDef

    @property
    def size(self) -> int:
        """Bytes."""
        return self.answer["ContentLength"]

    @property
    def last_modified(self) -> datetime:
        """Return when S3 stored this version."""
        return self.answer["LastModified"]

    @property
    def version_id(self) -> str | None:
        """Return the version id; None in a bucket without versions."""
        version_id = self.answer.get("VersionId")
        return None if version_id == "null" else version_id

    @property
    def source(self) -> str:
        """Return what identifies this content among all of its key."""
        return self.version_id or self.answer["ETag"].strip('"')

    def read(self) -> bytes:
        """Read the whole object. Raises ServiceUnavailable if the connection breaks."""
        with aws_faults_as_transient("read the upload"):
            return self.answer["Body"].read()

    def close(self) -> None:
        """Close the connection, read or not."""
        self.answer["Body"].close()


@dataclass(frozen=True)
class S3Uploads:
    """The uploads bucket."""

    s3: S3Client

    def open_current(self, bucket: str, key: str) -> S3Upload | None:
        """Open the current version without reading its bytes. Return None if there is none.

        Raises
        ------
        ServiceUnavailable
            S3 answered with any other error.
        """
        with aws_faults_as_transient("open the upload"):
            try:
                return S3Upload(self.s3.get_object(Bucket=bucket, Key=key))
            except ClientError as error:
                if error_code(error) not in _GONE:
                    raise
                return None

    def has_version(self, bucket: str, key: str, version_id: str) -> bool:
        """Return whether a version still exists. Raises ServiceUnavailable."""
        with aws_faults_as_transient("look the version up"):
            try:
                self.s3.head_object(Bucket=bucket, Key=key, VersionId=version_id)
            except ClientError as error:
                if error_code(error) not in _GONE | _NO_SUCH_VERSION:
                    raise
                return False
        return True


@dataclass(frozen=True)
class S3Renditions:
    """The renditions bucket. ``transfers`` runs the requests of one image side by side."""

    s3: S3Client
    bucket: str
    transfers: Executor

    def put(self, keyed: dict[str, Rendition]) -> None:
        """Write every rendition under its key; returns when all are durable. Raises ServiceUnavailable."""

        def put_one(key: str, rendition: Rendition) -> None:
            self.s3.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=rendition.body,
                ContentType=rendition.content_type,
                CacheControl=_CACHE_CONTROL,
            )

        with aws_faults_as_transient("write the renditions"):
            self._all(put_one, *zip(*keyed.items(), strict=True))

    def mark_stale(self, keys: tuple[str, ...]) -> None:
        """Tag renditions that no record points to, for the bucket's lifecycle rule. Raises ServiceUnavailable.

        By copying them onto themselves, because the rule counts its days from an object's last writing.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
        """

        def tag_one(key: str) -> None:
            try:
                self.s3.copy_object(
                    Bucket=self.bucket,
                    Key=key,
                    CopySource={"Bucket": self.bucket, "Key": key},
                    # S3 copies an object onto itself only if its metadata is given again.
                    MetadataDirective="REPLACE",
                    ContentType=content_type_of(key),
                    CacheControl=_CACHE_CONTROL,
                    TaggingDirective="REPLACE",
                    Tagging=urlencode(_STALE),
                )
            except ClientError as error:
                if error_code(error) not in _GONE:  # the lifecycle rule was here before
                    raise

        if keys:
            with aws_faults_as_transient("mark stale renditions"):
                self._all(tag_one, keys)

    def are_live(self, keys: Iterable[str]) -> bool:
        """Return whether every rendition exists and none is marked stale. Raises ServiceUnavailable."""

        def is_live(key: str) -> bool:
            try:
                tags = self.s3.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
            except ClientError as error:
                if error_code(error) not in _GONE:
                    raise
                return False
            return not any(tag["Key"] in _STALE for tag in tags)

        with aws_faults_as_transient("look at the renditions"):
            return all(self.transfers.map(is_live, keys))

    def stored(self, image_key: str) -> tuple[str, ...]:
        """Return the keys of all renditions of an image, of every version. Raises ServiceUnavailable."""
        with aws_faults_as_transient("list the renditions"):
            pages = self.s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=rendition_prefix(image_key)
            )
            keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return tuple(key for key in keys if is_rendition_of(image_key, key))

    def delete(self, keys: Sequence[str]) -> None:
        """Delete renditions at once. Raises ServiceUnavailable."""
        with aws_faults_as_transient("delete the renditions"):
            for start in range(0, len(keys), _KEYS_PER_DELETE):
                some = keys[start : start + _KEYS_PER_DELETE]
                answer = self.s3.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in some], "Quiet": True}
                )
                if failed := answer.get("Errors"):
                    raise ServiceUnavailable(f"S3 did not delete {len(failed)} renditions: {failed[0].get('Code')}")

    def _all(self, request: Callable[..., None], *arguments: tuple[Any, ...]) -> None:
        for _ in self.transfers.map(request, *arguments):
            pass
