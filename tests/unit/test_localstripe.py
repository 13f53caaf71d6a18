"""What `local/emulators/run_localstripe.py` adds to localstripe, over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests
import stripe

from local.config import LaptopError, LocalConfig
from local.emulators import payments
from local.emulators.docker_bridge import docker_bridge
from tests.ports import listening
from tests.unit.payment_server import localstripe

GOOD_CARD, DECLINED_CARD = "pm_card_visa", "pm_card_chargeCustomerFail"
KINDS = ("500 before", "500 after", "dropped before", "dropped after", "429")
ORDER = {"amount": "1200", "currency": "eur", "payment_method": GOOD_CARD}


@pytest.fixture(scope="module")
def running_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with localstripe(tmp_path_factory.mktemp("localstripe")) as url:
        yield url


@pytest.fixture
def url(running_url: str) -> str:
    """A localstripe without faults and without memory."""
    payments.set_faults(running_url, 0)
    payments.forget_idempotency_keys(running_url)
    requests.delete(f"{running_url}/_config/data", timeout=60).raise_for_status()  # requests takes the key from the URL
    return running_url


@pytest.fixture
def client(url: str) -> stripe.StripeClient:
    return stripe_client(url)


def stripe_client(url: str) -> stripe.StripeClient:
    key, endpoint_url = payments.split(url)
    return stripe.StripeClient(key, base_addresses={"api": endpoint_url}, max_network_retries=0)


def post(url: str, data: dict[str, str], idempotency_key: str = "", key: str = "") -> requests.Response:
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    auth = (key or payments.split(url)[0], "")
    return requests.post(f"{url}/v1/payment_intents", data, headers=headers, auth=auth, timeout=60)


def open_payment(client: stripe.StripeClient, card: str = GOOD_CARD, order_id: str = "order-1") -> str:
    return client.v1.payment_intents.create(
        {
            "amount": 1200,
            "currency": "eur",
            "payment_method": card,
            "allowed_payment_method_types": ["card"],
            "metadata": {"order_id": order_id},
        }
    ).id


def charge(client: stripe.StripeClient, card: str = GOOD_CARD, order_id: str = "order-1") -> str:
    payment_id = open_payment(client, card, order_id)
    client.v1.payment_intents.confirm(payment_id, {"off_session": True})
    return payment_id


class TestIdempotencyKeys:
    def test_the_first_answer_is_repeated(self, url: str) -> None:
        first, second, other = post(url, ORDER, "a"), post(url, ORDER, "a"), post(url, ORDER, "b")
        assert second.json() == first.json()
        assert second.headers["Idempotent-Replayed"] == "true"
        assert "Idempotent-Replayed" not in first.headers
        assert other.json()["id"] != first.json()["id"]

    def test_an_error_is_repeated(self, url: str, client: stripe.StripeClient) -> None:
        payment_id = open_payment(client, DECLINED_CARD)
        for replayed in (None, "true"):
            with pytest.raises(stripe.CardError) as raised:
                client.v1.payment_intents.confirm(payment_id, {}, {"idempotency_key": "confirm"})
            assert raised.value.headers is not None
            assert raised.value.headers.get("Idempotent-Replayed") == replayed

    def test_a_500_is_repeated_after_the_fault(self, url: str) -> None:
        payments.set_faults(url, 1, kinds=["500 before"])
        assert post(url, ORDER, "a").headers["Stripe-Should-Retry"] == "false"
        payments.set_faults(url, 0)
        again = post(url, ORDER, "a")
        assert (again.status_code, again.headers["Idempotent-Replayed"]) == (500, "true")
        assert again.headers["Stripe-Should-Retry"] == "false"

    def test_other_parameters_under_the_same_key_are_refused(self, url: str) -> None:
        post(url, ORDER, "a")
        refused = post(url, {**ORDER, "amount": "1300"}, "a")
        assert (refused.status_code, refused.json()["error"]["type"]) == (400, "idempotency_error")
        assert post(url, ORDER, "a").status_code == 200

    def test_a_key_in_use_is_refused(self, url: str) -> None:
        payments.set_faults(url, 0, seconds=0.1)
        refused: list[dict[str, str]] = []
        with ThreadPoolExecutor(4) as clients:
            for key in map(str, range(100)):  # until two come at the same time indeed
                answers = list(clients.map(post, [url] * 4, [ORDER] * 4, [key] * 4))
                assert len({answer.json()["id"] for answer in answers if answer.status_code == 200}) == 1
                refused = [answer.json()["error"] for answer in answers if answer.status_code == 409]
                if refused:
                    break
        assert (refused[0]["type"], refused[0]["code"]) == ("idempotency_error", "idempotency_key_in_use")

    def test_a_refusal_before_processing_is_not_saved(self, url: str) -> None:
        assert post(url, ORDER, "a", key="pk_test_no_secret").status_code == 401
        payments.set_faults(url, 1, kinds=["429"])
        assert post(url, ORDER, "a").status_code == 429
        payments.set_faults(url, 0)
        assert post(url, ORDER, "a").status_code == 200

    def test_a_read_has_no_key(self, url: str, client: stripe.StripeClient) -> None:
        payment_id = open_payment(client)

        def status() -> str:
            answer = requests.get(
                f"{url}/v1/payment_intents/{payment_id}",
                headers={"Idempotency-Key": "a"},
                timeout=60,
            )
            return str(answer.json()["status"])

        assert status() == "requires_confirmation"
        client.v1.payment_intents.cancel(payment_id)
        assert status() == "canceled"

    def test_keys_can_be_forgotten(self, url: str) -> None:
        first = post(url, ORDER, "a")
        payments.forget_idempotency_keys(url)
        assert post(url, ORDER, "a").json()["id"] != first.json()["id"]


class TestFaults:
    @pytest.mark.parametrize(("kind", "done"), [("500 before", False), ("500 after", True), ("429", False)])
    def test_an_error_is_answered_before_or_after_the_request_is_carried_out(
        self, url: str, client: stripe.StripeClient, kind: str, done: bool
    ) -> None:
        payment_id = open_payment(client)
        payments.set_faults(url, 1, kinds=[kind])
        with pytest.raises((stripe.APIError, stripe.RateLimitError)):
            client.v1.payment_intents.confirm(payment_id)
        assert client.v1.payment_intents.retrieve(payment_id).status == (
            "succeeded" if done else "requires_confirmation"
        )
        assert payments.fault_counts(url) == dict.fromkeys(KINDS, 0) | {kind: 1}

    @pytest.mark.parametrize(("kind", "done"), [("dropped before", False), ("dropped after", True)])
    def test_a_connection_breaks_before_or_after_the_request_is_carried_out(
        self, url: str, client: stripe.StripeClient, kind: str, done: bool
    ) -> None:
        # given
        payment_id = open_payment(client)
        payments.set_faults(url, 1, kinds=[kind])
        options: stripe.RequestOptions = {"idempotency_key": "confirm"}
        # when
        with pytest.raises(stripe.APIConnectionError):
            client.v1.payment_intents.confirm(payment_id, {}, options)
        payments.set_faults(url, 0)
        # then
        assert client.v1.payment_intents.retrieve(payment_id).status == (
            "succeeded" if done else "requires_confirmation"
        )
        again = client.v1.payment_intents.confirm(payment_id, {}, options)
        assert again.status == "succeeded"
        assert again.last_response is not None
        assert ("Idempotent-Replayed" in again.last_response.headers) == done, "the saved answer says what was done"

    def test_a_share_of_the_requests_fails_in_all_kinds(self, url: str) -> None:
        payments.set_faults(url, 0.5, 7)
        first = [_status(url) for _ in range(60)]
        counts = payments.fault_counts(url)
        assert sum(counts.values()) == sum(status != 200 for status in first)
        assert 15 < sum(counts.values()) < 45
        assert max(counts.values()) - min(counts.values()) <= 1
        payments.set_faults(url, 0.5, 7)
        assert [_status(url) for _ in range(60)] == first, "the seed decides"

    def test_reading_never_fails(self, url: str, client: stripe.StripeClient) -> None:
        payments.set_faults(url, 1)
        for _ in range(10):
            client.v1.payment_intents.list()
        assert not any(payments.fault_counts(url).values())

    def test_end(self, url: str) -> None:
        payments.set_faults(url, 1, 7)
        payments.set_faults(url, 0)
        assert {_status(url) for _ in range(10)} == {200}
        assert not any(payments.fault_counts(url).values())


def _status(url: str) -> int:
    try:
        return post(url, ORDER).status_code
    except requests.ConnectionError:
        return 0


class TestStripesBehaviour:
    @pytest.mark.parametrize("card", [DECLINED_CARD, "pm_card_visa_chargeDeclined"])
    def test_a_declined_card_is_a_card_error(self, client: stripe.StripeClient, card: str) -> None:
        payment_id = open_payment(client, card)
        with pytest.raises(stripe.CardError) as raised:
            client.v1.payment_intents.confirm(payment_id, {"off_session": True})
        assert raised.value.code == "card_declined"
        assert raised.value.error is not None
        assert raised.value.error.type == "card_error"
        assert client.v1.payment_intents.retrieve(payment_id).status == "requires_payment_method"

    def test_the_types_of_payment_methods_have_their_new_name(self, url: str) -> None:
        refused = post(url, {**ORDER, "payment_method_types[0]": "card"}).json()["error"]
        assert refused["code"] == "payment_method_types_no_longer_supported"

    @pytest.mark.parametrize("card", ["pm_nobody_has", "visa"])
    def test_a_missing_object_is_named(self, client: stripe.StripeClient, card: str) -> None:
        with pytest.raises(stripe.InvalidRequestError) as raised:
            open_payment(client, card)
        assert (raised.value.code, raised.value.param) == ("resource_missing", "payment_method")

    def test_a_charge_is_refunded_once(self, url: str, client: stripe.StripeClient) -> None:
        payment_id = charge(client)
        client.v1.refunds.create({"payment_intent": payment_id, "amount": 200})
        client.v1.refunds.create({"payment_intent": payment_id})
        with pytest.raises(stripe.InvalidRequestError) as raised:
            client.v1.refunds.create({"payment_intent": payment_id})
        assert raised.value.code == "charge_already_refunded"
        assert payments.succeeded_payments(url) == {"order-1": [payments.TakenPayment(payment_id, 1200, 1200)]}

    def test_no_more_is_refunded_than_was_charged(self, client: stripe.StripeClient) -> None:
        payment_id = charge(client)
        with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
            client.v1.refunds.create({"payment_intent": payment_id, "amount": 1201})

    def test_an_uncharged_payment_is_not_refunded(self, client: stripe.StripeClient) -> None:
        with pytest.raises(stripe.InvalidRequestError, match="no successful charge"):
            client.v1.refunds.create({"payment_intent": open_payment(client)})


def process_of(url: str) -> psutil.Process:
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # one of another test, which has just ended
            if url.rpartition(":")[2] in child.cmdline():
                return child
    raise AssertionError("There is no process that has this port as an argument.")


class TestTheProcess:
    def test_lists_every_charge_by_its_order(self, url: str, client: stripe.StripeClient) -> None:
        # given
        ids = [charge(client, order_id=f"order-{n}") for n in range(105)]
        twice = charge(client, order_id="order-0")
        open_payment(client, order_id="only-opened")
        with pytest.raises(stripe.CardError):
            charge(client, DECLINED_CARD, "declined")
        # when
        charged = payments.succeeded_payments(url)
        # then
        assert charged.keys() == {f"order-{n}" for n in range(105)}
        assert [payment.payment_id for payment in charged["order-0"]] == [ids[0], twice]
        assert charged["order-7"] == [payments.TakenPayment(ids[7], 1200, 0)]

    def test_listens_only_on_the_loopback_address_and_for_containers(self, url: str) -> None:
        bridge = docker_bridge()  # where Docker runs
        addresses = "127.0.0.1", *([bridge.address] if bridge else [])
        assert listening([process_of(url)]) == {(address, int(url.rpartition(":")[2])) for address in addresses}

    def test_writes_nothing_to_disk(self, tmp_path: Path) -> None:
        with localstripe(tmp_path) as url:
            client = stripe_client(url)
            charge(client)
            assert not [file.path for file in process_of(url).open_files() if "pickle" in file.path]
        assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["payments.log", "start.json"]
        assert (tmp_path / "logs" / "payments.log").read_text() == ""

    def test_a_restart_keeps_payments_and_idempotency_keys(self, tmp_path: Path) -> None:
        with localstripe(tmp_path) as url:
            # given a payment that was charged, and what was answered under a key
            client = stripe_client(url)
            payment_id = charge(client)
            opened = post(url, ORDER, "key-1")
            # when
            payments.restart(LocalConfig(tmp_path, int(url.rpartition(":")[2]) - 2))
            # then
            assert [payment.payment_id for payment in payments.succeeded_payments(url)["order-1"]] == [payment_id]
            again = post(url, ORDER, "key-1")
            assert (again.json(), again.headers["Idempotent-Replayed"]) == (opened.json(), "true")

    def test_is_found_and_stopped(self, tmp_path: Path) -> None:
        config = LocalConfig(tmp_path, 20_000)
        assert payments.running(config) is None
        assert not payments.stop(config)

    def test_a_taken_port_is_reported(self, tmp_path: Path) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(LaptopError, match=f"Port {port} is taken"):
                payments.start(LocalConfig(tmp_path, port - 2))
        assert not list(tmp_path.iterdir())
