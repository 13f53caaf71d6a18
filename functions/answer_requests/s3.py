"""The buckets: list uploads, sign upload forms and the addresses of renditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from darkroom.aws_faults import aws_faults_as_transient

from functions.answer_requests.routes import StoredUpload
from functions.answer_requests.uploads import UploadForm, policy_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_SECONDS_TO_SHOW = 900


@dataclass(frozen=True)
class S3Uploads:
    """The uploads bucket."""

    s3: S3Client
    bucket: str

    def list(self, prefix: str, after: str, limit: int) -> tuple[list[StoredUpload], bool]:
        """List objects in the order of their keys; also returns whether there are more. Raises ServiceUnavailable."""
        with aws_faults_as_transient("list the uploads"):
            page = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix, StartAfter=after, MaxKeys=limit)
        found = [StoredUpload(o["Key"], o["Size"], _iso(o["LastModified"])) for o in page.get("Contents", [])]
        return found, page["IsTruncated"]

    def sign(self, form: UploadForm) -> Mapping[str, Any]:
        """Return the form's address and its signed fields.

        S3 lets the form do what this function's role may do. ``${filename}`` stands for the browser's file name.
        """
        fields, conditions = policy_of(form)
        signed = self.s3.generate_presigned_post(
            self.bucket,
            form.key or form.prefix + "${filename}",
            Fields=fields,
            Conditions=conditions,
            ExpiresIn=form.expires_in,
        )
        return {
            "url": signed["url"],
            "fields": signed["fields"],
            "max_bytes": form.max_bytes,
            "expires_at": _iso(datetime.now(UTC) + timedelta(seconds=form.expires_in)),
        }


@dataclass(frozen=True)
class PresignedAddresses:
    """Addresses of the renditions bucket that everybody can read who has them, for a quarter of an hour."""

    s3: S3Client
    bucket: str
    expire_at: str

    @classmethod
    def from_now(cls, s3: S3Client, bucket: str) -> PresignedAddresses:
        """Return addresses that work from now on."""
        return cls(s3, bucket, _iso(datetime.now(UTC) + timedelta(seconds=_SECONDS_TO_SHOW)))

    def of(self, key: str) -> str:
        """Return the address of a rendition."""
        return self.s3.generate_presigned_url(
            "get_object", {"Bucket": self.bucket, "Key": key}, ExpiresIn=_SECONDS_TO_SHOW
        )


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
