"""Start the installed server, ask it for one page and stop it, which every wheel must be able to do."""

import socket
import subprocess
import sys
import time
import urllib.request

LIMIT_S = 60


def main() -> None:
    """Serve an application of this directory's neighbours on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    with subprocess.Popen(["spawn", "--port", str(port), "--processes", "2", "apps.hello:app"]) as server:
        try:
            body = fetch(url, server)
        finally:
            server.terminate()
    assert body, "the response is empty"
    sys.exit(server.returncode)


def fetch(url: str, server: "subprocess.Popen[bytes]") -> bytes:
    """The body of the first response, once there is one."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=LIMIT_S) as response:
                return bytes(response.read())
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    main()
