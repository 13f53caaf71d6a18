"""StripePayments over HTTP: against localstripe, and against a server that misbehaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import boto3
import pytest
import stripe
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber
from darkroom.errors import (
    PaymentKeyRefused,
    PaymentRequestRefused,
    PaymentsNotConfigured,
    PaymentsUnavailable,
    ServiceUnavailable,
    TransientFault,
)
from darkroom.order_messages import Order, OrderLine
from darkroom.stripe_key import stack_of
from moto import mock_aws

from functions.process_order.ports import ConfirmationRequired, Declined, Payments
from functions.process_order.stripe_payments import StripePayments, stripe_amount
from local.emulators import payments as provider
from tests.unit.order_fakes import DECLINED_CARD, GOOD_CARD, NO_SUCH_CARD, FakePayments
from tests.unit.payment_server import KEY, PaymentServer, Trouble, localstripe, misbehaving_server

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from stripe.params import PaymentMethodCreateParamsCard

Taken: TypeAlias = Callable[[str], tuple[int, int]]

SECRET_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:payment-AbCdEf"
# A bank wants to see the customer of it: https://docs.stripe.com/testing#regulatory-cards
ASKING_CARD: PaymentMethodCreateParamsCard = {
    "number": "4000002500003155",
    "exp_month": 12,
    "exp_year": 2034,
    "cvc": "123",
}
UNEXPECTED_STATE = {"code": "payment_intent_unexpected_state", "message": "It has another status."}

pytestmark = pytest.mark.usefixtures("no_pause_between_retries")


@pytest.fixture
def no_pause_between_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stripe._http_client.HTTPClient.INITIAL_DELAY", 0)


def order_of(name: str, payment_method: str = GOOD_CARD) -> Order:
    """An order of that name, which no other test has."""
    return Order(f"order-{name}", "customer-7", (OrderLine("print", 2, 1725),), 3450, "EUR", payment_method)


@pytest.fixture
def order(request: pytest.FixtureRequest) -> Order:
    return order_of(request.node.name)


def secrets(*keys: str, arn: str = SECRET_ARN) -> SecretsManagerClient:
    """A client that reads these secrets, one after the other."""
    client = boto3.client("secretsmanager", region_name="eu-central-1")
    stubber = Stubber(client)
    for key in keys:
        stubber.add_response("get_secret_value", {"SecretString": key}, {"SecretId": arn})
    stubber.activate()
    return client


@pytest.fixture(scope="module")
def localstripe_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with localstripe(tmp_path_factory.mktemp("localstripe")) as url:
        yield url


@pytest.fixture
def stripe_url(localstripe_url: str) -> str:
    """Localstripe without faults."""
    provider.set_faults(localstripe_url, 0)
    return localstripe_url


@pytest.fixture
def client(stripe_url: str) -> stripe.StripeClient:
    """What a person has at hand: Stripe's own library."""
    key, endpoint_url = provider.split(stripe_url)
    return stripe.StripeClient(key, base_addresses={"api": endpoint_url})


def payments_at(url: str, arn: str = SECRET_ARN) -> StripePayments:
    key, endpoint_url = provider.split(url)
    return StripePayments(secrets(key, arn=arn), arn, endpoint_url)


@pytest.fixture
def payments(stripe_url: str) -> StripePayments:
    return payments_at(stripe_url)


@pytest.fixture
def server() -> Iterator[PaymentServer]:
    with misbehaving_server() as server:
        yield server


def payments_of(server: PaymentServer, *keys: str, timeout_seconds: float = 8.0) -> StripePayments:
    return StripePayments(secrets(*keys or (KEY,)), SECRET_ARN, server.url, timeout_seconds=timeout_seconds)


def taken(client: stripe.StripeClient, payment_id: str) -> tuple[int, int]:
    """What was charged and what was refunded."""
    charge = client.v1.payment_intents.retrieve(payment_id, {"expand": ["latest_charge"]}).latest_charge
    if not isinstance(charge, stripe.Charge) or charge.status != "succeeded":
        return 0, 0
    return charge.amount, charge.amount_refunded


