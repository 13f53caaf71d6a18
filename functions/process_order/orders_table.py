"""The orders table, and the inventory whose stock moves in one transaction with an order's state.

An order's item holds the shop's order, ``state``, ``revision`` and ``history``. A product's item holds three counters:
stock that is ``available``, ``reserved`` for open orders, and ``sold``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from time import sleep, time
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError
from darkroom.aws_faults import aws_faults_as_transient, error_code
from darkroom.errors import OrderIdReused, ProductUnknown, ServiceUnavailable, StockRecordInvalid
from darkroom.items import plain_values
from darkroom.order_messages import Order, OrderLine
from darkroom.retries import backoff

from functions.process_order.orders import (
    FINAL,
    Change,
    HistoryEntry,
    OrderRecord,
    Rejection,
    RejectionCode,
    State,
    StockMove,
)
from functions.process_order.ports import Overtaken, StockShort

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

# When orders for the same products conflict in DynamoDB, the second one has to try again.
_ATTEMPTS_AT_A_TRANSACTION = 8
_FAILED_CONDITION = "ConditionalCheckFailed"
_SECONDS_OF_A_DAY = 24 * 60 * 60
_serialize = TypeSerializer().serialize


@dataclass(frozen=True)
class DynamoDbOrders:
    """Orders and their stock. DynamoDB deletes finished orders after ``retention_days``; None keeps them."""

    dynamodb: DynamoDBClient
    orders_table: str
    inventory_table: str
    retention_days: int | None = None
    now: Callable[[], float] = time

    def receive(self, order: Order) -> OrderRecord:
        """Store a new order, or return its record.

        Raises
        ------
        OrderIdReused
            The stored order with this id has other content.
        ServiceUnavailable
            DynamoDB answered with an error.
        """
        record = OrderRecord(order, State.RECEIVED, revision=1, history=(self._entry(State.RECEIVED),))
        with aws_faults_as_transient("remember the order"):
            try:
                self._write(
                    lambda: self.dynamodb.put_item(
                        TableName=self.orders_table,
                        Item=_item_of(record),
                        ConditionExpression="attribute_not_exists(order_id)",
                        ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    )
                )
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                record = _record_of(error.response["Item"])  # type: ignore[typeddict-item]
        if differing := record.order.differences(order):
            raise OrderIdReused(
                f"Order {order.order_id} is there already and asks for something else: {', '.join(differing)} differ."
            )
        return record

    def load(self, order_id: str) -> OrderRecord:
        """Return the record of an order. Raises ServiceUnavailable."""
        with aws_faults_as_transient("read the order"):
            item = self.dynamodb.get_item(
                TableName=self.orders_table, Key={"order_id": {"S": order_id}}, ConsistentRead=True
            )["Item"]
        return _record_of(item)

    def apply(self, record: OrderRecord, change: Change) -> OrderRecord:
        """Change an order and its stock in one transaction; returns the new record.

        Raises
        ------
        Overtaken
            The order is no longer at the record's revision. Nothing was changed.
        StockShort
            Some products do not have enough stock. Nothing was changed.
        ProductUnknown, StockRecordInvalid
            The inventory lacks a product, or a counter is not a number. Nothing was changed.
        ServiceUnavailable
            DynamoDB answered with an error.
        """
        entries = () if change.to is record.state else (self._entry(change.to),)
        changed = replace(
            record,
            state=change.to,
            revision=record.revision + 1,
            history=record.history + entries,
            **dict(change.values),  # type: ignore[arg-type] # fields of a record under their names
        )
        expires_at = None
        if self.retention_days and change.to in FINAL:
            expires_at = int(self.now()) + self.retention_days * _SECONDS_OF_A_DAY
        update = _order_update(self.orders_table, record, changed, change, entries, expires_at)
        if change.stock is None:
            self._update_order(update)
        else:
            self._move_stock(update, change.stock)
        return changed

    def _update_order(self, update: Mapping[str, Any]) -> None:
        with aws_faults_as_transient("change the order"):
            try:
                self._write(lambda: self.dynamodb.update_item(**update))
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                raise Overtaken from error

    def _move_stock(self, update: Mapping[str, Any], stock: StockMove) -> None:
        writes: list[Any] = [{"Update": update}]
        writes += [{"Update": _stock_update(self.inventory_table, stock, *product)} for product in stock.products]
        with aws_faults_as_transient("move the stock"):
            try:
                self._write(lambda: self._transact(writes, stock))
            except self.dynamodb.exceptions.TransactionCanceledException as error:
                codes = sorted(set(_cancellation_codes(error)) - {"None"})
                attempts = f"{', '.join(codes)}, {_ATTEMPTS_AT_A_TRANSACTION} times"
                raise ServiceUnavailable(f"Could not move the stock: {attempts}.") from error

    def _transact(self, writes: list[TransactWriteItemTypeDef], stock: StockMove) -> None:
        """Make all writes or none. Raises Overtaken or StockShort if that is why DynamoDB cancelled them."""
        try:
            self.dynamodb.transact_write_items(TransactItems=writes)
        except self.dynamodb.exceptions.TransactionCanceledException as error:
            order_code, *stock_codes = _cancellation_codes(error)
            if order_code == _FAILED_CONDITION:
                raise Overtaken from error
            reasons: Any = error.response["CancellationReasons"][1:]
            failed = {
                product: reason.get("Item", {})
                for (product, _), reason, code in zip(stock.products, reasons, stock_codes, strict=True)
                if code == _FAILED_CONDITION
            }
            if not failed:
                raise
            self._require_records(failed, stock)
            raise StockShort(tuple(failed)) from error

    def _require_records(self, items: Mapping[str, Mapping[str, Any]], stock: StockMove) -> None:
        """Raise the operator's mistake if it kept stock from moving: a missing product or an invalid counter.

        Stock that is returned for a product that was deleted meanwhile is dropped; that is not a mistake.
        """
        gives_back = stock.added_to == "available"
        if unknown := [product for product, item in items.items() if not item and not gives_back]:
            reason = f"{_listed(unknown)} not in the inventory table {self.inventory_table}."
            raise ProductUnknown(f"{reason} Add what is missing and redrive.")
        for product, item in items.items():
            for counter in (stock.taken_from, stock.added_to):
                value = item.get(counter)
                if item and "N" not in (value or ({} if counter == stock.taken_from else {"N": "0"})):
                    found = f"{_written(value)}, which is not a number" if value else "missing"
                    raise StockRecordInvalid(
                        f"Product {product}: {counter} is {found} in the inventory table {self.inventory_table}."
                        " Fix the record and redrive."
                    )

    def _write(self, write: Callable[[], object]) -> None:
        """Make a write, and repeat it if it conflicts with a transaction of another delivery."""
        conflicts = self.dynamodb.exceptions
        for attempt in range(1, _ATTEMPTS_AT_A_TRANSACTION):
            try:
                write()
            except (conflicts.TransactionConflictException, conflicts.TransactionCanceledException):
                sleep(backoff(attempt, base=0.05, longest=1))
            else:
                return
        write()

    def _entry(self, state: State) -> HistoryEntry:
        return HistoryEntry(state, datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="milliseconds"))


def _cancellation_codes(error: ClientError) -> list[str]:
    """Return for each write of a transaction why DynamoDB cancelled it; the text ``None`` if it was not the reason."""
    reasons: Any = error.response["CancellationReasons"]
    return [reason.get("Code", "None") for reason in reasons]


def _order_update(
    table: str,
    record: OrderRecord,
    changed: OrderRecord,
    change: Change,
    entries: tuple[HistoryEntry, ...],
    expires_at: int | None,
) -> dict[str, Any]:
    values: dict[str, Any] = {name: _plain(value) for name, value in change.values.items()}
    values |= {"state": changed.state.value, "revision": changed.revision}
    if expires_at:
        values["expires_at"] = expires_at
    names = tuple(values)
    sets = [f"#{name} = :{name}" for name in names] + ["history = list_append(history, :entries)"]
    values |= {"entries": [_plain(entry) for entry in entries], "before": record.revision}
    return {
        "TableName": table,
        "Key": {"order_id": {"S": record.order.order_id}},
        "UpdateExpression": "SET " + ", ".join(sets),
        "ConditionExpression": "#revision = :before",
        "ExpressionAttributeNames": {f"#{name}": name for name in names},
        "ExpressionAttributeValues": {f":{name}": _serialize(value) for name, value in values.items()},
    }


def _listed(products: list[str]) -> str:
    names = ", ".join(products[:10]) + (" and others" if len(products) > 10 else "")
    return f"Product {names} is" if len(products) == 1 else f"Products {names} are"


def _stock_update(table: str, stock: StockMove, product_id: str, quantity: int) -> dict[str, Any]:
    return {
        "TableName": table,
        "Key": {"product_id": {"S": product_id}},
        "UpdateExpression": "SET #from = #from - :quantity ADD #to :quantity",
        "ConditionExpression": "attribute_type(#from, :number) AND #from >= :quantity"
        " AND (attribute_not_exists(#to) OR attribute_type(#to, :number))",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        "ExpressionAttributeNames": {"#from": stock.taken_from, "#to": stock.added_to},
        "ExpressionAttributeValues": {":quantity": {"N": str(quantity)}, ":number": {"S": "N"}},
    }


def _plain(value: Any) -> Any:
    return asdict(value) if isinstance(value, Rejection | HistoryEntry) else value


def _item_of(record: OrderRecord) -> dict[str, Any]:
    order = record.order
    values = {
        "order_id": order.order_id,
        "customer_id": order.customer_id,
        "customer_email": order.customer_email,
        "items": [asdict(line) for line in order.lines],
        "amount": order.amount,
        "currency": order.currency,
        "payment_method": order.payment_method,
        "state": record.state.value,
        "revision": record.revision,
        "history": [asdict(entry) for entry in record.history],
        "reserved": record.reserved,
        "sold": record.sold,
    }
    return {name: _serialize(value) for name, value in values.items() if value is not None}


def _record_of(item: Mapping[str, Any]) -> OrderRecord:
    values = plain_values(item)
    rejection = values.get("rejection")
    return OrderRecord(
        order=Order(
            order_id=values["order_id"],
            customer_id=values["customer_id"],
            lines=tuple(
                OrderLine(line["product_id"], int(line["quantity"]), int(line["unit_price"]))
                for line in values["items"]
            ),
            amount=int(values["amount"]),
            currency=values["currency"],
            payment_method=values["payment_method"],
            customer_email=values.get("customer_email"),
        ),
        state=State(values["state"]),
        revision=int(values["revision"]),
        history=tuple(HistoryEntry(State(entry["state"]), entry["at"]) for entry in values["history"]),
        reserved=int(values["reserved"]),
        sold=int(values["sold"]),
        payment_id=values.get("payment_id"),
        rejection=Rejection(RejectionCode(rejection["code"]), rejection["reason"]) if rejection else None,
    )


def _written(value: Mapping[str, Any]) -> str:
    return "null" if "NULL" in value else repr(next(iter(value.values())))
