from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from typing import Any

import pytest
from darkroom.messages import Unreadable
from darkroom.order_messages import Order, OrderLine, OrderTask, read_body
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.events import body_of, load_event

GOOD = json.loads(body_of("order_good"))
EVENTS = [
    "order_good",
    "order_declined",
    "order_out_of_stock",
    "order_malformed",
    "order_delivered_twice",
    "order_decimal_amounts",
]
NO_DECIMAL_TEXT = ["", "-98.00", "+98", "98,00", "98.", ".98", "9.8e1", " 98", "98\n", "9_8", "٩٨", "NaN", "Infinity"]
NO_DECIMAL_TEXT += ["9" * 14, "98.00000"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


def the_order(body: str) -> Order:
    (task,) = read_body(body)
    assert isinstance(task, OrderTask), task.fault
    assert task.body == body
    assert task.task_id == task.order.order_id
    return task.order


def the_fault(body: str) -> Unreadable:
    (task,) = read_body(body)
    assert isinstance(task, Unreadable)
    assert task.body == body
    assert task.fault.error_code == "MalformedMessage"
    return task


def good_but(**changes: Any) -> str:
    """The good order with other fields; None leaves one out."""
    message = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return json.dumps(message)


def good_but_first_item(**changes: Any) -> str:
    message = deepcopy(GOOD)
    message["items"][0] |= changes
    return json.dumps(message)


def of_items(*items: tuple[str, Any, Any], amount: Any, currency: str = "EUR") -> str:
    lines = [{"product_id": p, "quantity": quantity, "unit_price": price} for p, quantity, price in items]
    return good_but(items=lines, amount=amount, currency=currency)


class TestAnOrder:
    def test_is_read(self) -> None:
        assert the_order(body_of("order_good")) == Order(
            order_id="order-4711",
            customer_id="customer-7",
            lines=(OrderLine("print-30x40", 2, 3450), OrderLine("frame-oak", 1, 2900)),
            amount=9800,
            currency="EUR",
            payment_method="pm_card_visa",
            customer_email="mara@example.com",
        )

    def test_needs_no_email(self) -> None:
        assert the_order(good_but(customer_email=None)).customer_email is None
        assert the_order(json.dumps(GOOD | {"customer_email": None})).customer_email is None

    def test_may_have_unknown_fields(self) -> None:
        assert the_order(good_but(shipping={"express": True})) == the_order(json.dumps(GOOD))

    @pytest.mark.parametrize("count", [1, 100])
    def test_has_1_to_100_items(self, count: int) -> None:
        order = the_order(of_items(*[(f"card-{n}", 1, 250) for n in range(count)], amount=count * 250))
        assert len(order.lines) == count

    def test_may_contain_a_free_item(self) -> None:
        assert the_order(of_items(("print-9x13", 1, 0), ("frame-oak", 1, 2900), amount=2900)).amount == 2900

    def test_may_be_as_large_as_payment_providers_support(self) -> None:
        assert the_order(of_items(("gallery", 10**6, 10**6), amount=10**12)).amount == 10**12

    @pytest.mark.parametrize("order_id", ["a", "x" * 200, "shop/2026#4711~!"])
    def test_has_an_id_of_1_to_200_visible_characters(self, order_id: str) -> None:
        assert the_order(good_but(order_id=order_id)).order_id == order_id


class TestMoney:
    @pytest.mark.parametrize(
        ("prices", "amount", "currency"),
        [
            ((3450, 2900), 9800, "EUR"),
            (("34.50", "29.00"), "98.00", "EUR"),
            (("34.5", "29"), 9800, "EUR"),
            ((3450, "29.0000"), "98", "EUR"),
            (("3450", "2900"), "9800", "JPY"),
            (("3.450", "2.900"), "9.800", "KWD"),
        ],
    )
    def test_in_minor_units_or_as_decimal_text_is_the_same(
        self, prices: tuple[Any, Any], amount: Any, currency: str
    ) -> None:
        order = the_order(
            of_items(("print-30x40", 2, prices[0]), ("frame-oak", 1, prices[1]), amount=amount, currency=currency)
        )
        assert [line.unit_price for line in order.lines] == [3450, 2900]
        assert order.amount == 9800

    def test_written_one_way_or_the_other_it_is_the_same_order(self) -> None:
        one = the_order(of_items(("print-30x40", 2, 3450), amount=6900))
        other = the_order(of_items(("print-30x40", 2, "34.50"), amount="69.00"))
        assert one.differences(other) == []

    @pytest.mark.parametrize(
        ("amount", "named"),
        [
            (9799, "amount: 9799 minor units, but the items add up to 9800"),
            ("97.99", "amount: 9799 minor units, but the items add up to 9800"),
            (0, "amount: 0 minor units, but the items add up to 9800"),
            ("98.001", "amount: '98.001' has more digits after the point than the 2 of EUR"),
        ],
    )
    def test_must_be_the_sum_over_the_items(self, amount: Any, named: str) -> None:
        assert named in str(the_fault(good_but(amount=amount)).fault)

    def test_must_be_above_zero(self) -> None:
        assert "amount: must be from 1 to" in str(the_fault(of_items(("print-9x13", 1, 0), amount=0)).fault)

    def test_must_not_exceed_the_maximum(self) -> None:
        body = of_items(("gallery", 10**6, 10**6), ("frame-oak", 1, 1), amount="10000000000.01")
        assert "amount: must be from 1 to" in str(the_fault(body).fault)

    @pytest.mark.parametrize(
        "amount",
        [98.0, 9800.0, 1e300, True, -1, 10**12 + 1, [9800], {"minor": 9800}, *NO_DECIMAL_TEXT],
    )
    @pytest.mark.parametrize("field", ["amount", "items.0.unit_price"])
    def test_has_no_other_notation(self, field: str, amount: Any) -> None:
        body = good_but(amount=amount) if field == "amount" else good_but_first_item(unit_price=amount)
        expected = f"{field}: must be a whole number of minor units, 0 or more, or decimal text"
        assert expected in str(the_fault(body).fault)

    @given(st.floats())
    def test_is_never_a_float(self, amount: float) -> None:
        for body in (good_but(amount=amount), good_but_first_item(unit_price=amount)):
            assert "never a float" in str(the_fault(body).fault)

    def test_has_no_more_digits_than_its_currency(self) -> None:
        reason = str(the_fault(of_items(("print-9x13", 2, "0.5"), ("b", 1, "1.5"), amount="2.5", currency="JPY")).fault)
        for field in ("items.0.unit_price", "items.1.unit_price", "amount"):
            assert f"{field}: " in reason


class TestMalformed:
    @pytest.mark.parametrize(
        "body", ["", "hello", '{"order_id": ', "[" * 100_000, "1" * 5000, '{"amount": ' + "9" * 5000 + "}"]
    )
    def test_text_that_is_not_json(self, body: str) -> None:
        assert "The body is not JSON" in str(the_fault(body).fault)

    @pytest.mark.parametrize("body", ["null", "[]", '"text"', "7", "[{}]"])
    def test_json_that_is_not_an_object(self, body: str) -> None:
        assert "the body: must be a JSON object" in str(the_fault(body).fault)

    @pytest.mark.parametrize("field", ["order_id", "customer_id", "items", "amount", "currency", "payment_method"])
    def test_a_missing_field(self, field: str) -> None:
        assert f"{field}: is missing" in str(the_fault(good_but(**{field: None})).fault)

    @pytest.mark.parametrize("field", ["product_id", "quantity", "unit_price"])
    def test_a_missing_field_of_an_item(self, field: str) -> None:
        message = deepcopy(GOOD)
        del message["items"][1][field]
        assert f"items.1.{field}: is missing" in str(the_fault(json.dumps(message)).fault)

    @pytest.mark.parametrize("field", ["order_id", "customer_id", "payment_method"])
    @pytest.mark.parametrize("value", ["", "with space", "ä", "a\n", "x" * 201, 7, True, ["a"]])
    def test_ids(self, field: str, value: Any) -> None:
        assert f"{field}: " in str(the_fault(good_but(**{field: value})).fault)

    @pytest.mark.parametrize("value", ["", "with space", "ä", "a\n", "x" * 201, 7, None])
    def test_product_ids(self, value: Any) -> None:
        assert "items.0.product_id: " in str(the_fault(good_but_first_item(product_id=value)).fault)

    @pytest.mark.parametrize("quantity", [0, -1, 10**6 + 1, 10**30, 1.0, 1.5, "1", True, None])
    def test_quantities(self, quantity: Any) -> None:
        assert "items.0.quantity: " in str(the_fault(good_but_first_item(quantity=quantity)).fault)

    @pytest.mark.parametrize("items", [[], [GOOD["items"][0]] * 101, {}, "print", 7])
    def test_items(self, items: Any) -> None:
        assert "items: " in str(the_fault(good_but(items=items)).fault)

    @pytest.mark.parametrize("item", ["print", 7, None, []])
    def test_an_item(self, item: Any) -> None:
        assert "items.1: " in str(the_fault(good_but(items=[GOOD["items"][0], item])).fault)

    @pytest.mark.parametrize("currency", ["eur", "Euro", "", "DEM", "XAU", 978])
    def test_currencies(self, currency: Any) -> None:
        assert "currency: " in str(the_fault(good_but(currency=currency)).fault)

    @pytest.mark.parametrize(
        "email", ["mara", "mara@", "@example.com", "mara @example.com", "m" * 243 + "@example.com"]
    )
    def test_emails(self, email: str) -> None:
        assert "customer_email: " in str(the_fault(good_but(customer_email=email)).fault)

    def test_a_reason_names_every_bad_field_at_once(self) -> None:
        reason = str(the_fault(body_of("order_malformed")).fault)
        for field in ("customer_id", "customer_email", "items.0.quantity", "items.1.unit_price", "currency"):
            assert f"{field}: " in reason
        for field in ("order_id", "items.0.unit_price", "amount", "payment_method"):
            assert f"{field}: " not in reason

    @given(st.sets(st.sampled_from(["order_id", "customer_id", "items", "amount", "currency", "payment_method"])))
    def test_exactly_the_bad_fields_are_named(self, bad: set[str]) -> None:
        (task,) = read_body(good_but(**dict.fromkeys(bad, False)))
        reason = str(task.fault) if isinstance(task, Unreadable) else ""
        assert {field for field in GOOD if f"{field}: " in reason} == bad

    def test_a_reason_repeats_nothing_personal(self) -> None:
        message = GOOD | {
            "order_id": "Mara Mustermann",
            "customer_id": "Mara Mustermann",
            "customer_email": "mara mustermann@example.com",
            "payment_method": "4242 4242 4242 4242",
            "currency": "mara",
            "amount": "mara",
            "items": [{"product_id": "Mara Mustermann", "quantity": "mara", "unit_price": "mara"}],
            "phone of mara": "+49 30 0000000",
        }
        fault = the_fault(json.dumps(message))
        assert not any(
            word in str(fault.fault) + fault.task_id for word in ("Mara", "mara", "ustermann", "4242", "+49")
        )


class TestTaskIds:
    def test_of_an_order_is_its_id(self) -> None:
        assert read_body(body_of("order_good"))[0].task_id == "order-4711"

    def test_of_a_malformed_order_is_its_id_too_if_that_can_be_read(self) -> None:
        assert the_fault(body_of("order_malformed")).task_id == "order-4714"

    @pytest.mark.parametrize("body", ["hello", "[]", "null", "{}", '{"order_id": 7}', '{"order_id": "with space"}'])
    def test_of_anything_else_come_from_the_body(self, body: str) -> None:
        assert the_fault(body).task_id == the_fault(body).task_id != the_fault(body + " ").task_id
        assert the_fault(body).task_id.startswith("body-")


class TestTheSameOrder:
    def test_does_not_depend_on_how_the_message_is_written(self) -> None:
        message = dict(reversed(GOOD.items())) | {"shipping": "express", "items": GOOD["items"][::-1]}
        assert the_order(json.dumps(message, indent=4)).differences(the_order(json.dumps(GOOD))) == []

    @pytest.mark.parametrize(
        ("changes", "differing"),
        [
            ({"order_id": "order-1"}, ["order_id"]),
            ({"customer_id": "customer-8", "payment_method": "pm_x"}, ["customer_id", "payment_method"]),
            ({"customer_email": "otto@example.com"}, ["customer_email"]),
            ({"customer_email": None}, ["customer_email"]),
            ({"currency": "USD"}, ["currency"]),
            ({"items": GOOD["items"][:1], "amount": 6900}, ["amount", "items"]),
            ({"items": [GOOD["items"][0] | {"product_id": "print-40x30"}, GOOD["items"][1]]}, ["items"]),
        ],
    )
    def test_names_the_fields_that_differ(self, changes: dict[str, Any], differing: list[str]) -> None:
        assert the_order(good_but()).differences(the_order(good_but(**changes))) == differing


IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200)
LINES = st.lists(st.builds(OrderLine, IDS, st.integers(1, 10**6), st.integers(1, 10**4)), min_size=1, max_size=100)
ORDERS = st.builds(
    lambda lines, **others: Order(
        lines=tuple(lines), amount=sum(line.quantity * line.unit_price for line in lines), **others
    ),
    lines=LINES,
    order_id=IDS,
    customer_id=IDS,
    currency=st.sampled_from(["EUR", "JPY", "KWD"]),
    payment_method=IDS,
    customer_email=st.none() | st.emails().filter(lambda email: len(email) <= 254),
)


