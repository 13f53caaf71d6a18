"""What MiniStack's Lambda lacks: layers and logs that are whole, metrics, concurrency, processes of lower priority.

``run_ministack.py``, which checks the version, installs it in the emulator's own environment. Each part says what it
fixes, and when it can be removed or that it stays.
"""

from __future__ import annotations

import shlex
import zipfile
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from hashlib import sha256
from pathlib import Path
from queue import Empty
from shutil import which
from tempfile import mkdtemp
from threading import Lock
from time import time
from types import SimpleNamespace
from typing import Any

# Linux gives such a process only what no other one wants, and wakes others as if its processor were idle.
_ASIDE = "chrt --idle 0 nice -n 19" if which("chrt") else "nice -n 19"


def install() -> None:
    """Add it all."""
    _unpack_layers_once()
    _accept_text_in_scaling_config()
    _accept_arns_of_layers()
    _count_every_invocation()
    _end_every_log()
    _reserve_concurrency_of_versions()
    _render_again_aside()


def _unpack_layers_once() -> None:
    """Give the processes of all functions one copy of each layer, behind links.

    MiniStack unpacks every layer for every process, which takes up to a second of a processor. Remove this when it
    keeps what it has unpacked.
    """
    from ministack.core import lambda_runtime

    folder, lock = Path(mkdtemp(prefix="layers-")), Lock()

    class UnpackedOnce(zipfile.ZipFile):
        """A layer's archive, which is ours: its entries need no check of where they lead."""

        def namelist(self) -> list[str]:
            return []

        def extractall(self, path: Any = None, *_: Any) -> None:
            target, members = Path(path), self.infolist()
            if not target.name.startswith("layer_"):  # a function's own code
                super().extractall(target, members)
                return
            contents = repr([(info.filename, info.CRC) for info in members])
            with lock:
                kept = folder / sha256(contents.encode()).hexdigest()
                if not kept.exists():
                    unpacked = Path(mkdtemp(dir=folder))
                    super().extractall(unpacked, members)
                    unpacked.rename(kept)
            for entry in kept.iterdir():
                (target / entry.name).symlink_to(entry)

    lambda_runtime.zipfile = SimpleNamespace(**{**vars(zipfile), "ZipFile": UnpackedOnce})


def _accept_text_in_scaling_config() -> None:
    """Accept MaximumConcurrency as text, the type in which CloudFormation passes a parameter's value.

    MiniStack compares it with a number and stops polling. Remove this when ``make demo`` passes without it.
    """
    from ministack.services import lambda_svc

    concurrency_of = lambda_svc._sqs_esm_concurrency  # noqa: SLF001 # there is no public hook

    def patched(mapping: dict[str, Any], *args: Any, **kwargs: Any) -> int:
        scaling = mapping.get("ScalingConfig") or {}
        if "MaximumConcurrency" in scaling:
            scaling["MaximumConcurrency"] = int(scaling["MaximumConcurrency"])
        return int(concurrency_of(mapping, *args, **kwargs))

    lambda_svc._sqs_esm_concurrency = patched  # noqa: SLF001


