"""The tasks table: is a task done, and which delivery is processing it.

Not Powertools' idempotency layer: docs/decisions/0003-task-table.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError
from darkroom.aws_faults import aws_faults_as_transient, error_code
from darkroom.errors import InProgressElsewhere, ServiceUnavailable
from darkroom.image_messages import ImageTask
from darkroom.messages import Unreadable

from functions.process_image.ports import Claim, Result

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_IN_PROGRESS = "IN_PROGRESS"
_DONE = "DONE"
# The ``claimed_until`` of a task that was released.
_RELEASED = 0
_SECONDS_PER_DAY = 86_400
_serialize = TypeSerializer().serialize


@dataclass(frozen=True)
class DynamoDbTasks:
    """One item per task: ``state``, ``outcome``, ``processed_at`` and, while it is claimed, its owner."""

    dynamodb: DynamoDBClient
    table: str
    retention_days: int
    now: Callable[[], float] = time

    def claim(self, task: ImageTask | Unreadable, *, until: float, again: bool) -> Claim | None:
        """Claim the task, in one conditional write.

        Parameters
        ----------
        until:
            Seconds since the epoch when the function with the claim has answered or died; from then on another
            delivery may take the task over.
        again:
            Whether a task that was moved to the dead-letter queue is done again, because its dead letter was redriven.

        Returns
        -------
        Claim or None
            None if the task was done before.

        Raises
        ------
        InProgressElsewhere
            Another delivery holds it.
        ServiceUnavailable
            DynamoDB answered with an error.
        """
        owner = uuid4().hex
        about = {"bucket": task.bucket, "key": task.key} if isinstance(task, ImageTask) else {}
        dead_letter_may_return = " OR outcome = :dead_lettered" if again else ""
        with aws_faults_as_transient("claim the task"):
            try:
                before = self._update(
                    task.task_id,
                    "SET #state = :in_progress, #owner = :owner, claimed_until = :until, expires_at = :expires_at"
                    + "".join(f", #{name} = :{name}" for name in about)
                    + " ADD attempts :one REMOVE outcome, error_code, processed_at, finished_by",
                    "attribute_not_exists(task_id) OR (#state = :in_progress AND claimed_until <= :now)"
                    + dead_letter_may_return,
                    {"#state": "state", "#owner": "owner", **{f"#{name}": name for name in about}},
                    {
                        ":in_progress": _IN_PROGRESS,
                        ":owner": owner,
                        ":until": int(until * 1000),
                        ":now": int(self.now() * 1000),
                        ":expires_at": self._expiry(),
                        ":one": 1,
                        **{f":{name}": value for name, value in about.items()},
                        **({":dead_lettered": Result.DEAD_LETTERED.value} if again else {}),
                    },
                    returned="ALL_OLD",
                )
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                held: dict[str, Any] = error.response.get("Item", {})  # type: ignore[assignment] # not in the stubs
                if held.get("state", {}).get("S") == _DONE:
                    return None
                if held.get("owner", {}).get("S") != owner:
                    left = _number(held, "claimed_until") / 1000 - self.now()
                    raise InProgressElsewhere(
                        "Another delivery is processing this task.", retry_after=max(left, 0)
                    ) from error
                # By this very call: its first answer, and with it what stood there before, was lost; boto3 repeated it.
                return Claim(
                    task.task_id, owner, attempt=int(held["attempts"]["N"]), not_begun=_number(held, "not_begun")
                )
        return Claim(
            task.task_id,
            owner,
            attempt=_number(before, "attempts") + 1,
            taken_over=_number(before, "claimed_until") > _RELEASED,
            not_begun=_number(before, "not_begun"),
        )

    def finish(self, claim: Claim, result: Result, error_code: str | None) -> None:
        """Remember that the task is done, for the retention time.

        Raises
        ------
        ServiceUnavailable
            DynamoDB answered with an error, or the claim ran out and another delivery took the task over.
        """
        with aws_faults_as_transient("finish the task"):
            try:
                self._update(
                    claim.task_id,
                    "SET #state = :done, outcome = :outcome, processed_at = :at, expires_at = :expires_at"
                    + ", finished_by = :owner"
                    + (", error_code = :error_code" if error_code else "")
                    + " REMOVE #owner, claimed_until",
                    "#owner = :owner",
                    {"#state": "state", "#owner": "owner"},
                    {
                        ":done": _DONE,
                        ":outcome": result.value,
                        ":at": datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="milliseconds"),
                        ":expires_at": self._expiry(),
                        ":owner": claim.owner,
                        **({":error_code": error_code} if error_code else {}),
                    },
                )
            except ClientError as error:
                done: dict[str, Any] = error.response.get("Item", {})  # type: ignore[assignment] # not in the stubs
                if done.get("finished_by", {}).get("S") != claim.owner:
                    raise
                # By this very call: its first answer was lost, and boto3 repeated it.

    def release(self, claim: Claim, *, begun: bool) -> None:
        """Release the task. If that fails too, the claim expires by itself."""
        try:
            with aws_faults_as_transient("release the task"):
                self._update(
                    claim.task_id,
                    "SET claimed_until = :released ADD not_begun :not_begun",
                    "#owner = :owner",
                    {"#owner": "owner"},
                    {":released": _RELEASED, ":owner": claim.owner, ":not_begun": int(not begun)},
                )
        except ServiceUnavailable:
            return

    def _update(
        self,
        task_id: str,
        update: str,
        condition: str,
        names: dict[str, str],
        values: dict[str, Any],
        returned: Literal["NONE", "ALL_OLD"] = "NONE",
    ) -> Mapping[str, Any]:
        """Update a task if the condition holds; returns what ``returned`` asks for."""
        return self.dynamodb.update_item(
            TableName=self.table,
            Key={"task_id": {"S": task_id}},
            UpdateExpression=update,
            ConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={name: _serialize(value) for name, value in values.items()},
            ReturnValues=returned,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        ).get("Attributes", {})

    def _expiry(self) -> int:
        return int(self.now()) + self.retention_days * _SECONDS_PER_DAY


def _number(item: Mapping[str, Any], name: str) -> int:
    """Return a number of an item, 0 if it has none."""
    return int(item.get(name, {}).get("N", 0))