class TestPayments:
    """What any payment provider keeps, the fake and Stripe."""

    @pytest.fixture(params=["fake", "Stripe"])
    def any_payments(self, request: pytest.FixtureRequest) -> Payments:
        payments: Payments = FakePayments() if request.param == "fake" else request.getfixturevalue("payments")
        return payments

    @pytest.fixture
    def taken(self, any_payments: Payments, request: pytest.FixtureRequest) -> Taken:
        def taken_by_fake(payment_id: str) -> tuple[int, int]:
            assert isinstance(any_payments, FakePayments)
            payment = any_payments.payments[payment_id]
            return payment.charges * payment.amount, payment.refunds * payment.amount

        if isinstance(any_payments, FakePayments):
            return taken_by_fake
        return partial(taken, request.getfixturevalue("client"))

    def test_opening_charges_nothing(self, any_payments: Payments, order: Order, taken: Taken) -> None:
        any_payments.check_configured()
        assert taken(any_payments.open(order)) == (0, 0)

    def test_a_payment_is_charged_once(self, any_payments: Payments, order: Order, taken: Taken) -> None:
        payment_id = any_payments.open(order)
        any_payments.charge(payment_id, order)
        any_payments.charge(payment_id, order)
        assert taken(payment_id) == (3450, 0)

    def test_a_declined_card_is_declined_again(self, any_payments: Payments, order: Order, taken: Taken) -> None:
        declined = replace(order, payment_method=DECLINED_CARD)
        payment_id = any_payments.open(declined)
        for _ in range(2):
            with pytest.raises(Declined, match=r"^Your card was declined\.$"):
                any_payments.charge(payment_id, declined)
        assert taken(payment_id) == (0, 0)

    def test_an_unknown_payment_method_is_declined(self, any_payments: Payments, order: Order) -> None:
        with pytest.raises(Declined):
            any_payments.open(replace(order, payment_method=NO_SUCH_CARD))

    def test_an_undone_payment_is_refunded_once(self, any_payments: Payments, order: Order, taken: Taken) -> None:
        payment_id = any_payments.open(order)
        any_payments.charge(payment_id, order)
        any_payments.undo(payment_id, order)
        any_payments.undo(payment_id, order)
        assert taken(payment_id) == (3450, 3450)

    def test_a_payment_undone_before_its_charge_is_never_charged(
        self, any_payments: Payments, order: Order, taken: Taken
    ) -> None:
        payment_id = any_payments.open(order)
        any_payments.undo(payment_id, order)
        any_payments.undo(payment_id, order)
        with pytest.raises(Declined):
            any_payments.charge(payment_id, order)
        assert taken(payment_id) == (0, 0)

    def test_a_declined_payment_can_be_undone(self, any_payments: Payments, order: Order, taken: Taken) -> None:
        declined = replace(order, payment_method=DECLINED_CARD)
        payment_id = any_payments.open(declined)
        with pytest.raises(Declined):
            any_payments.charge(payment_id, declined)
        any_payments.undo(payment_id, declined)
        assert taken(payment_id) == (0, 0)


