"""A headless Chromium for tests, driven over chromedriver's W3C WebDriver protocol: no package, no download.

Debian has both (`apt-get install chromium-driver`); tests skip without them. What the protocol lacks (emulated media,
a phone's width, logs) comes from chromedriver's own commands.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's own word
KEYS = {"left": "\ue012", "right": "\ue014", "home": "\ue011", "end": "\ue010", "page up": "\ue00e"}


class Browser:
    """One page at a time."""

    def __init__(self, driver: str) -> None:
        self._driver = driver
        self._session = ""

    def open(self, page: Path) -> Self:
        """Load a file, forgetting what was logged before."""
        self.logs("browser"), self.logs("performance")
        self._send("POST", "url", url=page.resolve().as_uri())
        return self

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what the body of a function returns on the page."""
        return self._send("POST", "execute/sync", script=script, args=list(arguments))

    def text(self, selector: str) -> str:
        """Return the visible text of an element."""
        found: str = self.run("return document.querySelector(arguments[0]).innerText", selector)
        return found

    def press(self, selector: str, *keys: str) -> None:
        """Type keys into an element, by their names in KEYS or as text."""
        text = "".join(KEYS.get(key, key) for key in keys)
        self._send("POST", f"element/{self._find(selector)}/value", text=text)

    def click(self, selector: str) -> None:
        """Click an element."""
        self._send("POST", f"element/{self._find(selector)}/click")

    def emulate(self, command: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self._send("POST", "goog/cdp/execute", cmd=command, params=parameters)

    def resize(self, width: int, height: int = 900) -> None:
        """Give the page this size, as a phone would."""
        self.emulate(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def scheme(self, name: str) -> None:
        """Prefer the color scheme light or dark."""
        self.emulate("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def logs(self, kind: str) -> list[dict[str, Any]]:
        """Return what was logged since it was last asked: of `browser` (console) or `performance` (network)."""
        found: list[dict[str, Any]] = self._send("POST", "se/log", type=kind)
        return found

    def requests(self) -> list[str]:
        """Return the addresses that files asked for since one was opened; the browser's own pages ask for more."""
        events = [json.loads(entry["message"])["message"] for entry in self.logs("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent if one["documentURL"].startswith("file:")]

    def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG."""
        size = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        taken = self.emulate("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(taken["data"]))

    def pdf(self, path: Path) -> None:
        """Write the page as it prints."""
        path.write_bytes(base64.b64decode(self._send("POST", "print", background=False)))

    def _find(self, selector: str) -> str:
        found: str = self._send("POST", "element", using="css selector", value=selector)[ELEMENT]
        return found

    def _send(self, method: str, path: str, **body: Any) -> Any:
        where = f"{self._driver}/session{f'/{self._session}' if self._session else ''}/{path}".rstrip("/")
        request = urllib.request.Request(where, json.dumps(body).encode(), method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def start(self, folder: Path, scripts: bool) -> None:
        """Begin a session with a new profile."""
        chosen = {
            "goog:chromeOptions": {
                "binary": CHROMIUM,
                "args": [*ARGUMENTS, f"--user-data-dir={folder}"],
                "prefs": {} if scripts else {"profile.managed_default_content_settings.javascript": 2},
            },
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self._session = self._send("POST", "", capabilities={"alwaysMatch": chosen})["sessionId"]

    def quit(self) -> None:
        """End the session."""
        request = urllib.request.Request(f"{self._driver}/session/{self._session}", method="DELETE")
        urllib.request.urlopen(request, timeout=60).close()


@contextmanager
def browser(folder: Path, *, scripts: bool = True) -> Iterator[Browser]:
    """Run a browser whose profile lies in a folder, with or without JavaScript."""
    with subprocess.Popen(
        [str(DRIVER), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        try:
            port = next(
                line.split("port ")[1].strip(".\n") for line in process.stdout if "started successfully" in line
            )
            found = Browser(f"http://127.0.0.1:{port}")
            began = time.monotonic()
            found.start(folder / f"chromium-{began}", scripts)
            yield found
            found.quit()
        finally:
            process.terminate()
