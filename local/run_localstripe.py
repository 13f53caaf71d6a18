"""Start localstripe with what Stripe does and localstripe lacks, and with faults on demand.

Runs in the payment provider's own environment (.local/payments), never in the project's; ``local/payments.py`` starts
it. Beside Stripe's API it answers:

    POST   /_config/faults            {"share": 0.1, "seed": 7}: that share of the POSTs to /v1 fails from now on;
                                      "seconds": what every POST takes (0)
    GET    /_config/faults            how many failed, by kind
    DELETE /_config/idempotency_keys  forget every key, as Stripe does after a day
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from localstripe import errors, resources

CHECKED_VERSION = "1.15.10"
_CONFIG_PATH = "/_config/"
_REPLAYED = "Idempotent-Replayed"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Answer:
    """What was answered under an idempotency key; status 0 while that is not known yet."""

    question: tuple[str, bytes]
    status: int = 0
    body: bytes = b""


@dataclass
class Faults:
    """Which requests fail, and how many did."""

    share: float = 0.0
    seconds: float = 0.0
    luck: random.Random = field(default_factory=random.Random)
    counts: Counter[str] = field(default_factory=Counter)

    def draw(self) -> str | None:
        """What happens to the next request."""
        return self.luck.choice(KINDS) if self.luck.random() < self.share else None


KINDS = ("500 before", "500 after", "dropped before", "dropped after", "429")
faults = Faults()
answers: dict[str, Answer] = {}


def keep_in_memory() -> None:
    """Write nothing to disk: localstripe dumps all it knows into one file in /tmp on every change.

    Can go when that file is a setting.
    """
    resources.Store.dump_to_disk = lambda _: None


def find_by_kind() -> None:
    """List the objects of one kind without looking at all others.

    localstripe does, several times for every charge that it shows: the more orders, the slower. Can go when a load
    test does not notice.
    """
    kinds: dict[str, dict[str, Any]] = {}
    set_item, clear = resources.Store.__setitem__, resources.Store.clear

    def remember(store: Any, key: str, value: Any) -> None:
        kinds.setdefault(key.partition(":")[0], {})[key] = value
        set_item(store, key, value)

    def forget(store: Any) -> None:
        kinds.clear()
        clear(store)

    def list_all(cls: Any, url: str, limit: Any = None, starting_after: Any = None, **others: Any) -> Any:
        if others:
            raise errors.UserError(400, f"Unexpected {', '.join(others)}")
        found = resources.List(url, limit=limit, starting_after=starting_after)
        found._list = [item for key, item in kinds.get(cls.object, {}).items() if key in resources.store]  # noqa: SLF001
        return found

    resources.Store.__setitem__, resources.Store.clear = remember, forget
    resources.StripeObject._api_list_all = classmethod(list_all)  # noqa: SLF001 # there is no public hook


def call_card_errors_so() -> None:
    """Give a 402 the type ``card_error``. Can go when localstripe has more types than ``invalid_request_error``."""
    original = errors.UserError.__init__

    def patched(error: Any, code: int, message: str | None = None, contents: dict[str, Any] | None = None) -> None:
        original(error, code, message, contents)
        if code == 402:
            error.body["error"]["type"] = "card_error"

    errors.UserError.__init__ = patched


def say_what_is_missing() -> None:
    """Answer with ``resource_missing`` and the parameter where localstripe says "Not Found".

    And "No such PaymentMethod" for a text that cannot be the id of one. Can go when localstripe tells the two.
    """
    retrieve = resources.StripeObject._api_retrieve.__func__  # noqa: SLF001
    create = resources.PaymentIntent._api_create.__func__  # noqa: SLF001

    def missing(kind: str, name: str) -> errors.UserError:
        return errors.UserError(404, f"No such {kind}: '{name}'", {"code": "resource_missing", "param": kind})

    def patched_retrieve(cls: Any, id: str) -> Any:  # noqa: A002 # localstripe calls it so
        if f"{cls.object}:{id}" not in resources.store:
            raise missing(cls.object, id)
        return retrieve(cls, id)

    def patched_create(cls: Any, **data: Any) -> Any:
        if not data.get("payment_method", "pm_").startswith(("pm_", "src_", "card_")):
            raise missing("payment_method", data["payment_method"])
        return create(cls, **data)

    resources.StripeObject._api_retrieve = classmethod(patched_retrieve)  # noqa: SLF001
    resources.PaymentIntent._api_create = classmethod(patched_create)  # noqa: SLF001


def accept_off_session() -> None:
    """Let a payment be confirmed while the customer is away; a bank that wants to see the customer declines it.

    Can go when localstripe's confirm takes ``off_session``.
    """
    confirm = resources.PaymentIntent._api_confirm.__func__  # noqa: SLF001

    def patched(cls: Any, id: str, off_session: str = "false", **data: Any) -> Any:  # noqa: A002
        intent = confirm(cls, id, **data)
        if off_session == "true" and intent.status == "requires_action":
            intent.next_action = intent.payment_method = None
            raise errors.UserError(
                402, "Your card was declined. This transaction requires authentication.", {"code": "card_declined"}
            )
        return intent

    _replace_route("/v1/payment_intents/{id}/confirm", classmethod(patched), resources.PaymentIntent)