class TestAtLocalstripe:
    def test_a_payment_says_what_it_is_for(
        self, payments: StripePayments, order: Order, client: stripe.StripeClient
    ) -> None:
        payment = client.v1.payment_intents.retrieve(payments.open(order))
        assert (payment.amount, payment.currency, payment.payment_method) == (3450, "eur", GOOD_CARD)
        assert payment.metadata.to_dict() == {
            "order_id": order.order_id,
            "customer_id": "customer-7",
            "darkroom_stack": stack_of(SECRET_ARN),
        }
        assert (payment.customer, payment.status) == (None, "requires_confirmation")

    def test_a_customer_of_stripe_is_named(
        self, payments: StripePayments, order: Order, client: stripe.StripeClient
    ) -> None:
        customer = client.v1.customers.create({"email": "mara@example.com"})
        payment_id = payments.open(replace(order, customer_id=customer.id))
        assert client.v1.payment_intents.retrieve(payment_id).customer == customer.id

    def test_an_unknown_customer_of_stripe_is_declined(self, payments: StripePayments, order: Order) -> None:
        with pytest.raises(Declined, match=r"^The payment provider does not know this customer\. No such customer"):
            payments.open(replace(order, customer_id="cus_x"))

    @pytest.mark.parametrize("payment_method", ["visa", "pm_nobody_has", "pm_", "../charges"])
    def test_an_unknown_payment_method_is_declined(
        self, payments: StripePayments, order: Order, payment_method: str
    ) -> None:
        with pytest.raises(Declined, match=r"^The payment method is unknown or can not be used any more\."):
            payments.open(replace(order, payment_method=payment_method))

    def test_a_required_confirmation_declines(
        self, payments: StripePayments, order: Order, client: stripe.StripeClient
    ) -> None:
        card = client.v1.payment_methods.create({"type": "card", "card": ASKING_CARD})
        asking = replace(order, payment_method=card.id)
        payment_id = payments.open(asking)
        with pytest.raises(ConfirmationRequired, match="requires authentication"):
            payments.charge(payment_id, asking)
        payments.undo(payment_id, asking)
        assert client.v1.payment_intents.retrieve(payment_id).status == "canceled"

    def test_an_order_opens_one_payment_as_long_as_stripe_knows_the_key(
        self, payments: StripePayments, order: Order, stripe_url: str
    ) -> None:
        # given
        payment_id = payments.open(order)
        assert payments.open(order) == payment_id
        # when
        provider.forget_idempotency_keys(stripe_url)
        # then
        assert payments.open(order) != payment_id, "the other one stays uncharged"

    def test_orders_of_two_stacks_are_independent(
        self, payments: StripePayments, order: Order, stripe_url: str
    ) -> None:
        arn = f"{SECRET_ARN}-of-another-stack"
        other_stack = payments_at(stripe_url, arn)
        assert payments.open(order) != other_stack.open(order)

    def test_nothing_depends_on_idempotency_keys(
        self, payments: StripePayments, order: Order, stripe_url: str, client: stripe.StripeClient
    ) -> None:
        payment_id = payments.open(order)
        for repeat in (payments.charge, payments.charge, payments.undo, payments.undo):
            provider.forget_idempotency_keys(stripe_url)
            repeat(payment_id, order)
        assert taken(client, payment_id) == (3450, 3450)

    def test_a_declined_card_is_declined_after_a_day_too(
        self, payments: StripePayments, order: Order, stripe_url: str
    ) -> None:
        declined = replace(order, payment_method=DECLINED_CARD)
        payment_id = payments.open(declined)
        for _ in range(2):
            with pytest.raises(Declined, match=r"^Your card was declined\.$"):
                payments.charge(payment_id, declined)
            provider.forget_idempotency_keys(stripe_url)

    def test_a_refund_or_cancellation_by_a_person_stands(
        self, payments: StripePayments, order: Order, client: stripe.StripeClient
    ) -> None:
        # given
        refunded, cancelled = payments.open(order), payments.open(order_of("cancelled-by-hand"))
        payments.charge(refunded, order)
        client.v1.refunds.create({"payment_intent": refunded})
        client.v1.payment_intents.cancel(cancelled)
        # when
        payments.undo(refunded, order)
        payments.undo(cancelled, order)
        # then
        assert taken(client, refunded) == (3450, 3450)

    def test_a_partial_refund_by_a_person_is_completed(
        self, payments: StripePayments, order: Order, client: stripe.StripeClient
    ) -> None:
        payment_id = payments.open(order)
        payments.charge(payment_id, order)
        client.v1.refunds.create({"payment_intent": payment_id, "amount": 1000})
        payments.undo(payment_id, order)
        assert taken(client, payment_id) == (3450, 3450)

    def test_a_missing_payment_is_for_the_operator(self, payments: StripePayments, order: Order) -> None:
        with pytest.raises(
            PaymentRequestRefused, match="refuses to charge the payment: No such payment_intent: 'pi_gone'"
        ):
            payments.charge("pi_gone", order)
        with pytest.raises(
            PaymentRequestRefused, match="refuses to undo the payment: No such payment_intent: 'pi_gone'"
        ):
            payments.undo("pi_gone", order)

    def test_deliveries_at_the_same_time_charge_once(
        self, payments: StripePayments, order: Order, stripe_url: str, client: stripe.StripeClient
    ) -> None:
        # given
        payment_id = payments.open(order)
        provider.set_faults(stripe_url, 0, seconds=0.05)

        def charge(_: int) -> bool:
            try:
                payments.charge(payment_id, order)
            except ServiceUnavailable:  # another delivery is at it
                return False
            return True

        # when
        with ThreadPoolExecutor(8) as deliveries:
            charged = list(deliveries.map(charge, range(8)))
        # then
        assert any(charged)
        assert taken(client, payment_id) == (3450, 0)

    @pytest.mark.parametrize("kind", ["500 before", "500 after", "dropped before", "dropped after", "429"])
    @pytest.mark.parametrize("step", ["open", "charge", "cancel", "refund"])
    def test_a_fault_delays_an_order_and_no_more(
        self, payments: StripePayments, order: Order, stripe_url: str, client: stripe.StripeClient, kind: str, step: str
    ) -> None:
        # given
        steps: dict[str, tuple[str, ...]] = {
            "open": ("open",),
            "charge": ("open", "charge"),
            "cancel": ("open", "undo"),
            "refund": ("open", "charge", "undo"),
        }
        *before, last = steps[step]
        payment_id = ""

        def take(what: str) -> str:
            if what == "open":
                return payments.open(order)
            (payments.charge if what == "charge" else payments.undo)(payment_id, order)
            return payment_id

        for what in before:
            payment_id = take(what)
        # when
        provider.set_faults(stripe_url, 1, kinds=[kind])
        with suppress(ServiceUnavailable):
            payment_id = take(last)
        provider.set_faults(stripe_url, 0)
        payment_id = take(last)
        # then
        expected = {"open": (0, 0), "charge": (3450, 0), "cancel": (0, 0), "refund": (3450, 3450)}
        assert taken(client, payment_id) == expected[step]
        if step == "cancel":
            assert client.v1.payment_intents.retrieve(payment_id).status == "canceled"

    def test_saved_errors_of_many_deliveries_do_not_block_an_order(
        self, payments: StripePayments, order: Order, stripe_url: str, client: stripe.StripeClient
    ) -> None:
        # given
        payment_id = payments.open(order)
        provider.set_faults(stripe_url, 1, kinds=["500 before"])
        for _ in range(20):
            with pytest.raises(ServiceUnavailable, match=r"Could not charge the payment: Stripe answered 500"):
                payments.charge(payment_id, order)
        # when
        provider.set_faults(stripe_url, 0)
        payments.charge(payment_id, order)
        # then
        assert taken(client, payment_id) == (3450, 0)

    def test_a_charge_that_was_answered_with_an_error_is_found(
        self, payments: StripePayments, order: Order, stripe_url: str, client: stripe.StripeClient
    ) -> None:
        payment_id = payments.open(order)
        provider.set_faults(stripe_url, 1, kinds=["500 after"])
        payments.charge(payment_id, order)
        assert taken(client, payment_id) == (3450, 0)

    @pytest.mark.parametrize("seed", range(3))
    def test_no_failure_charges_twice_or_charges_a_rejected_order(
        self, payments: StripePayments, order: Order, stripe_url: str, seed: int
    ) -> None:
        # given
        provider.set_faults(stripe_url, 0.5, seed)
        cards = {0: GOOD_CARD, 1: DECLINED_CARD, 2: GOOD_CARD}
        orders = [replace(order, order_id=f"{order.order_id}-{n}", payment_method=cards[n % 3]) for n in range(15)]
        completed: dict[str, str] = {}

        def fulfil(n: int) -> None:
            payment_id = until_done(lambda: payments.open(orders[n]))
            try:
                until_done(lambda: payments.charge(payment_id, orders[n]))
            except Declined:
                until_done(lambda: payments.undo(payment_id, orders[n]))
                return
            if n % 3 == 2:
                until_done(lambda: payments.undo(payment_id, orders[n]))
            else:
                completed[orders[n].order_id] = payment_id

        # when
        for n in range(len(orders)):
            fulfil(n)
        # then
        charged = provider.succeeded_payments(stripe_url)
        kept = {
            order_id: [
                payment.payment_id for payment in charged.get(order_id, []) if payment.refunded < payment.charged
            ]
            for order_id in (o.order_id for o in orders)
        }
        assert {order_id: ids for order_id, ids in kept.items() if ids} == {
            order_id: [payment_id] for order_id, payment_id in completed.items()
        }
        assert len(completed) == 5
        assert sum(provider.fault_counts(stripe_url).values()) > 10


