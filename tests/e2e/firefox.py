"""A Firefox without a driver: it takes commands on a port, as geckodriver sends them."""

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.e2e.conftest import free_port

FIREFOX_NAMES = ("firefox-esr", "firefox")
# Whatever it asks of a network goes to a port where nobody listens.
PREFERENCES = """
user_pref("marionette.port", {port});
user_pref("network.proxy.type", 1);
user_pref("network.proxy.http", "127.0.0.1");
user_pref("network.proxy.http_port", 9);
user_pref("network.proxy.ssl", "127.0.0.1");
user_pref("network.proxy.ssl_port", 9);
"""


def find_firefox() -> str | None:
    """Path of a Firefox on this machine."""
    return next(filter(None, map(shutil.which, FIREFOX_NAMES)), None)


class Firefox:
    """One window of its own profile, which lies in `folder`."""

    def __init__(self, path: str, folder: Path) -> None:
        port = free_port()
        (folder / "user.js").write_text(PREFERENCES.format(port=port), encoding="utf-8")
        options = ["--headless", "--marionette", "--no-remote", "--profile", str(folder)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([path, *options], **quiet)
        self._socket = self._connected(port)
        self._answer()  # it greets
        self.ask("WebDriver:NewSession")

    def _connected(self, port: int) -> socket.socket:
        for _ in range(300):
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=60)
            except ConnectionRefusedError:
                time.sleep(0.1)
        self._process.kill()
        raise RuntimeError("Firefox did not answer within half a minute")

    def ask(self, command: str, **arguments: object) -> object:
        """What a command gives, by its name in WebDriver's protocol."""
        message = json.dumps([0, 0, command, arguments]).encode()
        self._socket.sendall(f"{len(message)}:".encode() + message)
        _, _, error, result = self._answer()
        if error:
            raise RuntimeError(f"{command}: {error['error']}: {error['message']}")
        return result.get("value") if isinstance(result, dict) else result

    def _answer(self) -> list:
        length = b""
        while not length.endswith(b":"):
            length += self._socket.recv(1)
        text = b""
        while len(text) < int(length[:-1]):
            text += self._socket.recv(1 << 16)
        return json.loads(text)

    def evaluate(self, expression: str) -> object:
        """What an expression of the page is worth, once it is settled."""
        script = f"const [done] = arguments; Promise.resolve({expression}).then(done);"
        return self.ask("WebDriver:ExecuteAsyncScript", script=script, args=[])

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.terminate()
        self._process.wait()
