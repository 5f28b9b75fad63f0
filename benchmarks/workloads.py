"""What is asked of every server: one entry a workload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KIB = 1024
MIB = 1024 * KIB

HELLO = "benchmarks.apps.hello:app"
DJANGO = "benchmarks.apps.django_site:app"
FLASK = "benchmarks.apps.flask_site:app"
SHAPES = "benchmarks.apps.shapes:app"


@dataclass(frozen=True)
class Load:
    """Requests of one kind, sent over that many connections by one process of wrk or ab."""

    path: str
    connections: int
    method: str = "GET"
    body_bytes: int = 0
    tool: Literal["wrk", "ab"] = "wrk"
    label: str = ""
    response_bytes: int | None = None
    """How long the body of each answer must be, if that is known here."""


@dataclass(frozen=True)
class Workload:
    """An application and the loads that run on it at the same time."""

    name: str
    about: str
    app: str
    loads: tuple[Load, ...]
    threads: int = 1
    """Application threads, unless the command line says otherwise."""
    processes: int = 1
    """As the threads."""
    shares_cores: bool = False
    """Whether server and load generator share all the cores of this machine, as on a box of its own."""
    idle_connections: int = 0
    """Keep-alive connections that stay open meanwhile, after one request each."""
    ceiling_threads: int = 0
    """Threads of the bare loop: one where the application's own work is the bound, as many as the server's
    where it waits; none where the loop says nothing."""


WORKLOADS = (
    Workload(
        "hello",
        "five bytes from a bare application",
        HELLO,
        (Load("/", 64, response_bytes=5),),
        ceiling_threads=1,
    ),
    Workload("hello-256", "the same, over 256 connections", HELLO, (Load("/", 256, response_bytes=5),)),
    Workload("hello-512", "the same, over 512 connections", HELLO, (Load("/", 512, response_bytes=5),)),
    Workload("hello-one", "the same, over one connection", HELLO, (Load("/", 1, response_bytes=5),)),
    Workload(
        "hello-idle",
        "the same, beside 10,000 idle connections",
        HELLO,
        (Load("/", 64, response_bytes=5),),
        idle_connections=10_000,
    ),
    Workload(
        "hello-two",
        "the same, 2 processes; server and load on all cores",
        HELLO,
        (Load("/", 64, response_bytes=5),),
        processes=2,
        shares_cores=True,
    ),
    Workload(
        "hello-close",
        "the same, HTTP/1.0 and a connection a request",
        HELLO,
        (Load("/", 64, tool="ab", response_bytes=5),),
    ),
    Workload(
        "django", "Django, plain view", DJANGO, (Load("/plain", 64, response_bytes=5),), ceiling_threads=1
    ),
    Workload(
        "django-two",
        "the same, 2 processes x 4 threads; server and load on all cores",
        DJANGO,
        (Load("/plain", 64, response_bytes=5),),
        threads=4,
        processes=2,
        shares_cores=True,
    ),
    Workload(
        "seed",
        "the first Spawning's experiment: Django, ab -c 20, a connection a request, 2 processes x 4 threads",
        DJANGO,
        (Load("/plain", 20, tool="ab", response_bytes=5),),
        threads=4,
        processes=2,
        shares_cores=True,
    ),
    Workload("flask", "Flask, plain view", FLASK, (Load("/plain", 64, response_bytes=5),), ceiling_threads=1),
    Workload("template", "Django, template page", DJANGO, (Load("/template", 64),), ceiling_threads=1),
    Workload("orm", "Django, 20 rows from sqlite by the ORM", DJANGO, (Load("/orm", 64),), ceiling_threads=1),
    Workload(
        "post-1k",
        "POST, 1 KiB echoed",
        SHAPES,
        (Load("/echo", 64, "POST", KIB, response_bytes=KIB),),
    ),
    Workload(
        "post-1m",
        "POST, 1 MiB echoed",
        SHAPES,
        (Load("/echo", 16, "POST", MIB, response_bytes=MIB),),
    ),
    Workload("large-1m", "1 MiB response", SHAPES, (Load("/large", 16, response_bytes=MIB),)),
    Workload(
        "chunks-100",
        "generator of 100 pieces of 1 KiB",
        SHAPES,
        (Load("/chunks", 64, response_bytes=100 * KIB),),
    ),
    Workload("file-10m", "wsgi.file_wrapper, 10 MiB", SHAPES, (Load("/file", 8, response_bytes=10 * MIB),)),
    Workload("busy-1ms", "1 ms of pure Python", SHAPES, (Load("/busy-1ms", 64),), ceiling_threads=1),
    Workload(
        "asleep-10ms",
        "10 ms off the GIL",
        SHAPES,
        (Load("/asleep-10ms", 64),),
        threads=16,
        ceiling_threads=16,
    ),
    Workload(
        "asleep-four",
        "the same, over four connections",
        SHAPES,
        (Load("/asleep-10ms", 4),),
        threads=16,
    ),
    Workload(
        "mixed",
        "4 connections at 20 ms of Python, 60 at an instant view",
        SHAPES,
        (Load("/instant", 60, label="instant"), Load("/busy-20ms", 4, label="20 ms")),
        threads=16,
    ),
)

SUITE = ("hello", "django", "post-1k", "large-1m", "asleep-10ms", "mixed")
"""The selection that fits in ten minutes."""

SWEEP = ("busy-1ms", "asleep-10ms", "mixed")
"""What is measured for every number of threads."""


def workload_named(name: str) -> Workload:
    """Return the entry of that name."""
    return next(workload for workload in WORKLOADS if workload.name == name)