def _accept_arns_of_layers() -> None:
    """List and publish the versions of a layer under its ARN, as AWS does and ``sam sync`` needs.

    MiniStack treats the ARN as the name of another layer. Remove this when ``make sam ARGS="sync --code"`` publishes
    a changed layer without it.
    """
    from ministack.services import lambda_svc

    def by_name(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda layer, *args: original(layer.rpartition(":")[2], *args)

    for name in ("_list_layer_versions", "_publish_layer_version"):  # there is no public hook
        setattr(lambda_svc, name, by_name(getattr(lambda_svc, name)))


def _count_every_invocation() -> None:
    """Also publish the metrics of invocations by a queue, and under the alias of the version.

    MiniStack publishes those of direct invocations, under the function's name. Remove this when
    ``tests/integration/test_alarms.py`` passes without it.
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    """
    from ministack.services import cloudwatch, lambda_svc

    execute = lambda_svc._execute_function_dispatch  # noqa: SLF001 # there is no public hook

    def publish(name: str, metrics: dict[str, float], version: str = "") -> None:
        aliases = lambda_svc._functions[name]["aliases"]  # noqa: SLF001
        live = [alias for alias, of in aliases.items() if not version or of["FunctionVersion"] == version]
        for dimensions in [{}, *({"Resource": f"{name}:{alias}"} for alias in live)]:
            for metric, value in metrics.items():
                unit = "Milliseconds" if metric == "Duration" else "Count"
                cloudwatch.record_metric("AWS/Lambda", metric, value, unit, {"FunctionName": name, **dimensions})

    def executed(function: Any, config: dict[str, Any], event: Any, request_id: str, started: float) -> Any:
        result = execute(function, config, event, request_id, started)
        duration = (time() - started) * 1000
        errors = float(bool(result.get("error")))
        metrics = {"Invocations": 1.0, "Errors": errors, "Throttles": 0.0, "Duration": duration}
        publish(config["FunctionName"], metrics, config.get("Version", "$LATEST"))
        return result

    def emitted(name: str, duration_ms: float, *, error: bool, throttle: bool) -> None:
        del error
        if throttle and not duration_ms:  # with a duration it would be counted twice
            publish(name, {"Throttles": 1.0})

    lambda_svc._execute_function_dispatch = executed  # noqa: SLF001
    lambda_svc._emit_lambda_metrics = emitted  # noqa: SLF001


def _end_every_log() -> None:
    """Let an invocation have its whole log, and no other, on a busy machine too: its process says where it ends.

    MiniStack takes a log for complete when no line came for 5 ms. A later line counts as one of the next invocation.
    Remove this when ``tests/integration/test_events.py`` passes without it on a busy machine.
    """
    from ministack.core import lambda_runtime

    end, answer = "-- end of the log --", "        _real_stdout.flush()\n\nrun()"
    script = lambda_runtime._PYTHON_WORKER_SCRIPT  # noqa: SLF001 # there is no public hook
    if script.count(answer) != 1:
        raise ValueError("MiniStack's processes answer otherwise.")
    said = script.replace(answer, f"        print({end!r}, file=sys.stderr, flush=True)\n{answer}")

    def whole_log(worker: Any) -> str:
        lines = [""]
        patience = 10 if worker._proc else 0.2  # noqa: SLF001 # one that died does not say it
        with suppress(Empty):
            while not lines[-1].endswith(end):
                lines.append(worker._stderr_queue.get(timeout=patience))  # noqa: SLF001
        return "\n".join(lines).removesuffix(end).strip("\n")

    lambda_runtime._PYTHON_WORKER_SCRIPT = said  # noqa: SLF001
    lambda_runtime.Worker._drain_stderr_bounded = whole_log  # noqa: SLF001


def _reserve_concurrency_of_versions() -> None:
    """Apply a function's reserved concurrency to its versions. MiniStack does not.

    Remove this when ``tests/integration/test_alarms.py`` passes without it.
    """
    from ministack.services import lambda_svc

    lambda_svc._reserved_concurrency = lambda _, config: (  # noqa: SLF001 # there is no public hook
        (lambda_svc._functions.get(config["FunctionName"]) or {}).get("concurrency")  # noqa: SLF001
    )


def _render_again_aside() -> None:
    """Let what is rendered again have processes of its own, of lower priority.

    In AWS every function has processors of its own. On a laptop, live uploads would wait behind `make rerender`.
    This stays.
    """
    from ministack.core import lambda_runtime
    from ministack.services import lambda_svc

    is_aside = ContextVar("is_aside", default=False)
    run_batch, acquire = lambda_svc._run_sqs_batch, lambda_svc.acquire_worker  # noqa: SLF001
    find_program = lambda_runtime._detect_runtime_binary  # noqa: SLF001

    def run_batch_of(esm: dict[str, Any], *rest: Any) -> None:
        is_aside.set(":darkroom-rerenders-" in esm["EventSourceArn"])  # in a thread of its own
        run_batch(esm, *rest)

    def acquire_one(*args: Any, qualifier: str = "$LATEST", **options: Any) -> Any:
        return acquire(*args, qualifier=f"{qualifier}:aside" if is_aside.get() else qualifier, **options)

    @cache
    def nice(program: str) -> str:
        """A program that runs another one, and all that it starts, with a lower priority."""
        wrapper = Path(mkdtemp()) / "nice"
        wrapper.write_text(f'#!/bin/sh\nexec {_ASIDE} {shlex.quote(program)} "$@"\n')
        wrapper.chmod(0o700)
        return str(wrapper)

    def find_program_of(runtime: str) -> tuple[str, str]:
        program, script = find_program(runtime)
        return nice(program) if program and is_aside.get() else program, script

    lambda_svc._run_sqs_batch, lambda_svc.acquire_worker = run_batch_of, acquire_one  # noqa: SLF001
    lambda_runtime._detect_runtime_binary = find_program_of  # noqa: SLF001
