"""Real proxies in front of the server: nginx, HAProxy and Apache, as installed, with a configuration of ours.

Each logs the requests that it has had answered: their request line, and the number that the application gave
to the response. That is what the proxy believes to have happened.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 90.0
#: Each is another port.
START_ATTEMPTS = 5
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

#: A line of a log: the request line, escaped, and the number of the answer, if the proxy has got one.
LOGGED = re.compile(r'LOG "(?P<line>.*)" "?(?P<number>\d*)-?"?$')


@dataclass
class Proxy:
    """A proxy that runs, and where it writes its log."""

    port: int
    log: Path
    process: subprocess.Popen[bytes]

    def connect(self, source: str = "127.0.0.1", timeout_s: float = 60.0) -> socket.socket:
        """A connection of a client whose address is `source`."""
        return socket.create_connection(("127.0.0.1", self.port), timeout_s, (source, 0))

    def believed(self) -> dict[int, str]:
        """The request lines that the application has answered, by the number of the answer."""
        return {int(number): line for line, number in self._logged() if number}

    def given_up(self) -> list[str]:
        """The request lines without an answer: what the proxy refused, or waited for in vain."""
        return [line for line, number in self._logged() if not number]

    def _logged(self) -> list[tuple[str, str]]:
        matches = [LOGGED.search(line) for line in self.log.read_text("latin-1").splitlines()]
        return [(match["line"], match["number"]) for match in matches if match]


@dataclass
class Kind:
    """A kind of proxy: its program, and how to configure and start it."""

    name: str
    program: str
    #: Writes the configuration into a directory, for a port and the address behind; returns the command.
    configure: Callable[[Path, int, str], list[str]]

    @property
    def is_installed(self) -> bool:
        """Whether its program is there."""
        return shutil.which(self.program, path=PATH) is not None

    @contextlib.contextmanager
    def running(self, behind: str) -> Iterator[Proxy]:
        """One that forwards to `behind`, `127.0.0.1:8080` or `unix:/run/http.sock`."""
        # Short, as the path of a unix socket has to be, and readable for workers that are somebody else.
        directory = Path(tempfile.mkdtemp(prefix="proxy"))
        directory.chmod(0o755)
        try:
            proxy = self._started(directory, behind)
            try:
                yield proxy
            finally:
                proxy.process.terminate()
                try:
                    proxy.process.wait(START_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    proxy.process.kill()
                    proxy.process.wait()
                print(f"--- {self.name}\n{proxy.log.read_text('latin-1')[-4000:]}")
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _started(self, directory: Path, behind: str) -> Proxy:
        """None of them can be given a socket alike, so a port is guessed until one is free."""
        log = directory / "log"
        for _ in range(START_ATTEMPTS):
            port = free_port()
            command = self.configure(directory, port, behind)
            command[0] = str(shutil.which(self.program, path=PATH))
            # They open it once more by its name, so everybody has to append.
            with log.open("ab") as output:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=directory
                )
            deadline = time.monotonic() + START_TIMEOUT_S
            while process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), START_TIMEOUT_S).close()
                    return Proxy(port, log, process)
                time.sleep(0.02)
            process.kill()
            process.wait()
        raise AssertionError(f"{self.name} does not start:\n{log.read_text('latin-1')}")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_root() -> bool:
    """Whether a proxy started now would want to become somebody else."""
    return os.geteuid() == 0


# === nginx ===

NGINX = """
{load}
daemon off;
error_log stderr notice;
pid {directory}/pid;
{user}
worker_processes 2;
events {{ worker_connections 512; }}
{contexts}
"""

NGINX_HTTP = """
http {{
    log_format believed 'LOG "$request" $upstream_http_x_request_number';
    access_log /dev/stdout believed;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_header_timeout 2s;
    client_body_timeout 2s;
    keepalive_timeout 2s;
    lingering_timeout 1s;
    proxy_ignore_client_abort on;
    proxy_next_upstream off;
    {site}
}}
"""

NGINX_SITE = """
    upstream behind {{ server {behind}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        {options}
        location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
        }}
    }}
"""

NGINX_LENIENT = """
        ignore_invalid_headers off;
        underscores_in_headers on;
        merge_slashes off;
        proxy_request_buffering off;
        proxy_buffering off;
