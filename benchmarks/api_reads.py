"""Compare reads of a queue over HTTP and by SDK, in turns, on the running laptop stack.

python -m benchmarks.api_reads
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from time import perf_counter, sleep
from urllib.request import Request, urlopen

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from rich.console import Console
from rich.progress import track
from rich.table import Table

from local.config import LaptopError, local_config
from local.stack import Stack, load
from operations.terminal import printable

_READS = 200
_WARM_UP = 10
_SECONDS_BETWEEN = 0.02  # the API accepts 50 requests a second


def compare(deployed: Stack, console: Console) -> None:
    """Read an empty answer from the results queue, over HTTP and by SDK, and print p50 and p99 of both."""
    reads = {"over HTTP": _over_http(deployed), "by SDK": _by_sdk(deployed)}
    seconds: dict[str, list[float]] = {name: [] for name in reads}
    for number in track(range(_READS + _WARM_UP), description="Reading", console=console, transient=True):
        sleep(_SECONDS_BETWEEN)
        for name, read in reads.items():
            started = perf_counter()
            read()
            taken = perf_counter() - started
            if number >= _WARM_UP:
                seconds[name].append(taken)
    table = Table(title=f"{_READS} reads of a queue, ms", title_justify="left", header_style="bold")
    for column in ("", "p50", "p99"):
        table.add_column(column, justify="right" if column else "left")
    for name, taken_by_name in seconds.items():
        cuts = statistics.quantiles(taken_by_name, n=100)
        table.add_row(name, f"{cuts[49] * 1000:.1f}", f"{cuts[98] * 1000:.1f}")
    console.print(table)
    ratio = statistics.median(h / s for h, s in zip(seconds["over HTTP"], seconds["by SDK"], strict=True))
    console.print(f"A read over HTTP takes {ratio:.2f} times the one by SDK (median of pairs), emulator included.")


def _over_http(deployed: Stack) -> Callable[[], object]:
    keys = deployed.credentials
    credentials = Credentials(keys["aws_access_key_id"], keys["aws_secret_access_key"])
    url = deployed.outputs["ApiUrl"] + "/results?MaxNumberOfMessages=1&WaitTimeSeconds=0"

    def read() -> object:
        request = AWSRequest("GET", url, {"x-api-key": deployed.outputs["ApiKey"]})
        SigV4Auth(credentials, "execute-api", deployed.region).add_auth(request)
        with urlopen(Request(url, headers=dict(request.headers.items())), timeout=30) as answer:  # noqa: S310 # loopback
            return answer.read()

    return read


def _by_sdk(deployed: Stack) -> Callable[[], object]:
    queue_url = deployed.outputs["ResultsQueueUrl"]
    return lambda: deployed.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=1, WaitTimeSeconds=0)


if __name__ == "__main__":
    terminal = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    try:
        compare(load(local_config()), terminal)
    except LaptopError as error:
        terminal.print(f"Reads over HTTP are not measured: {printable(str(error))}")