@given(ORDERS)
def test_every_valid_order_survives_a_round_trip(order: Order) -> None:
    message = {
        "order_id": order.order_id,
        "customer_id": order.customer_id,
        "customer_email": order.customer_email,
        "items": [
            {"product_id": line.product_id, "quantity": line.quantity, "unit_price": line.unit_price}
            for line in order.lines
        ],
        "amount": order.amount,
        "currency": order.currency,
        "payment_method": order.payment_method,
    }
    assert the_order(json.dumps(message)) == order


@given(ORDERS)
def test_each_product_of_an_order_appears_once_with_its_total_quantity(order: Order) -> None:
    products = dict(order.products)
    assert list(products) == sorted({line.product_id for line in order.lines})
    assert len(order.products) == len(products)
    assert sum(products.values()) == sum(line.quantity for line in order.lines)
    for product, quantity in order.products:
        assert quantity == sum(line.quantity for line in order.lines if line.product_id == product)


@given(st.text())
def test_any_text_is_read_without_an_error(body: str) -> None:
    assert isinstance(the_fault(body), Unreadable)


@given(JSON)
def test_any_json_is_read_without_an_error(message: object) -> None:
    assert isinstance(the_fault(json.dumps(message)), Unreadable)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON, min_size=1))
def test_an_order_with_anything_in_its_fields_is_read_without_an_error(changes: dict[str, Any]) -> None:
    body = json.dumps(GOOD | changes)
    (task,) = read_body(body)
    assert task.body == body