"""

NGINX_STREAM_SITE = """
stream {{
    server {{
        listen 127.0.0.1:{port};
        proxy_pass {behind};
        proxy_bind {source};
        proxy_protocol on;
    }}
}}
"""


def nginx(directory: Path, contexts: str, load: str = "") -> list[str]:
    """Starts nginx with these contexts beside the usual ones."""
    user = "user root;" if is_root() else ""
    text = NGINX.format(load=load, directory=directory, user=user, contexts=contexts)
    (directory / "nginx.conf").write_text(text)
    return ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", "stderr"]


def nginx_http(directory: Path, port: int, site: str) -> list[str]:
    """Starts nginx with this site."""
    return nginx(directory, NGINX_HTTP.format(directory=directory, port=port, site=site))


def nginx_with(options: str) -> Callable[[Path, int, str], list[str]]:
    """The usual site, with options."""
    return lambda directory, port, behind: nginx_http(
        directory, port, NGINX_SITE.format(behind=behind, port=port, options=options)
    )


def nginx_stream_from(source: str) -> Callable[[Path, int, str], list[str]]:
    """Relays bytes, from an address, behind a header of the PROXY protocol, version 1."""
    return lambda directory, port, behind: nginx(
        directory,
        NGINX_STREAM_SITE.format(port=port, behind=behind, source=source),
        f"load_module {NGINX_STREAM};",
    )


# === HAProxy ===

#: With one thread: where two want to log at once, HAProxy waits a moment only and then drops a line.
HAPROXY = """
global
    nbthread 1
    log stdout format raw local0
    maxconn 512
defaults
    log global
    timeout connect 60s
    timeout check 60s
    timeout client 2s
    timeout http-request 2s
    timeout http-keep-alive 2s
    timeout server 60s
    log-format 'LOG %{{+Q}}r "%[var(txn.number)]"'
{site}
"""

HAPROXY_SITE = """
frontend front
    mode http
    bind 127.0.0.1:{port}
    default_backend behind
    http-response set-var(txn.number) res.hdr(x-request-number)
    {front}
backend behind
    mode http
    http-reuse always
    {back}
    server app {behind} {server}
"""


def haproxy(directory: Path, site: str) -> list[str]:
    """Starts HAProxy with this site."""
    (directory / "haproxy.cfg").write_text(HAPROXY.format(site=site))
    return ["haproxy", "-db", "-f", str(directory / "haproxy.cfg")]


def haproxy_with(front: str = "", back: str = "", server: str = "") -> Callable[[Path, int, str], list[str]]:
    """The usual site, with options of its three parts."""
    return lambda directory, port, behind: haproxy(
        directory,
        HAPROXY_SITE.format(port=port, behind=behind, front=front, back=back, server=server),
    )


# === Apache ===

APACHE_MODULES = Path("/usr/lib/apache2/modules")
APACHE = """
ServerRoot {directory}
PidFile {directory}/pid
DefaultRuntimeDir {directory}
Listen 127.0.0.1:{port}
ServerName localhost
ErrorLog /dev/stderr
{user}
{modules}
LogFormat "LOG \\"%r\\" \\"%{{X-Request-Number}}o\\"" believed
CustomLog {log} believed
Timeout 60
KeepAliveTimeout 2
MaxKeepAliveRequests 0
RequestReadTimeout header=2 body=2
{site}
"""

APACHE_SITE = """
{options}
AllowEncodedSlashes NoDecode
ProxyPreserveHost On
ProxyPass "/" "http://{behind}/" nocanon retry=0
"""


def apache(directory: Path, port: int, site: str) -> list[str]:
    """Starts Apache with this site."""
    names = [
        *["mpm_event", "authz_core", "headers", "proxy", "proxy_http", "reqtimeout"],
        *["proxy_balancer", "slotmem_shm", "lbmethod_byrequests", "watchdog", "proxy_hcheck"],
    ]
    modules = "\n".join(
        f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so"
        for name in names
        # Some builds have some of them built in.
        if (APACHE_MODULES / f"mod_{name}.so").exists()
    )
    user = "User www-data\nGroup www-data" if is_root() else ""
    text = APACHE.format(
        directory=directory, port=port, user=user, modules=modules, site=site, log=directory / "log"
    )
    (directory / "apache.conf").write_text(text)
    return ["apache2", "-DFOREGROUND", "-f", str(directory / "apache.conf")]


def apache_with(options: str) -> Callable[[Path, int, str], list[str]]:
    """The usual site, with options."""
    return lambda directory, port, behind: apache(
        directory, port, APACHE_SITE.format(behind=behind, options=options)
    )


# === All of them ===

#: As strict as they come, and as lenient as they can be made.
KINDS = [
    Kind("nginx", "nginx", nginx_with("")),
    Kind("nginx-lenient", "nginx", nginx_with(NGINX_LENIENT)),
    Kind("haproxy", "haproxy", haproxy_with()),
    Kind(
        "haproxy-lenient",
        "haproxy",
        haproxy_with("option accept-invalid-http-request", "option accept-invalid-http-response"),
    ),
    Kind("apache", "apache2", apache_with("")),
    Kind("apache-lenient", "apache2", apache_with("HttpProtocolOptions Unsafe LenientMethods Allow0.9")),
]
