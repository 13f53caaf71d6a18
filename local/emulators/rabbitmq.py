"""The RabbitMQ broker's process: start it, find it, stop it; publish messages and count them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pika
import psutil
from pika.exceptions import NackError, UnroutableError

from local.config import RABBITMQ_USER, LaptopError, LocalConfig
from local.emulators import rabbitmq_install
from local.emulators.processes import Server, check_free
from operations.errors import OperationsError
from operations.rabbitmq_queues import QUEUES, dead_letter_queue, open_channel

# RabbitMQ stops publishers at these limits; the laptop broker stays far from both.
_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = {user}
default_pass = {password}
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
log.console = true
log.file = false
"""


@dataclass(frozen=True)
class BrokerMessage:
    """A message to publish: a body and, optionally, properties."""

    body: bytes
    message_id: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, str | int] | None = None


class _Broker(Server):
    def answers(self) -> bool:
        """Ask whether it takes connections."""
        try:
            with open_channel(self.health_url):
                return True
        except OperationsError:
            return False


def installed() -> bool:
    """Whether this machine has RabbitMQ."""
    return rabbitmq_install.find() is not None


def running(config: LocalConfig) -> psutil.Process | None:
    """Find the broker of this stack, or None if it is not running."""
    return _server(config).running()


def start(config: LocalConfig) -> None:
    """Start an empty broker and wait until it takes connections.

    Raises
    ------
    LaptopError
        It is not installed, a port is taken, or it does not start.
    """
    if not installed():
        raise LaptopError(rabbitmq_install.why_left_out())
    for port in (config.rabbitmq_port, config.rabbitmq_node_port):
        check_free(port)
    _forget(config)  # after one that was killed
    _start(config)


def stop(config: LocalConfig) -> bool:
    """Stop the broker and delete its contents; returns whether it was running."""
    stopped = _server(config).stop()
    _forget(config)
    return stopped


def restart(config: LocalConfig) -> None:
    """Stop the broker and start it again; durable messages survive. Raises LaptopError."""
    _server(config).stop()
    _start(config)


def publish(url: str, queue: str, messages: Iterable[BrokerMessage]) -> int:
    """Publish messages to a queue, each with a confirm; returns their number.

    Raises
    ------
    LaptopError
        A message is not confirmed; the broker may have accepted it nevertheless. All earlier ones are confirmed.
    """
    count = 0
    with open_channel(url) as channel:
        channel.confirm_delivery()
        for message in messages:
            properties = pika.BasicProperties(
                content_type="application/json",
                content_encoding=message.content_encoding,
                headers=message.headers,
                delivery_mode=pika.DeliveryMode.Persistent,
                message_id=message.message_id,
            )
            try:
                channel.basic_publish("", queue, message.body, properties, mandatory=True)
            except UnroutableError as error:
                raise LaptopError(f"The broker has no queue {queue}.") from error
            except NackError as error:
                raise LaptopError(f"The broker does not take a message for queue {queue}.") from error
            count += 1
    return count


def queue_depths(config: LocalConfig) -> dict[str, int]:
    """Count the messages that wait in each queue, without those that a consumer holds."""
    names = [name for queue in QUEUES for name in (queue, dead_letter_queue(queue))]
    with open_channel(config.rabbitmq_url) as channel:
        return {name: channel.queue_declare(name, passive=True).method.message_count for name in names}


def _folder(config: LocalConfig) -> Path:
    return config.folder / "rabbitmq"


def _start(config: LocalConfig) -> None:
    program = _server(config).script
    folder = _folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "rabbitmq.conf"
    settings = {"port": config.rabbitmq_port, "user": RABBITMQ_USER, "password": config.keys.rabbitmq_password}
    configuration.touch(mode=0o600)
    configuration.write_text(_CONFIGURATION.format(**settings))
    plugins = folder / "enabled_plugins"
    plugins.write_text("[].\n")
    node = f"darkroom-{config.rabbitmq_port}@localhost"
    environment = {
        **rabbitmq_install.environment(program),
        "HOME": str(folder),  # for its cookie
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_BASE": str(folder),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "node.pid"),
        "RABBITMQ_CONFIG_FILE": str(configuration),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,  # not the machine's
        # A node with a fixed name and port needs no epmd, which would listen on one more port and run on after it.
        # https://www.erlang.org/doc/apps/erts/erl_cmd.html
        # Its threads do not spin while they wait: https://www.rabbitmq.com/docs/runtime#busy-waiting
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            f"-sname {node} -start_epmd false -erl_epmd_port {config.rabbitmq_node_port}"
            " -kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
        ),
    }
    _server(config).start(None, environment=environment, folder=folder)


def _forget(config: LocalConfig) -> None:
    shutil.rmtree(_folder(config), ignore_errors=True)


def _server(config: LocalConfig) -> Server:
    return _Broker(
        name="RabbitMQ",
        script=rabbitmq_install.find() or Path("rabbitmq-server"),
        pid_file=config.folder / "rabbitmq.pid",
        log=config.logs / "rabbitmq.log",
        health_url=config.rabbitmq_url,
        seconds_to_stop=30,  # it persists its messages
    )
