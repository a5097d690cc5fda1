"""A headless Chromium with one tab, driven over its DevTools protocol.

find_browser()  →  "/usr/bin/chromium", or None
async with browsing(program, folder) as tab:        the browser ends with the block
    await tab.open(file)
    await tab.resize(390, 844)
    await tab.evaluate("document.title")            what JavaScript says of the page
    tab.requests, tab.messages                      what the page asked for and complained of since it was opened
"""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 20.0
"""For each thing that is waited for."""
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-crash-reporter"),
    *("--disable-extensions", "--hide-scrollbars", "--force-color-profile=srgb"),
)


class BrowserError(Exception):
    """The browser did not do what it was asked."""


def find_browser() -> str | None:
    """The program that the variable CHROMIUM names, or the first of the usual names that is installed."""
    named = os.environ.get("CHROMIUM")
    return next(filter(None, map(shutil.which, [named] if named else NAMES)), None)


@asynccontextmanager
async def browsing(program: str, folder: Path) -> AsyncIterator["Tab"]:
    """A browser that keeps its files in the folder and ends with the block."""
    profile, log = folder / "profile", folder / "browser.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        address = await _address(process, profile / "DevToolsActivePort", log)
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            tab = Tab(socket)
            try:
                await tab.attach()
                yield tab
            finally:
                await tab.close()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(SECONDS)


class Tab:
    """The page that the browser shows."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        """The address of everything that the page asked for, itself first."""
        self.messages: list[str] = []
        """Errors that nobody caught, what was written to the console, and the browser's own complaints."""
        self._socket = socket
        self._session: str | None = None
        self._numbers = count()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())

    async def attach(self) -> None:
        """Take over the tab that the browser came up with."""
        targets = (await self._command("Target.getTargets"))["targetInfos"]
        target = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = await self._command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self._command(f"{domain}.enable")

    async def close(self) -> None:
        """Listen no more."""
        self._reading.cancel()
        await asyncio.wait([self._reading], timeout=SECONDS)

    async def open(self, file: Path) -> None:
        """Show a file; returns when all of it is loaded and its scripts have run."""
        self.requests.clear()
        self.messages.clear()
        begun = await self._command("Page.navigate", url=file.resolve().as_uri())
        if "errorText" in begun:
            raise BrowserError(f"{file}: {begun['errorText']}")
        loaded = "document.readyState === 'complete' ? done() : addEventListener('load', () => done())"
        await self.evaluate(f"new Promise((done) => {{ {loaded} }})")

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, or what a promise of it becomes."""
        told = await self._command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in told:
            raise BrowserError(_exception(told["exceptionDetails"]))
        return told["result"].get("value")

    async def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Make the window this large, in CSS pixels; a phone has a touch screen and two dots to the pixel."""
        await self._command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    async def show_as(self, *, media: str = "screen", scheme: str = "light") -> None:
        """On the screen or as in print, in light colours or dark ones."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self._command("Emulation.setEmulatedMedia", media=media, features=features)

    async def type_text(self, text: str) -> None:
        """Write where the focus is, as a hand would."""
        await self._command("Input.insertText", text=text)

    async def screenshot(self, file: Path) -> None:
        """The whole page, however long, as a PNG."""
        taken = await self._command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))

    async def _command(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        try:
            async with asyncio.timeout(SECONDS):
                await self._socket.send_json(message)
                await asyncio.wait([answer, self._reading], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise BrowserError(f"{method}: no answer within {SECONDS:g} s") from None
        if not answer.done():
            raise BrowserError(f"{method}: the browser has gone")
        told = answer.result()
        if "error" in told:
            raise BrowserError(f"{method}: {told['error']['message']}")
        return told["result"]

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            else:
                self._note(told["method"], told["params"])

    def _note(self, event: str, told: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.messages.append(_exception(told["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled":
            words = (str(argument.get("value", argument.get("description"))) for argument in told["args"])
            self.messages.append(f"{told['type']}: {' '.join(words)}")
        elif event == "Log.entryAdded":
            self.messages.append(f"{told['entry']['level']}: {told['entry']['text']}")


async def _address(process: subprocess.Popen[bytes], told: Path, log: Path) -> str:
    """Where the browser listens, once it has written it down."""
    deadline = asyncio.get_running_loop().time() + SECONDS
    while asyncio.get_running_loop().time() < deadline and process.poll() is None:
        if told.is_file() and len(lines := told.read_text().split()) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await asyncio.sleep(0.05)
    raise BrowserError(f"{process.args}: did not come up; it said: {log.read_text(errors='replace')[-2000:]}")


def _exception(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])
