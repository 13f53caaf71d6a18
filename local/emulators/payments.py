"""The payment provider's process: start it, find it, stop it; read its payments, and inject faults.

A ``url`` here has the provider's key in it, as ``LocalConfig.payments_url`` has.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psutil
import stripe

from local.config import PROJECT, LocalConfig, tool
from local.emulators.docker_bridge import docker_bridge
from local.emulators.processes import Server, check_free

_KEY = "DARKROOM_STRIPE_KEY"  # as run_localstripe.py reads it
_FAULTS = "/_config/faults"
#: A key of live mode. Stripe finds nothing of test mode under it.
WRONG_KEY = "sk_live_wrong"
stripe.enable_telemetry = False  # it writes an id of this machine into the home folder


class _Provider(Server):
    def answers(self) -> bool:
        """Ask whether it is up."""
        return answers(self.health_url)


@dataclass(frozen=True)
class TakenPayment:
    """A payment that was charged. Amounts in Stripe's smallest unit of the currency."""

    payment_id: str
    charged: int
    refunded: int


def running(config: LocalConfig) -> psutil.Process | None:
    """Find the payment provider of this stack, or None if it is not running."""
    return _server(config).running()


def start(config: LocalConfig) -> None:
    """Start the payment provider and wait until it answers.

    Raises
    ------
    LaptopError
        Its port is taken, or it does not start.
    """
    check_free(config.payments_port)
    config.folder.mkdir(parents=True, exist_ok=True)
    _memory(config).unlink(missing_ok=True)  # of one that was killed
    _start(config)


def stop(config: LocalConfig) -> bool:
    """Stop the payment provider, which forgets everything; returns whether it was running."""
    stopped = _server(config).stop()
    _memory(config).unlink(missing_ok=True)
    return stopped


def restart(config: LocalConfig) -> None:
    """Stop the payment provider and start it again. It forgets only its faults. Raises LaptopError."""
    _server(config).stop()
    _start(config)


def answers(url: str) -> bool:
    """Whether the payment provider is running."""
    try:
        fault_counts(url)
    except OSError:
        return False
    return True


def split(url: str) -> tuple[str, str]:
    """The key that is in a URL, and the URL without it."""
    parts = urlsplit(url)
    return parts.username or "", f"{parts.scheme}://{parts.hostname}:{parts.port}"


def succeeded_payments(url: str) -> dict[str, list[TakenPayment]]:
    """Every charged payment, by its order."""
    key, endpoint_url = split(url)
    client = stripe.StripeClient(key, base_addresses={"api": endpoint_url}, max_network_retries=2)
    taken = defaultdict(list)
    for intent in client.v1.payment_intents.list({"limit": 100, "expand": ["data.latest_charge"]}).auto_paging_iter():
        charge = intent.latest_charge
        if isinstance(charge, stripe.Charge) and charge.status == "succeeded":
            payment = TakenPayment(intent.id, charge.amount, charge.amount_refunded)
            taken[intent.metadata.to_dict().get("order_id", "")].append(payment)
    return dict(taken)


def set_faults(
    url: str, share: float, seed: int | None = None, *, kinds: Sequence[str] = (), seconds: float = 0
) -> None:
    """Make a share of the requests that change something fail.

    Parameters
    ----------
    share:
        0 ends it.
    seed:
        With the same seed, the same sequence of requests fails in the same way.
    kinds:
        Kinds of faults, as `fault_counts` names them; by default all, in equal numbers.
    seconds:
        Extra duration of every request that changes something.
    """
    _call("POST", url, _FAULTS, {"share": share, "seed": seed, "kinds": list(kinds), "seconds": seconds})


def fault_counts(url: str) -> dict[str, int]:
    """How many requests failed since the faults were set, by kind."""
    return dict(json.loads(_call("GET", url, _FAULTS)))


def forget_idempotency_keys(url: str) -> None:
    """Forget all idempotency keys, as Stripe does after a day."""
    _call("DELETE", url, "/_config/idempotency_keys")


def _call(method: str, url: str, path: str, body: Any = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    key, endpoint_url = split(url)
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Basic {base64.b64encode(f'{key}:'.encode()).decode()}",
    }
    request = Request(endpoint_url + path, data, headers, method=method)  # noqa: S310 # a loopback address
    with urlopen(request, timeout=60) as answer:  # noqa: S310
        return bytes(answer.read())


def _start(config: LocalConfig) -> None:
    bridge = docker_bridge()
    arguments = [str(config.payments_port), str(_memory(config)), *([bridge.address] if bridge else [])]
    environment = {_KEY: config.keys.stripe_key}  # an argument would be shown to every user of this machine
    _server(config).start(
        tool("payments", "python"), arguments=arguments, environment=environment, folder=config.folder
    )


def _memory(config: LocalConfig) -> Path:
    return config.folder / "payments.memory"


def _server(config: LocalConfig) -> Server:
    return _Provider(
        name="The payment provider",
        script=PROJECT / "local" / "emulators" / "run_localstripe.py",
        pid_file=config.folder / "payments.pid",
        log=config.logs / "payments.log",
        health_url=config.payments_url,
    )
