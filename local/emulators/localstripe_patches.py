"""What localstripe lacks of Stripe, patched into it. Each function says when it can go.

Runs in the payment provider's own environment; ``run_localstripe.py`` applies it.
"""

from __future__ import annotations

from typing import Any

from localstripe import errors, resources  # type: ignore[import-not-found] # only in its own environment


def apply() -> None:
    """Patch all, before localstripe's server copies the list of endpoints."""
    keep_in_memory()
    find_by_kind()
    call_card_errors_so()
    decline_when_charging()
    say_what_is_missing()
    take_allowed_payment_method_types()
    accept_off_session()
    refund_once()


def keep_in_memory() -> None:
    """Write nothing to disk.

    localstripe writes its whole state into one file in /tmp on every change. Remove this when that file is a setting.
    """
    resources.Store.dump_to_disk = lambda _: None


def find_by_kind() -> None:
    """List the objects of one kind without looking at all others.

    localstripe scans all objects several times for every charge that it shows, so each order slows the next. Remove
    this when ``make chaos`` with 1000 orders is as fast without it.
    """
    kinds: dict[str, dict[str, Any]] = {}
    store = resources.Store

    def remember(self: Any, key: str, value: Any) -> None:
        kinds.setdefault(key.partition(":")[0], {})[key] = value
        dict.__setitem__(self, key, value)

    def forget(self: Any) -> None:
        kinds.clear()
        dict.clear(self)

    def list_all(cls: Any, /, url: str, limit: Any = None, starting_after: Any = None, **others: Any) -> Any:
        if others:
            raise errors.UserError(400, f"Unexpected {', '.join(others)}")
        found = resources.List(url, limit=limit, starting_after=starting_after)
        found._list = [item for key, item in kinds.get(cls.object, {}).items() if key in resources.store]  # noqa: SLF001
        return found

    store.__setitem__, store.clear = remember, forget
    resources.StripeObject._api_list_all = classmethod(list_all)  # noqa: SLF001 # there is no public hook


def call_card_errors_so() -> None:
    """Give a 402 the type ``card_error``. Remove this when localstripe has more types of errors."""
    original = errors.UserError.__init__

    def patched(error: Any, code: int, message: str | None = None, contents: dict[str, Any] | None = None) -> None:
        original(error, code, message, contents)
        if code == 402:
            error.body["error"]["type"] = "card_error"

    errors.UserError.__init__ = patched


def decline_when_charging() -> None:
    """Decline the charge of a card that localstripe only refuses to attach to a customer, as 4000000000000002.

    Remove this when a payment with ``pm_card_visa_chargeDeclined`` is declined without it.
    """
    method = resources.PaymentMethod
    charging_is_declined = method._charging_is_declined  # noqa: SLF001
    method._charging_is_declined = (  # noqa: SLF001
        lambda self: charging_is_declined(self) or method._attaching_is_declined(self)  # noqa: SLF001
    )


def say_what_is_missing() -> None:
    """Answer ``resource_missing`` and name the parameter, where localstripe says only "Not Found".

    The same for a payment method with an invalid id. Remove this when localstripe gives codes.
    """
    retrieve = resources.StripeObject._api_retrieve.__func__  # noqa: SLF001
    create = resources.PaymentIntent._api_create.__func__  # noqa: SLF001

    def missing(kind: str, name: str) -> errors.UserError:
        kind = "payment_method" if kind in ("card", "source") else kind
        words = "PaymentMethod" if kind == "payment_method" else kind
        param = "intent" if kind == "payment_intent" else kind
        return errors.UserError(404, f"No such {words}: '{name}'", {"code": "resource_missing", "param": param})

    def patched_retrieve(cls: Any, /, id: str) -> Any:  # noqa: A002 # its name in localstripe
        if f"{cls.object}:{id}" not in resources.store:
            raise missing(cls.object, id)
        return retrieve(cls, id)

    def patched_create(cls: Any, /, **data: Any) -> Any:
        payment_method = data.get("payment_method")
        if payment_method and not payment_method.startswith(("pm_", "src_", "card_")):
            raise missing("payment_method", payment_method)
        return create(cls, **data)

    resources.StripeObject._api_retrieve = classmethod(patched_retrieve)  # noqa: SLF001
    resources.PaymentIntent._api_create = classmethod(patched_create)  # noqa: SLF001


def take_allowed_payment_method_types() -> None:
    """Accept the new parameter and refuse the old one, as Stripe does since its version 2026-09-30 (Endive).

    https://docs.stripe.com/changelog/endive Remove this when localstripe knows ``allowed_payment_method_types``.
    """
    create = resources.PaymentIntent._api_create.__func__  # noqa: SLF001

    def patched(cls: Any, /, allowed_payment_method_types: Any = None, **data: Any) -> Any:
        del allowed_payment_method_types  # all its payment methods are cards
        if "payment_method_types" in data:
            message = "The payment_method_types parameter is no longer supported."
            raise errors.UserError(400, message, {"code": "payment_method_types_no_longer_supported"})
        return create(cls, **data)

    resources.PaymentIntent._api_create = classmethod(patched)  # noqa: SLF001


def accept_off_session() -> None:
    """Confirm payments off session: a bank that requires authentication declines them.

    Remove this when localstripe's confirm accepts ``off_session``.
    """
    path = "/v1/payment_intents/{id}/confirm"
    confirm = resources.PaymentIntent._api_confirm  # noqa: SLF001

    def patched(id: str, off_session: str = "false", **data: Any) -> Any:  # noqa: A002
        intent = confirm(id, **data)
        if off_session == "true" and intent.status == "requires_action":
            intent.next_action = intent.payment_method = None
            message = "Your card was declined. This transaction requires authentication."
            raise errors.UserError(402, message, {"code": "authentication_required"})
        return intent

    resources.extra_apis[:] = [
        (verb, url, patched if url == path else answer) for verb, url, answer in resources.extra_apis
    ]


def refund_once() -> None:
    """Refund what is left of a charge; refuse if nothing is left. Remove this when localstripe counts refunds."""
    create = resources.Refund._api_create.__func__  # noqa: SLF001

    def patched(cls: Any, /, **data: Any) -> Any:
        if intent := data.get("payment_intent"):
            charge = resources.PaymentIntent._api_retrieve(intent).latest_charge  # noqa: SLF001
        else:
            charge = resources.Charge._api_retrieve(str(data.get("charge")))  # noqa: SLF001
        if charge is None or charge.status != "succeeded":
            raise errors.UserError(400, "There is no successful charge to refund.")
        left = charge.amount - charge.amount_refunded
        if left <= 0:
            message = f"Charge {charge.id} has already been refunded."
            raise errors.UserError(400, message, {"code": "charge_already_refunded"})
        if int(data.get("amount", left)) > left:
            raise errors.UserError(400, f"Refund amount is greater than unrefunded amount ({left}).")
        return create(cls, **{"amount": left, **data})

    resources.Refund._api_create = classmethod(patched)  # noqa: SLF001