@given(st.dictionaries(st.sampled_from(sorted(GOOD["items"][0])), JSON, min_size=1))
def test_an_item_with_anything_in_its_fields_is_read_without_an_error(changes: dict[str, Any]) -> None:
    body = good_but_first_item(**changes)
    (task,) = read_body(body)
    assert task.body == body


class TestTheEventFiles:
    @pytest.mark.parametrize("name", EVENTS)
    def test_are_what_sqs_sends(self, name: str) -> None:
        model = load_event("sqs_plain_task")["Records"][0]
        for record in load_event(name)["Records"]:
            assert record.keys() == model.keys()
            assert record["attributes"].keys() == model["attributes"].keys()
            assert record["md5OfBody"] == hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest()

    def test_have_different_orders(self) -> None:
        assert len({read_body(body_of(name))[0].task_id for name in EVENTS}) == len(EVENTS)

    @pytest.mark.parametrize("name", [name for name in EVENTS if name != "order_malformed"])
    def test_hold_orders(self, name: str) -> None:
        assert the_order(body_of(name)).amount > 0

    def test_one_delivers_an_order_twice(self) -> None:
        first, second = load_event("order_delivered_twice")["Records"]
        assert first["body"] == second["body"]
        assert first["messageId"] != second["messageId"]

    def test_one_writes_its_amounts_as_decimals(self) -> None:
        order = the_order(body_of("order_decimal_amounts"))
        assert (order.amount, order.currency) == (32_000, "KWD")
