"""Sort Stripe's errors by who can fix them, which decides what happens to the order.

https://docs.stripe.com/error-codes
https://docs.stripe.com/declines/codes
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import stripe
from darkroom.stripe_key import without_secrets


class Cause(StrEnum):
    """The source of an error, with its consequence."""

    CARD = "the customer's card"  # the order is rejected
    CONFIRMATION = "a confirmation is missing"  # rejected, and the shop collects the customer's confirmation
    DATA = "the customer's data"  # rejected in Stripe's words
    KEY = "our key"  # dead letter, the stock stays reserved
    OURS = "our request, account or settings"  # dead letter, the stock stays reserved
    UNKNOWN = "unknown, or passing"  # retried


_CODES_BY_CAUSE = {
    Cause.CARD: """
        authentication_failure capture_unauthorized_payment card_decline_rate_limit_exceeded card_declined
        charge_exceeds_source_limit charge_exceeds_transaction_limit debit_not_authorized expired_card
        expired_payment_method incorrect_address incorrect_cvc incorrect_number incorrect_postal_code incorrect_zip
        insufficient_funds invalid_card_type invalid_cvc invalid_expiry_month invalid_expiry_year invalid_number
        payment_intent_authentication_failure payment_intent_payment_attempt_expired
        payment_intent_payment_attempt_failed payment_method_customer_decline payment_method_provider_decline
        payment_method_provider_timeout payment_method_restricted postal_code_invalid processing_error refer_to_customer
        setup_attempt_failed setup_intent_authentication_failure three_d_secure_authentication_not_supported
        """,
    Cause.CONFIRMATION: """
        authentication_required invoice_payment_intent_requires_action payment_intent_action_required
        """,
    Cause.DATA: """
        amount_too_large amount_too_small billing_invalid_mandate cardholder_phone_number_required
        india_recurring_payment_mandate_canceled invalid_charge_amount payment_intent_incompatible_payment_method
        payment_intent_mandate_invalid payment_method_billing_details_address_missing payment_method_currency_mismatch
        payment_method_unexpected_state payment_method_unsupported_type token_already_used token_card_network_invalid
        token_in_use
        """,
    Cause.KEY: """
        api_key_expired livemode_mismatch platform_api_key_expired secret_key_required testmode_charges_only
        """,
    Cause.UNKNOWN: """
        forwarding_api_retryable_upstream_error
        forwarding_api_upstream_connection_error forwarding_api_upstream_connection_timeout
        forwarding_api_upstream_error idempotency_key_in_use lock_timeout payment_intent_rate_limit_exceeded
        payment_method_not_available rate_limit terminal_reader_busy terminal_reader_offline terminal_reader_timeout
        three_d_secure_authentication_upstream_error
        """,
    # Errors of Darkroom's request or account, or of a part of Stripe that Darkroom does not use.
    Cause.OURS: """
        account_closed account_country_invalid_address account_error_country_change_requires_additional_steps
        account_information_mismatch account_invalid
        account_number_invalid account_token_required_for_v2_account acss_debit_session_incomplete action_blocked
        alipay_upgrade_required anomalous_money_movement_request application_fees_not_allowed approval_required
        balance_insufficient balance_invalid_parameter bank_account_bad_routing_numbers bank_account_declined
        bank_account_exists bank_account_restricted bank_account_unusable bank_account_unverified
        bank_account_verification_failed bitcoin_upgrade_required capability_not_active
        capture_charge_authorization_expired charge_already_captured charge_already_refunded charge_disputed
        charge_expired_for_capture charge_invalid_parameter charge_not_refundable clearing_code_unsupported
        country_code_invalid country_unsupported coupon_expired customer_max_payment_methods customer_max_subscriptions
        customer_session_expired customer_tax_location_invalid dispute_evidence_page_limit_exceeded email_invalid
        failed_tax_calculation financial_account_balance_does_not_support_currency
        financial_account_capability_not_enabled financial_account_capability_restricted
        financial_connections_account_inactive financial_connections_account_pending_account_numbers
        financial_connections_account_unavailable_account_numbers financial_connections_consent_locale_invalid
        financial_connections_consent_locale_unsupported financial_connections_no_successful_transaction_refresh
        forwarding_api_inactive forwarding_api_invalid_parameter instant_payouts_config_disabled
        instant_payouts_currency_disabled instant_payouts_limit_exceeded instant_payouts_unsupported
        intent_invalid_state intent_verification_method_missing invalid_canceled_subscription_fields invalid_characters
        invalid_mandate_reference_prefix_format invalid_source_usage invalid_tax_location invoice_no_customer_line_items
        invoice_no_payment_method_types invoice_no_subscription_line_items invoice_not_editable
        invoice_on_behalf_of_not_editable invoice_upcoming_none missing no_account not_allowed_on_standard_account
        out_of_inventory ownership_declaration_not_allowed parameter_invalid_empty parameter_invalid_integer
        parameter_invalid_string_blank parameter_invalid_string_empty parameter_missing parameter_unknown
        parameters_exclusive payment_evaluation_on_api_version_not_supported payment_intent_invalid_parameter
        payment_intent_konbini_rejected_confirmation_number payment_intent_unexpected_state
        payment_method_bank_account_already_verified payment_method_bank_account_blocked
        payment_method_configuration_failures payment_method_invalid_parameter payment_method_invalid_parameter_testmode
        payment_method_microdeposit_failed payment_method_microdeposit_processing_error
        payment_method_microdeposit_verification_amounts_invalid
        payment_method_microdeposit_verification_amounts_mismatch
        payment_method_microdeposit_verification_attempts_exceeded
        payment_method_microdeposit_verification_descriptor_code_mismatch
        payment_method_microdeposit_verification_timeout payment_method_unactivated
        payout_reconciliation_not_ready payouts_limit_exceeded payouts_not_allowed platform_account_required
        product_inactive progressive_onboarding_limit_exceeded refund_disputed_payment request_blocked
        resource_already_exists resource_missing return_intent_already_processed routing_number_invalid
        sepa_unsupported_account service_period_coupon_with_metered_tiered_item_unsupported
        setup_intent_invalid_parameter setup_intent_mandate_invalid setup_intent_mobile_wallet_unsupported
        setup_intent_setup_attempt_expired setup_intent_unexpected_state shipping_address_invalid
        shipping_calculation_failed siret_invalid sku_inactive smart_disputes_not_available state_unsupported
        status_transition_invalid storer_capability_missing storer_capability_not_active stripe_tax_inactive
        subscription_update_trial_after_billing_cycle_anchor tax_id_invalid tax_id_prohibited taxes_calculation_failed
        terminal_location_country_unsupported terminal_reader_hardware_fault
        terminal_reader_invalid_location_for_activation terminal_reader_invalid_location_for_payment
        tls_version_unsupported transfer_source_balance_parameters_mismatch transfers_not_allowed url_invalid
        """,
}
#: Every code that Stripe documents, with its source unless another field of the error says more.
CAUSES = {code: cause for cause, codes in _CODES_BY_CAUSE.items() for code in codes.split()}

#: Decline codes that are not about the customer's card. All others are.
DECLINES = {
    "authentication_not_handled": Cause.CONFIRMATION,
    "authentication_required": Cause.CONFIRMATION,
    "mobile_device_authentication_required": Cause.CONFIRMATION,
    "test_mode_live_card": Cause.KEY,
}
# The parts of a request that come from the order.
_DATA = {"amount", "currency", "customer", "payment_method"}
_DATA_IS_AT_FAULT = {
    *("", "resource_missing", "currency_not_supported"),
    *("parameter_invalid_empty", "parameter_invalid_integer", "parameter_invalid_string_blank"),
    "parameter_invalid_string_empty",
}
# https://docs.stripe.com/keys#test-live-modes. Only the text tells a key of the wrong mode from an unknown id.
_OTHER_MODE = re.compile(r"(similar|same) object exists in|use the test ID .* in livemode", re.IGNORECASE)
_LIVE_CARD = re.compile(r"in test mode, but used a (non[- ]test|live|real)", re.IGNORECASE)
# A shop that names another customer than the card's owner. It can be fixed, and says nothing about the card.
_OF_ANOTHER_CUSTOMER = re.compile(
    r"belongs? to (a different|another|the) customer|not belong to|does not have a payment method"
    r"|must be attached to (this|the) customer|include the customer in the `?customer"
    r"|Stripe-Account header|connected accounts?\b",
    re.IGNORECASE,
)
_USED_UP = re.compile(r"may not be used again|detached|already been (used|consumed)|no longer", re.IGNORECASE)


def cause_of(error: stripe.StripeError) -> Cause:
    """Sort an error by its type, code, decline code, parameter and message."""
    message, code = error.user_message or "", error.code or ""
    if isinstance(error, stripe.PermissionError | stripe.AuthenticationError):
        return Cause.KEY
    if isinstance(error, stripe.CardError):
        return cause_of_decline(error.error or error)
    if isinstance(error, stripe.IdempotencyError):
        return CAUSES.get(code, Cause.OURS)
    if not isinstance(error, stripe.InvalidRequestError):
        return Cause.UNKNOWN
    if _OTHER_MODE.search(message):
        return Cause.KEY
    if _OF_ANOTHER_CUSTOMER.search(message):
        return Cause.OURS
    if error.param in _DATA and code in _DATA_IS_AT_FAULT:
        if error.param == "payment_method" and not code and not _USED_UP.search(message):
            return Cause.UNKNOWN
        return Cause.DATA
    return CAUSES.get(code, Cause.UNKNOWN) if code else Cause.OURS


def cause_of_decline(decline: Any) -> Cause:
    """Sort the decline of a card, as Stripe's error or as the last error of a payment, by codes and message."""
    code, decline_code, message = (getattr(decline, name, None) or "" for name in ("code", "decline_code", "message"))
    if decline_code in DECLINES:
        return DECLINES[decline_code]
    if _LIVE_CARD.search(message):
        return Cause.KEY
    return Cause.CARD if decline_code else CAUSES.get(code, Cause.CARD)


def words_of(error: stripe.StripeError) -> str:
    """Return Stripe's message, without anything that could be a key."""
    return without_secrets(error.user_message or "")
