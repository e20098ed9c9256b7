"""A headless Chromium, driven over the WebDriver protocol (https://www.w3.org/TR/webdriver2/)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import tempfile
import time
from typing import TYPE_CHECKING, Any, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
PATIENCE = 60.0
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Space": " "}


class Page:
    """One window."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def open(self, url: str) -> None:
        await self._post("url", url=url)

    async def run(self, script: str, *args: Any) -> Any:
        """What a *script* returns."""
        return await self._post("execute/sync", script=script, args=list(args))

    async def until(self, script: str, wanted: Callable[[Any], object] = bool) -> Any:
        """Wait for what a *script* returns to be as *wanted*."""
        deadline, got = time.monotonic() + PATIENCE, None
        while time.monotonic() < deadline:
            got = await self.run(f"return {script}")
            if wanted(got):
                return got
            await asyncio.sleep(0.05)
        raise AssertionError(f"{script} is {got!r}")

    async def text(self, selector: str) -> str:
        return str(await self.run("return document.querySelector(arguments[0]).innerText", selector))

    async def click(self, selector: str) -> None:
        found = await self._post("element", using="css selector", value=selector)
        await self._post(f"element/{found[ELEMENT]}/click")

    async def write(self, selector: str, text: str) -> None:
        found = await self._post("element", using="css selector", value=selector)
        await self._post(f"element/{found[ELEMENT]}/value", text=text)

    async def press(self, *names: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        keys = [KEYS[name] for name in names]
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        await self._post("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    async def look(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """See the page in a window of this size, and in the dark."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self._devtools("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._devtools("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self) -> bytes:
        async with self._session.get(f"{self._url}/screenshot") as response:
            return base64.b64decode((await response.json())["value"])

    async def complaints(self) -> list[str]:
        """What the browser has complained of: mistakes of the script, and what the policy forbade."""
        entries = await self._post("se/log", type="browser")
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    async def _devtools(self, command: str, **params: Any) -> Any:
        return await self._post("goog/cdp/execute", cmd=command, params=params)

    async def _post(self, what: str, **body: Any) -> Any:
        async with self._session.post(f"{self._url}/{what}", json=body) as response:
            doc = await response.json()
            assert response.status == 200, doc["value"]
            return doc["value"]


class Browser:
    """Starts windows, each with a profile of its own."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    @contextlib.asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            options = {"args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            async with self._session.post(
                f"{self._url}/session", json={"capabilities": {"alwaysMatch": wanted}}
            ) as response:
                doc = await response.json()
                assert response.status == 200, doc
            url = f"{self._url}/session/{doc['value']['sessionId']}"
            try:
                yield Page(self._session, url)
            finally:
                async with self._session.delete(url) as response:
                    await response.read()

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls) -> AsyncIterator[Self]:
        process = await asyncio.create_subprocess_exec(
            *("chromedriver", "--port=0"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            assert process.stdout is not None
            port = ""
            async with asyncio.timeout(PATIENCE):
                while not port:
                    line = (await process.stdout.readline()).decode()
                    assert line, "chromedriver did not start"
                    if "on port " in line and "successfully" in line:
                        port = line.rpartition("on port ")[2].strip(" .\n")
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
                yield cls(session, f"http://127.0.0.1:{port}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
