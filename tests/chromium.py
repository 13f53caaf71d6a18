"""A headless Chromium, led over the DevTools protocol by a pipe, so without a driver of its own.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
COMMAND = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
_SECONDS = 180
_KEYS = {"Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), "Space": (" ", 32, " ")}


class Page:
    """One tab."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._read = b""
        self._ids = count(1)
        self._session: str | None = None

    def open(self, url: str) -> None:
        """Open a page and wait for its scripts."""
        if self._session is None:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            self.call("Page.enable")
        self.call("Page.navigate", url=url)
        # Until then, what is asked may be answered by the page before, which may have the same address.
        while self._next().get("method") != "Page.loadEventFired":
            pass
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; returns its result."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def run(self, expression: str) -> Any:
        """Evaluate JavaScript; a promise is awaited."""
        told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait_for(self, condition: str) -> Any:
        """Wait until an expression is true; returns its value."""
        return self.run(
            "new Promise((yes, no) => { const end = Date.now() + 150000; const look = () => {"
            f" const value = (() => {{ try {{ return {condition}; }} catch {{ return false; }} }})();"
            " if (value) yes(value);"
            f" else if (Date.now() > end) no(new Error({json.dumps(condition)} + document.body.innerText));"
            " else setTimeout(look, 30); }; look(); })"
        )

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in a file input, as a person does in the dialog."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def press(self, key: str) -> None:
        """Press and release a key."""
        name, code, text = _KEYS[key]
        about = {"key": name, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def named(self) -> list[tuple[str, str]]:
        """What a screen reader finds: the role and the name of each node that has a role."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"] and node["role"]["type"] == "role"
        ]

    def _next(self) -> dict[str, Any]:
        end = monotonic() + _SECONDS
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._from], [], [], max(0, end - monotonic()))
            assert ready, "Chromium does not answer."
            chunk = os.read(self._from, 1 << 20)
            assert chunk, "Chromium has ended."
            self._read += chunk
        message, _, self._read = self._read.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


@contextmanager
def chromium(folder: Path, arguments: Sequence[str] = ()) -> Iterator[Page]:
    """A browser with a profile of its own. ``folder`` is kept by the caller."""
    assert PROGRAM
    its_end, ours = os.pipe()
    from_browser, its_other = os.pipe()

    def put_in_place() -> None:  # it reads from 3 and writes to 4
        read, write = os.dup(its_end), os.dup(its_other)
        os.dup2(read, 3)
        os.dup2(write, 4)

    command = [PROGRAM, *COMMAND, "--remote-debugging-pipe", f"--user-data-dir={folder / 'chromium'}", *arguments]
    with subprocess.Popen(  # noqa: S603
        command,
        env=os.environ | {"HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=put_in_place,
    ) as browser:
        for end in (its_end, its_other):
            os.close(end)
        try:
            yield Page(ours, from_browser)
        finally:
            browser.terminate()
            for end in (ours, from_browser):
                os.close(end)
