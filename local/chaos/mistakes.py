"""An operator's mistakes during a chaos run: each is corrected, and the orders that it held back are redriven."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from darkroom.errors import PaymentKeyRefused, ProductUnknown

from local.chaos.fault_injection import kill_functions
from local.config import LocalConfig
from local.emulators import payments
from local.outcomes import poll, read_dead_letters
from local.stack import Stack
from operations.flows import FLOWS
from operations.redrive import Moved, Pace, Redrive, back_to

#: Dead letters that succeed after a redrive once the mistake is corrected.
CODES = (PaymentKeyRefused.__name__, ProductUnknown.__name__)
# One product in so many is missing: nearly half of the orders of two products have one.
_ONE_IN = 4
# How long a mistake lasts at most if no order meets it.
_SECONDS = 60
_REDRIVEN_A_SECOND = 100


@dataclass(frozen=True)
class Operator:
    """Somebody who makes mistakes, and corrects each once an order has met it.

    Attributes
    ----------
    run:
        The prefix of all ids of this run.
    done:
        Counts the mistakes and the redriven dead letters.
    """

    config: LocalConfig
    deployed: Stack
    run: str
    done: Counter[str]

    def replace_the_key(self) -> None:
        """Store a payment key of the wrong mode. No running function has the right one in its memory."""
        secret = self.deployed.outputs["PaymentSecretArn"]
        right, _ = payments.split(self.deployed.payments_url)
        put = self.deployed.secretsmanager.put_secret_value
        put(SecretId=secret, SecretString=payments.WRONG_KEY)
        try:
            kill_functions(self.config, self.deployed.outputs["ProcessOrderFunctionName"])
            self._wait_for_a_dead_letter(PaymentKeyRefused.__name__)
        finally:
            put(SecretId=secret, SecretString=right)
        self._redrive(PaymentKeyRefused.__name__, "wrong payment keys")

    def lose_products(self) -> None:
        """Delete products of which no order holds stock, and put them back as they were."""
        deleted = [product for product in map(self._delete, self._products()[::_ONE_IN]) if product]
        try:
            self._wait_for_a_dead_letter(ProductUnknown.__name__)
        finally:
            for product in deleted:
                self.deployed.dynamodb.put_item(TableName=self._inventory, Item=product)
        self._redrive(ProductUnknown.__name__, "products that were missing", len(deleted))

    @property
    def _inventory(self) -> str:
        return self.deployed.outputs["InventoryTableName"]

    def _delete(self, product_id: Any) -> dict[str, Any] | None:
        dynamodb = self.deployed.dynamodb
        try:
            return dynamodb.delete_item(
                TableName=self._inventory,
                Key={"product_id": product_id},
                ConditionExpression="reserved = :none",
                ExpressionAttributeValues={":none": {"N": "0"}},
                ReturnValues="ALL_OLD",
            )["Attributes"]
        except dynamodb.exceptions.ConditionalCheckFailedException:
            return None

    def _products(self) -> list[Any]:
        pages = self.deployed.dynamodb.get_paginator("scan").paginate(
            TableName=self._inventory,
            FilterExpression="begins_with(product_id, :run)",
            ExpressionAttributeValues={":run": {"S": self.run}},
        )
        return sorted((item["product_id"] for page in pages for item in page["Items"]), key=lambda key: key["S"])

    def _wait_for_a_dead_letter(self, code: str) -> None:
        queue_url = self.deployed.outputs[FLOWS["orders"].dead_letters]
        poll(
            lambda: any(letter.error_code == code for letter in read_dead_letters(self.deployed, queue_url)),
            bool,
            seconds=_SECONDS,
            every=0.5,
        )

    def _redrive(self, code: str, mistake: str, times: int = 1) -> None:
        outputs, flow, moved = self.deployed.outputs, FLOWS["orders"], Moved()
        dead_letters, queue = outputs[flow.dead_letters], outputs[flow.waiting]
        command = Redrive(self.deployed.sqs, dead_letters, back_to(queue), code=code)
        command.move(command.plan(), Pace(_REDRIVEN_A_SECOND, monotonic, sleep), moved)
        self.done[mistake] += times
        self.done[f"dead letters with error code {code}, redriven after the correction"] += moved.moved