def until_done(step: Callable[[], Any]) -> Any:
    """Take a step as deliveries do: again and again."""
    while True:
        try:
            return step()
        except TransientFault:
            continue


class TestAtAMisbehavingServer:
    @pytest.mark.parametrize(("times", "late"), [(1, False), (2, False), (2, True)])
    def test_a_charge_with_a_lost_answer_is_found(
        self, server: PaymentServer, order: Order, times: int, late: bool
    ) -> None:
        # given
        payment_id = payments_of(server).open(order)
        payments = payments_of(server, timeout_seconds=1.2 if late else 8)
        server.troubles["confirm"].extend([Trouble(done=True, late=late)] * times)
        # when
        payments.charge(payment_id, order)
        # then
        assert server.charges == {payment_id: 1}

    @pytest.mark.parametrize("late", [False, True])
    def test_a_request_lost_before_the_charge_is_not_a_charge(
        self, server: PaymentServer, order: Order, late: bool
    ) -> None:
        # given
        payment_id = payments_of(server).open(order)
        payments = payments_of(server, timeout_seconds=1.2 if late else 8)
        server.troubles["confirm"].extend([Trouble(late=late)] * 2)
        # when
        with pytest.raises(ServiceUnavailable, match="Could not charge the payment: no answer from Stripe"):
            payments.charge(payment_id, order)
        assert not server.charges
        payments.charge(payment_id, order)
        # then
        assert server.charges == {payment_id: 1}
        assert len(set(server.idempotency_keys("confirm"))) == 1, "for the outcome was unknown"

    def test_a_charge_with_an_unknown_outcome_is_retried(self, server: PaymentServer, order: Order) -> None:
        # given
        payments = payments_of(server)
        payment_id = payments.open(order)
        server.troubles["confirm"].extend([Trouble(done=True)] * 2)
        server.troubles["look"].append(Trouble())
        # when
        with pytest.raises(ServiceUnavailable):
            payments.charge(payment_id, order)
        payments.charge(payment_id, order)
        # then
        assert server.charges == {payment_id: 1}

    @pytest.mark.parametrize(
        ("trouble", "reason"),
        [
            (Trouble(429, {"code": "rate_limit"}), "Stripe answered 429"),
            (Trouble(409, {"code": "idempotency_key_in_use"}), "Stripe answered 409"),
            (Trouble(500, {}, {"Request-Id": "req_7"}), r"Stripe answered 500 to request req_7\."),
            (Trouble(), "no answer from Stripe"),
        ],
        ids=["429", "409", "500", "dropped"],
    )
    @pytest.mark.parametrize("step", ["open", "confirm", "look", "cancel", "refund"])
    def test_a_temporary_error_is_a_transient_fault(
        self, server: PaymentServer, order: Order, trouble: Trouble, reason: str, step: str
    ) -> None:
        # given
        payments = payments_of(server)
        payment_id = "" if step == "open" else payments.open(order)
        if step == "refund":
            payments.charge(payment_id, order)
        server.troubles[step].extend([trouble] * 2)
        call: Callable[[], Any] = {
            "open": lambda: payments.open(order),
            "confirm": lambda: payments.charge(payment_id, order),
        }.get(step, lambda: payments.undo(payment_id, order))
        # when
        with pytest.raises(PaymentsUnavailable, match=reason):
            call()
        server.troubles.clear()
        call()
        # then
        assert sum(server.charges.values()) == (step in ("confirm", "refund"))
        assert sum(server.refunds.values()) == (step == "refund")

    def test_a_card_error_is_declined_in_the_words_for_the_customer(self, server: PaymentServer, order: Order) -> None:
        payments = payments_of(server)
        payment_id = payments.open(order)
        error = {"type": "card_error", "code": "card_declined", "message": "Your card has insufficient funds."}
        server.troubles["confirm"].append(Trouble(402, error, {"Request-Id": "req_7"}))
        with pytest.raises(Declined, match=r"^Your card has insufficient funds\.$"):
            payments.charge(payment_id, order)

    @pytest.mark.parametrize("error", [UNEXPECTED_STATE, {"message": "Bad request"}], ids=["code", "no code"])
    @pytest.mark.parametrize(
        ("status", "expected", "reason"),
        [
            ("succeeded", None, ""),
            ("requires_action", ConfirmationRequired, r"^The bank asks the customer to confirm the payment\."),
            ("requires_payment_method", Declined, r"^The payment was declined\.$"),
            ("canceled", Declined, r"^The payment was cancelled\.$"),
            ("processing", ServiceUnavailable, "pi_1 is processing"),
            ("requires_capture", ServiceUnavailable, "pi_1 is requires_capture"),
            ("requires_confirmation", PaymentRequestRefused, "Stripe refuses to charge the payment"),
        ],
    )
    def test_a_refused_charge_is_judged_by_the_payment(
        self,
        server: PaymentServer,
        order: Order,
        error: dict[str, str],
        status: str,
        expected: type[Exception] | None,
        reason: str,
    ) -> None:
        # given
        payments = payments_of(server)
        payment_id = payments.open(order)
        server.payments[payment_id]["status"] = status
        server.troubles["confirm"].append(Trouble(400, error))
        # when
        if expected:
            with pytest.raises(expected, match=reason):
                payments.charge(payment_id, order)
        else:
            payments.charge(payment_id, order)
        # then
        assert not server.charges

    @pytest.mark.parametrize(
        ("status", "expected"), [("requires_action", Declined), ("processing", ServiceUnavailable)]
    )
    def test_an_accepted_charge_is_judged_by_the_payment(
        self, server: PaymentServer, order: Order, status: str, expected: type[Exception]
    ) -> None:
        payments = payments_of(server)
        payment_id = payments.open(order)
        confirm = server.answer

        def answer(asked: Any) -> Any:
            if asked.what == "confirm":
                server.payments[payment_id]["status"] = status
                return 200, server.payments[payment_id], {}
            return confirm(asked)

        server.answer = answer  # type: ignore[method-assign]
        with pytest.raises(expected):
            payments.charge(payment_id, order)

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            ({"code": "card_declined", "decline_code": "lost_card"}, Declined),
            ({"code": "authentication_required"}, ConfirmationRequired),
            ({"code": "card_declined", "decline_code": "authentication_required"}, ConfirmationRequired),
            ({"code": "card_declined", "decline_code": "test_mode_live_card"}, PaymentRequestRefused),
            ({"code": "missing"}, PaymentRequestRefused),
            (None, Declined),
        ],
    )
    def test_a_decline_whose_answer_was_lost_is_sorted_like_the_answer(
        self, server: PaymentServer, order: Order, error: dict[str, str] | None, expected: type[Exception]
    ) -> None:
        # given a payment that was declined, which Stripe does not say again
        payments = payments_of(server)
        payment_id = payments.open(order)
        server.payments[payment_id] |= {"status": "requires_payment_method", "last_payment_error": error}
        # when
        with pytest.raises(expected) as raised:
            payments.charge(payment_id, order)
        # then
        assert raised.type is expected

    def test_a_replayed_answer_is_not_the_current_state(self, server: PaymentServer, order: Order) -> None:
        """A replayed "processing" may be a day old."""
        payments = payments_of(server)
        payment_id = payments.open(order)
        original = server.answer

        def answer(asked: Any) -> Any:
            status, payment, _ = original(asked)
            if asked.what == "confirm":
                return status, {**payment, "status": "processing"}, {"Idempotent-Replayed": "true"}
            return status, payment, {}

        server.answer = answer  # type: ignore[method-assign]
        payments.charge(payment_id, order)
        assert server.charges == {payment_id: 1}

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            ({"code": "amount_too_small"}, "The amount is too small to be charged."),
            ({"code": "amount_too_large", "param": "amount"}, "The amount is too large to be charged."),
            ({"param": "currency"}, "The payment provider does not charge in this currency."),
            ({"param": "customer", "code": "resource_missing"}, "The payment provider does not know this customer."),
            (
                {"param": "payment_method", "code": "resource_missing"},
                "The payment method is unknown or can not be used any more.",
            ),
        ],
    )
    def test_a_refused_field_of_the_order_is_declined_with_a_reason_for_the_customer(
        self, server: PaymentServer, order: Order, error: dict[str, str], reason: str
    ) -> None:
        server.troubles["open"].append(Trouble(400, {**error, "message": "Invalid: pm_1, see the API reference"}))
        with pytest.raises(Declined) as declined:
            payments_of(server).open(order)
        assert str(declined.value) == f"{reason} Invalid: pm_1, see the API reference"

    def test_a_card_that_was_taken_back_since_the_payment_was_opened_is_declined(
        self, server: PaymentServer, order: Order
    ) -> None:
        payments = payments_of(server)
        payment_id = payments.open(order)
        server.troubles["confirm"].append(Trouble(400, {"param": "payment_method", "message": "It was detached."}))
        with pytest.raises(Declined, match="can not be used any more"):
            payments.charge(payment_id, order)
        assert not server.charges

    @pytest.mark.parametrize(
        "error",
        [
            {"code": "parameter_unknown", "message": "Received unknown parameter: amuont"},
            {"type": "idempotency_error", "message": "Received unknown parameter: amuont"},
        ],
        ids=["parameter", "idempotency"],
    )
    def test_a_refused_request_is_for_the_operator(
        self, server: PaymentServer, order: Order, error: dict[str, str]
    ) -> None:
        server.troubles["open"].extend([Trouble(400, error)] * 8)
        with pytest.raises(
            PaymentRequestRefused, match="refuses to open the payment: Received unknown parameter: amuont"
        ):
            payments_of(server).open(order)

    def test_an_idempotency_key_of_another_request_is_not_used_again(self, server: PaymentServer, order: Order) -> None:
        """As after a deployment that asks for the same in other words."""
        server.troubles["open"].append(Trouble(400, {"type": "idempotency_error", "message": "Other parameters."}))
        assert payments_of(server).open(order) == "pi_1"
        first, second = server.idempotency_keys("open")
        assert first != second

    def test_a_saved_error_is_retried_with_a_new_key(self, server: PaymentServer, order: Order) -> None:
        # given
        payments = payments_of(server)
        payment_id = payments.open(order)
        replayed = {"Idempotent-Replayed": "true", "Stripe-Should-Retry": "false"}
        server.troubles["confirm"].append(Trouble(500, {}, replayed))
        # when
        payments.charge(payment_id, order)
        # then
        assert server.charges == {payment_id: 1}
        saved, fresh = server.idempotency_keys("confirm")
        assert saved.endswith(f"/{order.order_id}/{payment_id}/charge")
        assert fresh != saved

    def test_a_saved_refusal_ends_with_the_fix(self, server: PaymentServer, order: Order) -> None:
        refusal = {"code": "currency_not_supported", "message": "Ask us to turn it on."}
        server.troubles["open"].append(Trouble(400, refusal, {"Idempotent-Replayed": "true"}))
        assert payments_of(server).open(order) == "pi_1"

    def test_saved_errors_come_to_an_end(self, server: PaymentServer, order: Order) -> None:
        payments = payments_of(server)
        payment_id = payments.open(order)
        replayed = {"Idempotent-Replayed": "true", "Stripe-Should-Retry": "false"}
        server.troubles["confirm"].extend([Trouble(500, {}, replayed)] * 100)
        with pytest.raises(ServiceUnavailable):
            payments.charge(payment_id, order)
        assert not server.charges

    def test_a_payment_in_processing_cannot_be_undone_yet(self, server: PaymentServer, order: Order) -> None:
        payments = payments_of(server)
        payment_id = payments.open(order)
        server.payments[payment_id]["status"] = "processing"
        with pytest.raises(ServiceUnavailable, match="pi_1 can not be undone while it is processing"):
            payments.undo(payment_id, order)

    @pytest.mark.parametrize(
        ("meanwhile", "refunded"), [("confirm", True), ("cancel", False)], ids=["charged", "cancelled"]
    )
    def test_a_cancel_that_comes_too_late_follows_what_happened(
        self, server: PaymentServer, order: Order, meanwhile: str, refunded: bool
    ) -> None:
        # given
        payments = payments_of(server)
        payment_id = payments.open(order)
        original = server.answer

        def answer(asked: Any) -> Any:
            if asked.what == "cancel":
                original(replace(asked, what=meanwhile))
            return original(asked)

        server.answer = answer  # type: ignore[method-assign]
        # when
        payments.undo(payment_id, order)
        # then
        assert server.refunds == ({payment_id: 1} if refunded else {})

    def test_a_refused_cancellation_is_for_the_operator(self, server: PaymentServer, order: Order) -> None:
        payments = payments_of(server)
        payment_id = payments.open(order)
        server.troubles["cancel"].append(Trouble(400, {"message": "Not today."}))
        with pytest.raises(PaymentRequestRefused, match="Not today"):
            payments.undo(payment_id, order)

    def test_a_refund_that_someone_else_made_at_the_same_time_is_fine(
        self, server: PaymentServer, order: Order
    ) -> None:
        payments = payments_of(server)
        payment_id = payments.open(order)
        payments.charge(payment_id, order)
        server.troubles["refund"].append(Trouble(400, {"code": "charge_already_refunded", "message": "Refunded."}))
        payments.undo(payment_id, order)

    def test_a_refused_refund_is_for_the_operator(self, server: PaymentServer, order: Order) -> None:
        payments = payments_of(server)
        payment_id = payments.open(order)
        payments.charge(payment_id, order)
        server.troubles["refund"].append(Trouble(400, {"code": "charge_disputed", "message": "It is disputed."}))
        with pytest.raises(PaymentRequestRefused, match="It is disputed"):
            payments.undo(payment_id, order)

    def test_nothing_but_the_request_is_sent(self, server: PaymentServer, order: Order) -> None:
        payments = payments_of(server)
        payments.charge(payments.open(order), order)
        for asked in server.requests:
            assert "x-stripe-client-telemetry" not in asked.headers
            assert "telemetry_id" not in asked.headers["x-stripe-client-user-agent"]
        assert server.asked("confirm")[0].parameters == {"off_session": "true"}
        assert server.asked("open")[0].parameters["allowed_payment_method_types[0]"] == "card"


