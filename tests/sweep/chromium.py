"""A headless Chromium that tests look at pages with, by DevTools' protocol over a pair of pipes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 60.0


class Page:
    """One page of the browser; what it asks the network for is kept in `requests`."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log"):
            self.call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Load a page and wait until all of it is there."""
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=url)
        end = time.monotonic() + _SECONDS
        while self.evaluate("location.href") != url or self.evaluate("document.readyState") != "complete":
            assert time.monotonic() < end, f"{url} is not loaded after {_SECONDS} s"
            time.sleep(0.05)

    def resize(self, width: int, height: int = 900) -> None:
        """Give the page the size of another screen, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, as a debugger sees it, whatever the page allows itself."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, file: Path) -> None:
        """Write the whole page as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command, wait for its answer."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (message := self._read()).get("id") != self._number:
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            elif message.get("method") == "Log.entryAdded":
                self.complaints.append(message["params"]["entry"]["text"])
        assert "error" not in message, message
        return dict(message["result"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._answers, 1 << 20)
            assert part, "Chromium has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """Start a browser without access to any network, with a new profile; end it afterwards."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    assert program, "Chromium is missing; `apt-get install chromium` installs it"
    # Commands go in at 3, answers come out of 4: the shell puts the pipes there.
    from_us, commands = os.pipe()
    answers, to_us = os.pipe()
    flags = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run"]
    flags += ["--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # which Chromium refuses to set up for root
    script = f'exec "$0" "$@" 3<&{from_us} 4>&{to_us}'
    browser = subprocess.Popen(
        ["bash", "-c", script, program, *flags],
        pass_fds=(from_us, to_us),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(from_us)
    os.close(to_us)
    try:
        yield Page(commands, answers)
    finally:
        os.close(commands)  # it ends when nobody commands it any more
        try:
            browser.wait(20)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()
        os.close(answers)
