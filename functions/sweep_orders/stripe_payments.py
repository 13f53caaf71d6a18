"""The payments that Stripe has taken for this stack's orders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import stripe
from darkroom.aws_faults import aws_faults_as_transient
from darkroom.errors import PaymentsUnavailable
from darkroom.stripe_key import STACK, NoKey, key_in, stack_of

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# Payments that took money, or still may without another request.
_TAKEN = {"succeeded", "processing", "requires_capture"}

stripe.enable_telemetry = False


@dataclass(frozen=True)
class TakenPayment:
    """A payment. ``amount`` is the part that is not refunded, in Stripe's smallest unit of ``currency``."""

    payment_id: str
    order_id: str
    amount: int
    currency: str


@dataclass(frozen=True)
class StripePayments:
    """Stripe's payments, read with the key that charges orders."""

    secretsmanager: SecretsManagerClient
    secret_arn: str
    payments_url: str

    def taken_since(self, since: float) -> list[TakenPayment]:
        """Return this stack's payments that took money and were not refunded in full; none while there is no key.

        Parameters
        ----------
        since:
            When the oldest was opened, seconds since the epoch.

        Raises
        ------
        PaymentsUnavailable
            Stripe failed, did not answer, or refused the key.
        ServiceUnavailable
            Secrets Manager answered with an error.
        """
        try:
            client = stripe.StripeClient(
                key_in(self._secret()), base_addresses={"api": self.payments_url.rstrip("/")}, max_network_retries=2
            )
        except NoKey:  # without a key nothing was charged, and every order's dead letter says so
            return []
        try:
            return list(self._taken(client, since))
        except stripe.StripeError as error:  # its text may contain a part of the key
            raise PaymentsUnavailable(f"Stripe does not list its payments (status {error.http_status}).") from None

    def _taken(self, client: stripe.StripeClient, since: float) -> Iterator[TakenPayment]:
        page = client.v1.payment_intents.list({"limit": 100, "expand": ["data.latest_charge"]})
        # The newest first: https://docs.stripe.com/api/payment_intents/list
        for payment in page.auto_paging_iter():
            if payment.created < since:
                return
            metadata = payment.metadata.to_dict() if payment.metadata else {}
            if metadata.get(STACK) != stack_of(self.secret_arn) or payment.status not in _TAKEN:
                continue
            charge = payment.latest_charge
            refunded = charge.amount_refunded if isinstance(charge, stripe.Charge) else 0
            if payment.amount > refunded:
                order_id = metadata.get("order_id", "")
                yield TakenPayment(payment.id, order_id, payment.amount - refunded, payment.currency.upper())

    def _secret(self) -> str | bytes:
        with aws_faults_as_transient("read the payment provider's key"):
            try:
                secret = self.secretsmanager.get_secret_value(SecretId=self.secret_arn)
            except self.secretsmanager.exceptions.ResourceNotFoundException:  # it has no value yet
                return ""
        return secret.get("SecretString") or secret.get("SecretBinary") or ""