class TestTheKey:
    @pytest.fixture
    def secretsmanager(self) -> Iterator[SecretsManagerClient]:
        with mock_aws():
            yield boto3.client("secretsmanager", region_name="eu-central-1")

    def test_is_missing_until_the_operator_stores_one(self, secretsmanager: SecretsManagerClient) -> None:
        # given
        arn = secretsmanager.create_secret(Name="payment")["ARN"]
        payments = StripePayments(secretsmanager, arn, "http://127.0.0.1:1")
        command = f"aws secretsmanager put-secret-value --secret-id {arn} --secret-string file:///dev/stdin"
        # when
        with pytest.raises(PaymentsNotConfigured, match=command):
            payments.check_configured()
        secretsmanager.put_secret_value(SecretId=arn, SecretString="rk_test_1\n")
        # then
        payments.check_configured()

    def test_may_be_binary(self, secretsmanager: SecretsManagerClient) -> None:
        arn = secretsmanager.create_secret(Name="payment", SecretBinary=b'{"api_key": "sk_test_1"}')["ARN"]
        StripePayments(secretsmanager, arn, "http://127.0.0.1:1").check_configured()

    def test_that_is_missing_is_read_again_for_every_order(self) -> None:
        payments = StripePayments(secrets("pk_test_1", "pk_test_1", "sk_test_1"), SECRET_ARN, "http://127.0.0.1:1")
        with pytest.raises(PaymentsNotConfigured, match="it holds a publishable key"):
            payments.check_configured()
        payments.check_configured()

    @pytest.mark.parametrize(
        "error",
        [
            {"message": "The provided key 'rk_test_*********1234' does not have the required permissions."},
            {
                "code": "resource_missing",
                "param": "payment_method",
                "message": "No such PaymentMethod: 'pm_1'; a similar object exists in live mode, but a test mode key "
                "was used to make this request.",
            },
        ],
        ids=["permission", "mode"],
    )
    def test_that_is_of_the_wrong_kind_is_for_the_operator_and_not_for_the_customer(
        self, server: PaymentServer, order: Order, error: dict[str, str]
    ) -> None:
        payments = payments_of(server, KEY, KEY, KEY)
        server.troubles["open"].extend([Trouble(404 if "code" in error else 403, error)] * 2)
        with pytest.raises(PaymentKeyRefused, match="Stripe refuses the secret key of test mode") as raised:
            payments.open(order)
        assert "*" not in str(raised.value)
        assert payments.open(order) == "pi_1", "once it is fixed"

    def test_is_read_once_for_many_orders(self) -> None:
        payments = StripePayments(secrets("sk_test_1"), SECRET_ARN, "http://127.0.0.1:1")
        for _ in range(3):
            payments.check_configured()

    @pytest.mark.parametrize(
        "code", ["AccessDeniedException", "InternalServiceError", "DecryptionFailure", "InvalidRequestException"]
    )
    def test_that_cannot_be_read_is_a_transient_fault(self, code: str) -> None:
        client = boto3.client("secretsmanager", region_name="eu-central-1")
        with Stubber(client) as stub:
            stub.add_client_error("get_secret_value", code)
            with pytest.raises(ServiceUnavailable, match="Could not read the payment provider's key") as raised:
                StripePayments(client, SECRET_ARN, "http://127.0.0.1:1").check_configured()
        assert not isinstance(raised.value, PaymentsUnavailable), "for it is AWS that fails"

    def test_that_cannot_be_requested_is_a_transient_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        client = boto3.client("secretsmanager", region_name="eu-central-1")

        def unreachable(**_: Any) -> None:
            raise EndpointConnectionError(endpoint_url="https://secretsmanager")

        monkeypatch.setattr(client, "get_secret_value", unreachable)
        with pytest.raises(ServiceUnavailable, match="Could not connect"):
            StripePayments(client, SECRET_ARN, "http://127.0.0.1:1").check_configured()

    def test_that_was_rotated_is_read_again(self, server: PaymentServer, order: Order) -> None:
        # given
        payments = payments_of(server, KEY, "sk_test_rotated")
        payment_id = payments.open(order)
        # when
        server.keys = {"sk_test_rotated"}
        payments.charge(payment_id, order)
        # then
        assert server.charges == {payment_id: 1}

    @pytest.mark.parametrize("status", [401])
    def test_that_stripe_refuses_may_be_in_rotation(
        self, server: PaymentServer, order: Order, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        # given
        caplog.set_level("DEBUG")
        error = {"message": f"Invalid API Key provided: {KEY}"}
        server.troubles["open"].extend([Trouble(status, error)] * 2)
        payments = payments_of(server, KEY, KEY)
        # when
        with pytest.raises(PaymentsUnavailable) as raised:
            payments.open(order)
        # then
        assert f"Stripe refuses the key (status {status}) in {SECRET_ARN}" in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__
        assert KEY not in f"{raised.value!r} {payments!r} {vars(payments)!r} {caplog.text}"
        assert len(server.asked("open")) == 2


class TestAmounts:
    @pytest.mark.parametrize(
        ("amount", "currency", "expected"),
        [
            (1250, "EUR", 1250),
            (500, "JPY", 500),
            (5, "ISK", 500),
            (5, "UGX", 500),
            (500, "MGA", 5),
            (5120, "KWD", 5120),
            (5120, "TND", 5120),
            (1250, "HUF", 1250),
        ],
    )
    def test_are_counted_as_stripe_does(self, amount: int, currency: str, expected: int) -> None:
        assert stripe_amount(amount, currency) == expected

    @pytest.mark.parametrize(
        ("amount", "currency", "reason"),
        [
            (5124, "KWD", r"^Only whole hundredths of KWD can be charged\.$"),
            (550, "MGA", r"^Only whole MGA can be charged\.$"),
        ],
    )
    def test_that_stripe_cannot_count_are_declined(self, order: Order, amount: int, currency: str, reason: str) -> None:
        payments = StripePayments(secrets(), SECRET_ARN, "http://127.0.0.1:1")
        with pytest.raises(Declined, match=reason):
            payments.open(replace(order, amount=amount, currency=currency))
