"""A real browser without packages: Chromium's DevTools protocol over a pipe, no network."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
_FLAGS = ("--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
          "--no-first-run", "--disable-background-networking",
          "--disable-dev-shm-usage")  # fmt: skip
_SECONDS = 120.0


class Browser:
    """One page of a headless browser, at the width of a phone.

    Attributes:
        logged: what the browser's console and its security policy said.
    """

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._rest, self._number = to, back, b"", 0
        self.logged: list[str] = []
        made = self._send("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._send("Target.attachToTarget", {"targetId": made, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", **PHONE)

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Call a method of the protocol on the page."""
        return self._send(method, arguments, self._session)

    def open(self, path: Path) -> None:
        """Open a file and wait for it."""
        self.call("Page.navigate", url=path.as_uri())
        self.until(
            lambda: self.js("document.readyState + location.href") == f"complete{path.as_uri()}"
        )

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                          userGesture=True)  # fmt: skip
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def tap(self, selector: str) -> None:
        """Press an element with a finger, as a person would: it must be visible there."""
        x, y = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "const p = [r.x + r.width / 2, r.y + r.height / 2];"
            "if (!e.contains(document.elementFromPoint(...p))) throw Error('covered');"
            "return p })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, name: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name)

    def screenshot(self, path: Path) -> None:
        """Write what is on the screen."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def until(self, true: Callable[[], object]) -> None:
        """Wait until something is true."""
        end = time.monotonic() + _SECONDS
        while not true():
            assert time.monotonic() < end, "the browser takes too long"
            time.sleep(0.05)

    def _send(self, method: str, arguments: dict[str, Any], session: str = "") -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        message |= {"sessionId": session} if session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.logged.append(json.dumps(answer["params"]))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._back, 1 << 16)
            assert part, "the browser ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium; it keeps its profile and its downloads in `folder`."""
    assert CHROMIUM
    to_read, to = os.pipe()
    back, back_write = os.pipe()

    def places() -> None:
        # Chromium reads commands from 3 and answers on 4.
        high = [os.dup2(fd, place) for fd, place in ((to_read, 103), (back_write, 104))]
        for fd, place in zip(high, (3, 4), strict=True):
            os.dup2(fd, place)

    process = subprocess.Popen(
        [CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}"],
        preexec_fn=places,
        close_fds=False,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for fd in (to_read, back_write):
        os.close(fd)
    try:
        page = Browser(to, back)
        page._send(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
        )
        yield page
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its children too
        process.wait()
        os.close(to)
        os.close(back)
