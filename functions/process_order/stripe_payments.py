"""The payment provider: Stripe and its PaymentIntents.

A payment is opened first, which charges nothing, and charged after its id is stored. Stripe charges a PaymentIntent
only once, so even an order that comes back after weeks can look up whether it was charged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import stripe
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.exceptions import ClientError
from darkroom.aws_faults import aws_faults_as_transient, error_code
from darkroom.errors import (
    PaymentKeyRefused,
    PaymentRequestRefused,
    PaymentsNotConfigured,
    PaymentsUnavailable,
    ServiceUnavailable,
)
from darkroom.order_messages import Order
from darkroom.stripe_key import STACK, NoKey, key_in, kind_of, stack_of, without_secrets

from functions.process_order.ports import ConfirmationRequired, Declined
from functions.process_order.stripe_errors import Cause, cause_of, cause_of_decline, words_of

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from stripe.params import PaymentIntentCreateParams

T = TypeVar("T")
Request = Callable[[stripe.StripeClient, stripe.RequestOptions], T]

_SECONDS_TO_KEEP_KEY = 300
# Stripe decided on the request, or only the payment itself shows the outcome.
_LOOK_AT_PAYMENT = (stripe.InvalidRequestError, stripe.IdempotencyError, stripe.APIError, stripe.APIConnectionError)
_CONFIRM = "The bank asks the customer to confirm the payment. Collect the confirmation and place a new order."
_BEYOND_CANCELLING = {"succeeded", "canceled", "processing"}
# The reason for the customer, before Stripe's message, by code or parameter.
_REASONS = {
    "amount_too_small": "The amount is too small to be charged.",
    "amount_too_large": "The amount is too large to be charged.",
    "currency": "The payment provider does not charge in this currency.",
    "customer": "The payment provider does not know this customer.",
    "payment_method": "The payment method is unknown or can not be used any more.",
}
# https://docs.stripe.com/currencies#special-cases: where Stripe's smallest unit is not that of ISO 4217.
_HUNDREDTHS = {"ISK", "UGX"}
_WHOLE = {"MGA"}
_THOUSANDTHS = {"BHD", "JOD", "KWD", "OMR", "TND"}

stripe.enable_telemetry = False  # it would report durations to Stripe, and store an id in the home folder


class StripePayments:
    """Payments by Stripe.

    Parameters
    ----------
    secretsmanager, secret_arn:
        The secret with the key. It is read when it is needed, and again when Stripe refuses the key.
    payments_url:
        The address of Stripe's API.
    timeout_seconds:
        The timeout of one request, connecting included.
    """

    def __init__(
        self,
        secretsmanager: SecretsManagerClient,
        secret_arn: str,
        payments_url: str,
        *,
        timeout_seconds: float = 8.0,
    ) -> None:
        self._secrets = SecretsProvider(boto3_client=secretsmanager)
        self._secret_arn = secret_arn
        self._payments_url = payments_url.rstrip("/")
        # Shared by all threads; each has its own connections in it.
        self._http = stripe.RequestsClient(timeout=(timeout_seconds / 4, timeout_seconds * 3 / 4))
        self._stack = stack_of(secret_arn)

    def check_configured(self) -> None:
        """Raise PaymentsNotConfigured if there is no key, ServiceUnavailable if that is unknown."""
        self._key()

    def open(self, order: Order) -> str:
        """Prepare a payment, charging nothing yet; returns its id.

        Raises
        ------
        Declined
            Stripe does not accept the order's card, customer, amount or currency.
        PaymentsNotConfigured, PaymentRequestRefused, ServiceUnavailable
            Not the order's fault.
        """
        parameters: PaymentIntentCreateParams = {
            "amount": stripe_amount(order.amount, order.currency),
            "currency": order.currency.lower(),
            "payment_method": order.payment_method,
            "allowed_payment_method_types": ["card"],
            "metadata": {"order_id": order.order_id, "customer_id": order.customer_id, STACK: self._stack},
        }
        if order.customer_id.startswith("cus_"):
            parameters["customer"] = order.customer_id
        with _stripe_faults("open the payment"):
            try:
                return self._change(
                    order, "open", lambda client, options: client.v1.payment_intents.create(parameters, options)
                ).id
            except stripe.StripeError as error:
                _decline_if_fault_of_the_order(error)
                raise

    def charge(self, payment_id: str, order: Order) -> None:
        """Charge the payment, unless it was charged before.

        Raises
        ------
        Declined
            It is not charged, and will not be.
        ServiceUnavailable
            Whether it is charged is not known yet.
        PaymentsNotConfigured, PaymentRequestRefused
            Not the order's fault.
        """
        with _stripe_faults("charge the payment"):
            try:
                payment = self._change(
                    order,
                    f"{payment_id}/charge",
                    lambda client, options: client.v1.payment_intents.confirm(
                        payment_id, {"off_session": True}, options
                    ),
                )
            except stripe.CardError as error:
                _decline_if_fault_of_the_order(error)
                raise
            except _LOOK_AT_PAYMENT as error:
                payment = self._look_at(payment_id)
                if payment.status == "requires_confirmation":
                    _decline_if_fault_of_the_order(error)
                    raise
            if payment.status != "succeeded":  # a replayed answer may be old
                payment = self._look_at(payment_id)
            _require_success(payment)

    def undo(self, payment_id: str, order: Order) -> None:
        """Refund the payment if it was charged; otherwise cancel it.

        Raises
        ------
        ServiceUnavailable
            Neither is possible yet.
        PaymentsNotConfigured, PaymentRequestRefused
            Trying again cannot help.
        """
        with _stripe_faults("undo the payment"):
            payment = self._look_at(payment_id)
            if payment.status not in _BEYOND_CANCELLING:
                payment = self._cancel(payment_id, order)
            if payment.status == "succeeded":
                self._refund(payment, order)
            elif payment.status != "canceled":
                raise ServiceUnavailable(f"Payment {payment_id} can not be undone while it is {payment.status}.")

    def _cancel(self, payment_id: str, order: Order) -> stripe.PaymentIntent:
        """Cancel the payment, unless something else happens to it first; returns its state after that."""
        try:
            return self._change(
                order,
                f"{payment_id}/cancel",
                lambda client, options: client.v1.payment_intents.cancel(payment_id, {}, options),
            )
        except stripe.InvalidRequestError:
            payment = self._look_at(payment_id)
            if payment.status not in _BEYOND_CANCELLING:
                raise
            return payment

    def _refund(self, payment: stripe.PaymentIntent, order: Order) -> None:
        """Refund the amount that is not refunded yet."""
        charge = payment.latest_charge
        if isinstance(charge, stripe.Charge) and charge.amount_refunded >= charge.amount:
            return
        try:
            refund = self._change(
                order,
                f"{payment.id}/refund",
                lambda client, options: client.v1.refunds.create(
                    {"payment_intent": payment.id, "metadata": {"order_id": order.order_id}}, options
                ),
            )
        except stripe.InvalidRequestError as error:
            if error.code != "charge_already_refunded":
                raise
            return
        if refund.status in ("failed", "canceled"):
            raise PaymentRequestRefused(f"Refund {refund.id} of payment {payment.id} is {refund.status}.")

    def _look_at(self, payment_id: str) -> stripe.PaymentIntent:
        return self._ask(
            lambda client, options: client.v1.payment_intents.retrieve(
                payment_id, {"expand": ["latest_charge"]}, options
            ),
            {"max_network_retries": 0},  # the end of a step that has already taken time
        )

    def _change(self, order: Order, what: str, request: Request[T]) -> T:
        """Send a request that changes something, under an idempotency key of the order.

        Notes
        -----
        For a day Stripe repeats its first answer to a key, even if that was an error of its own. So the key stays the
        same, over all deliveries, until the answer is known. Once Stripe says that it repeats an error, the key gives
        no other answer, and a new one is used. Nobody is charged twice: Stripe charges and refunds a payment once
        under any key, and of two opened payments only one is ever charged.
        """
        key = f"{self._stack}/{order.order_id}/{what}"
        try:
            return self._ask(request, {"idempotency_key": key})
        except (stripe.APIError, stripe.InvalidRequestError, stripe.IdempotencyError) as error:
            if not _is_spent(error):
                raise
        return self._ask(request, {"idempotency_key": f"{self._stack}/{uuid4()}"})

    def _ask(self, request: Request[T], options: stripe.RequestOptions) -> T:
        """Send a request; if Stripe refuses the key, read the secret again and send it with the current key."""
        try:
            return request(self._client(self._key()), options)
        except stripe.StripeError as error:
            if cause_of(error) is not Cause.KEY:
                raise
        key = self._key(fresh=True)
        try:
            return request(self._client(key), options)
        except stripe.StripeError as error:
            if cause_of(error) is not Cause.KEY:
                raise
            if isinstance(error, stripe.AuthenticationError):  # its text contains the end of the key
                # For example while a key is rotated: orders wait a while instead of all becoming dead letters.
                fault = f"Stripe refuses the key (status {error.http_status})"
                raise PaymentsUnavailable(f"{fault} in {self._secret_arn}. {self._remedy}") from None
            fault = f"Stripe refuses the {kind_of(key)} in {self._secret_arn}: {words_of(error)}"
            raise PaymentKeyRefused(f"{fault} {self._remedy}") from None

    def _client(self, key: str) -> stripe.StripeClient:
        return stripe.StripeClient(
            key,
            base_addresses={"api": self._payments_url},
            http_client=self._http,
            max_network_retries=1,  # for a connection that was closed while the function was frozen
        )

    def _key(self, *, fresh: bool = False) -> str:
        """Read the key.

        Parameters
        ----------
        fresh:
            Whether to read it from Secrets Manager even if it was read a moment ago.
        """
        try:
            return key_in(self._read_secret(fresh=fresh))
        except NoKey as none:
            if fresh:
                reason = f"There is no Stripe key in {self._secret_arn}: it {none}. {self._remedy}"
                raise PaymentsNotConfigured(reason) from None
        return self._key(fresh=True)

    def _read_secret(self, *, fresh: bool) -> str | bytes:
        """Read the secret; empty if it has no value yet."""
        with aws_faults_as_transient("read the payment provider's key"):
            try:
                secret: Any = self._secrets.get(self._secret_arn, max_age=_SECONDS_TO_KEEP_KEY, force_fetch=fresh)
            except GetParameterError as error:
                cause = error.__context__  # not __cause__: Powertools raises it without one
                if isinstance(cause, ClientError) and error_code(cause) == "ResourceNotFoundException":
                    return ""
                raise (cause or error) from None
        return secret if isinstance(secret, str | bytes) else ""

    @property
    def _remedy(self) -> str:
        command = f"aws secretsmanager put-secret-value --secret-id {self._secret_arn}"
        return f"Put one there: {command} --secret-string file:///dev/stdin - and redrive."


def stripe_amount(amount: int, currency: str) -> int:
    """Return an amount in Stripe's smallest unit of the currency.

    Parameters
    ----------
    amount:
        In minor units of ISO 4217.

    Raises
    ------
    Declined
        The amount is not a whole number of Stripe's units.
    """
    if currency in _HUNDREDTHS:
        return amount * 100
    if currency in _WHOLE:
        if amount % 100:
            raise Declined(f"Only whole {currency} can be charged.")
        return amount // 100
    if currency in _THOUSANDTHS and amount % 10:
        raise Declined(f"Only whole hundredths of {currency} can be charged.")
    return amount


def _require_success(payment: stripe.PaymentIntent) -> None:
    match payment.status:
        case "succeeded":
            return
        case "requires_action":
            raise ConfirmationRequired(_CONFIRM)
        case "requires_payment_method":
            words = without_secrets(getattr(payment.last_payment_error, "message", None) or "The payment was declined.")
            match cause_of_decline(payment.last_payment_error):
                case Cause.CONFIRMATION:
                    raise ConfirmationRequired(words)
                case Cause.KEY | Cause.OURS:
                    raise PaymentRequestRefused(f"Stripe refused to charge the payment {payment.id}: {words}")
            raise Declined(words)
        case "canceled":
            raise Declined("The payment was cancelled.")
    raise ServiceUnavailable(f"Payment {payment.id} is {payment.status}: whether it is charged is not known yet.")


def _decline_if_fault_of_the_order(error: stripe.StripeError) -> None:
    """Raise Declined if Stripe refuses the card or the order's content, not Darkroom's request."""
    match cause_of(error):
        case Cause.CARD:
            raise Declined(words_of(error) or "The payment was declined.") from error
        case Cause.CONFIRMATION:
            raise ConfirmationRequired(words_of(error) or _CONFIRM) from error
        case Cause.DATA:
            reason = _REASONS.get(error.code or "") or _REASONS.get(getattr(error, "param", None) or "") or ""
            raise Declined(f"{reason} {words_of(error)}".strip()) from error


def _is_spent(error: stripe.StripeError) -> bool:
    """Whether Stripe has only an error for an idempotency key, or a request from before a deployment changed it."""
    replayed: str | None = (error.headers or {}).get("Idempotent-Replayed")
    other_parameters = isinstance(error, stripe.IdempotencyError) and error.code != "idempotency_key_in_use"
    return replayed == "true" or other_parameters


@contextmanager
def _stripe_faults(action: str) -> Iterator[None]:
    """Translate Stripe's errors into Darkroom's: permanent if the operator must fix something, else transient."""
    try:
        yield
    except stripe.APIConnectionError as error:
        fault = type(error.__cause__ or error).__name__
        raise PaymentsUnavailable(f"Could not {action}: no answer from Stripe ({fault}).") from error
    except stripe.StripeError as error:
        if cause_of(error) in (Cause.UNKNOWN, Cause.KEY):
            about = f"{error.http_status}" + (f" {error.code}" if error.code else "")
            request = f" to request {error.request_id}" if error.request_id else ""
            words = f" {words_of(error)}" if isinstance(error, stripe.InvalidRequestError) else ""
            raise PaymentsUnavailable(f"Could not {action}: Stripe answered {about}{request}.{words}") from error
        raise PaymentRequestRefused(f"Stripe refuses to {action}: {words_of(error)}") from error
