"""Every documented error of Stripe has a cause; and whose mistake it is decides over the order."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import stripe
from stripe._api_requestor import _APIRequestor

from functions.process_order.stripe_errors import CAUSES, Cause, cause_of, words_of

# The 50 of https://docs.stripe.com/declines/codes, and live_mode_test_card and test_mode_live_card of older versions.
DECLINE_CODES = """
    approve_with_id call_issuer card_not_supported card_velocity_exceeded currency_not_supported do_not_honor
    do_not_try_again duplicate_transaction expired_card fraudulent generic_decline incorrect_address
    incorrect_cvc incorrect_number incorrect_pin incorrect_zip insufficient_funds invalid_account invalid_amount
    invalid_cvc invalid_expiry_month invalid_expiry_year invalid_number invalid_pin issuer_not_available
    live_mode_test_card lost_card merchant_blacklist new_account_information_available no_action_taken
    not_permitted offline_pin_required online_or_offline_pin_required pickup_card pin_try_exceeded
    processing_error reenter_transaction restricted_card revocation_of_all_authorizations
    revocation_of_authorization security_violation service_not_allowed stolen_card stop_payment_order
    testmode_decline transaction_not_allowed try_again_later withdrawal_count_limit_exceeded
""".split()  # noqa: SIM905
NOT_CARDS = {
    "authentication_not_handled": Cause.CONFIRMATION,
    "authentication_required": Cause.CONFIRMATION,
    "mobile_device_authentication_required": Cause.CONFIRMATION,
    "test_mode_live_card": Cause.KEY,
}
MISSING = {"code": "resource_missing", "param": "payment_method"}


def raised(status: int = 400, **error: Any) -> stripe.StripeError:
    """The error that the library makes of an answer."""
    body = {"error": {"message": "", **error}}
    handle: Any = _APIRequestor().handle_error_response
    with pytest.raises(stripe.StripeError) as caught:
        handle("", status, body, {}, api_mode="V1")
    return caught.value


def test_every_code_that_the_library_knows_has_a_cause() -> None:
    source = inspect.getsource(stripe.PaymentIntent.LastPaymentError)
    literal = source[source.index("code: Optional[") : source.index("decline_code:")]
    assert set(re.findall(r'"([a-z0-9_]+)"', literal)) == CAUSES.keys()


@pytest.mark.parametrize(
    ("decline_code", "cause"), [*NOT_CARDS.items(), *((code, Cause.CARD) for code in (*DECLINE_CODES, "a_new_one"))]
)
def test_a_decline_is_of_the_card_unless_we_used_the_wrong_key(decline_code: str, cause: Cause) -> None:
    error = raised(402, type="card_error", code="card_declined", decline_code=decline_code)
    assert cause_of(error) is cause


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (raised(402, type="card_error", code="authentication_required"), Cause.CONFIRMATION),
        (raised(402, type="card_error", code="something_new"), Cause.CARD),
        (raised(402, type="card_error", code="missing", message="The customer has no active card."), Cause.OURS),
        (raised(402, type="card_error", code="lock_timeout"), Cause.UNKNOWN),
        (raised(402, type="card_error", code="missing", decline_code="do_not_honor"), Cause.CARD),
        (
            raised(402, type="card_error", message="Your request was in test mode, but used a non test card."),
            Cause.KEY,
        ),
        (raised(404, **MISSING, message="No such PaymentMethod: 'pm_1'"), Cause.DATA),
        (
            raised(param="payment_method", message="The payment method supplied (pm_1) does not belong to a Customer."),
            Cause.OURS,
        ),
        (raised(404, **MISSING, message="No such x; a similar object exists in live mode, but a test ..."), Cause.KEY),
        (raised(404, **MISSING, message="No such x; a similar object exists in a sandbox, but ..."), Cause.KEY),
        (raised(404, **MISSING, message="No such x; it may exist on one of your connected accounts."), Cause.OURS),
        (
            raised(param="payment_method", message="You cannot use the test ID 'pm_card_visa' in livemode."),
            Cause.KEY,
        ),
        (raised(code="parameter_missing", param="payment_method", message="Missing required param."), Cause.OURS),
        (raised(404, code="resource_missing", param="intent", message="No such payment_intent"), Cause.OURS),
        (raised(param="payment_method", message="It was detached. It may not be used again."), Cause.DATA),
        (raised(param="payment_method", message="The PaymentMethod pm_1 belongs to a different customer."), Cause.OURS),
        (raised(param="payment_method", message="This PaymentMethod belongs to the Customer cus_1."), Cause.OURS),
        (raised(param="payment_method", message="Words that nobody has seen."), Cause.UNKNOWN),
        (raised(param="currency", message="Invalid currency: xyz."), Cause.DATA),
        (raised(code="amount_too_small", param="amount"), Cause.DATA),
        (raised(code="parameter_unknown", param="amuont"), Cause.OURS),
        (raised(code="a_code_of_tomorrow"), Cause.UNKNOWN),
        (raised(message="This account cannot currently make live charges."), Cause.OURS),
        (raised(401, message="Invalid API Key"), Cause.KEY),
        (raised(403, message="The provided key does not have the required permissions."), Cause.KEY),
        (raised(409, type="idempotency_error", code="idempotency_key_in_use"), Cause.UNKNOWN),
        (raised(400, type="idempotency_error"), Cause.OURS),
        (raised(429, code="rate_limit"), Cause.UNKNOWN),
        (raised(500, type="api_error"), Cause.UNKNOWN),
    ],
)
def test_an_error_is_sorted_by_all_its_fields(error: stripe.StripeError, cause: Cause) -> None:
    assert cause_of(error) is cause, vars(error)


def test_no_key_is_repeated() -> None:
    assert words_of(raised(401, message="Invalid API Key provided: sk_test_****abcd.")) == (
        "Invalid API Key provided: sk_...."
    )
