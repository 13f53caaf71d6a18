from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from darkroom.order_messages import Order, OrderLine
from darkroom.schema import Schema

from functions.process_order.events import event_of
from functions.process_order.orders import HistoryEntry, OrderRecord, Rejection, RejectionCode, State

ORDER = Order(
    order_id="order-1",
    customer_id="customer-7",
    lines=(OrderLine("print-30x40", 2, 3450), OrderLine("frame-oak", 1, 2900)),
    amount=9800,
    currency="EUR",
    payment_method="pm_card_visa",
    customer_email="mara@example.com",
)
COMMITTED = OrderRecord(
    ORDER,
    State.COMMITTED,
    revision=5,
    history=(
        HistoryEntry(State.RECEIVED, "2026-11-22T09:30:00+00:00"),
        HistoryEntry(State.COMMITTED, "2026-11-22T09:30:02+00:00"),
    ),
    payment_id="payment-1",
)
RELEASED = OrderRecord(
    ORDER,
    State.RELEASED,
    revision=4,
    history=(
        HistoryEntry(State.RECEIVED, "2026-11-22T09:30:00+00:00"),
        HistoryEntry(State.RELEASED, "2026-11-22T09:30:01+00:00"),
    ),
    rejection=Rejection(RejectionCode.OUT_OF_STOCK, "Not enough in stock of frame-oak."),
)


@pytest.mark.parametrize(("record", "name"), [(COMMITTED, "order_completed"), (RELEASED, "order_rejected")])
def test_an_event_is_like_its_example_and_keeps_to_its_schema(record: OrderRecord, name: str) -> None:
    event = event_of(record)
    assert event.body == json.loads(Path(f"events/published/{name}.json").read_text())
    assert Schema("order_event").faults(event.body) == []
    assert event.currency == "EUR"


def test_the_schema_knows_every_rejection_code() -> None:
    codes = Schema("order_event").definition["properties"]["rejection"]["properties"]["code"]["enum"]
    assert set(codes) == set(RejectionCode)


@pytest.mark.parametrize("record", [COMMITTED, RELEASED])
def test_goes_through_json_unchanged(record: OrderRecord) -> None:
    body = event_of(record).body
    assert json.loads(json.dumps(body)) == body


def test_a_customer_without_an_email_has_none_in_the_event() -> None:
    record = replace(COMMITTED, order=replace(ORDER, customer_email=None))
    assert event_of(record).body["customer_email"] is None


def test_does_not_contain_how_the_customer_pays() -> None:
    assert "pm_card_visa" not in json.dumps(event_of(COMMITTED).body)
    assert "payment-1" not in json.dumps(event_of(COMMITTED).body)


class TestTheEventId:
    def test_is_a_uuid_that_will_never_change(self) -> None:
        event_id = event_of(COMMITTED).event_id
        assert UUID(event_id).version == 5
        assert event_id == "bff86481-fb62-568e-9b45-87b35a32af1c"

    def test_is_the_same_for_every_publication(self) -> None:
        assert event_of(COMMITTED) == event_of(replace(COMMITTED, revision=6))

    def test_differs_by_order_and_event_type(self) -> None:
        other = replace(COMMITTED, order=replace(ORDER, order_id="order-2"))
        assert len({event_of(record).event_id for record in (COMMITTED, RELEASED, other)}) == 3


@pytest.mark.parametrize("state", sorted(set(State) - {State.COMMITTED, State.RELEASED}))
def test_no_other_state_has_an_event(state: State) -> None:
    with pytest.raises(KeyError):
        event_of(replace(COMMITTED, state=state))
