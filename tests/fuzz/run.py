#!/usr/bin/env python3
"""Builds the fuzz targets with stable Rust, runs them, and says what was found.

    run.py                 ten million executions of each target, as many targets at once as there are CPUs
    run.py --runs 50000    fewer
    run.py head framing    these alone
    run.py --fast          two or three times as many a second; best from what a run without it has found
    run.py --sanitizer     with AddressSanitizer, which watches what `unsafe` code does; half as many a second

What is found goes to `fuzz/<target>/` in cargo's target directory, with all inputs that reached new code.
Exits with 1 if there is a finding, or if the canary was not one.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET_DIRECTORY = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))

# What `cargo fuzz` passes, less the sanitizer.
COVERAGE_FLAGS = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "--cfg",
    "fuzzing",
]
# Tells the fuzzer what values are compared with, which costs more than what it looks at.
COMPARES_FLAG = "-Cllvm-args=-sanitizer-coverage-trace-compares"
# Stable compilers bring what it needs, and know it when they are told that they are none.
SANITIZER_FLAGS = ["-Zsanitizer=address"]
SANITIZER_ENVIRONMENT = {"RUSTC_BOOTSTRAP": "1"}

# By target: the words its inputs are made of.
DICTIONARIES = {
    "canary": "http.dict",
    "chunked": "http.dict",
    "config_file": "options.dict",
    "connection": "http.dict",
    "control": "options.dict",
    "environment": "options.dict",
    "forwarded": "forwarded.dict",
    "framing": "http.dict",
    "head": "http.dict",
    "proxy_protocol": "proxy.dict",
    "response_head": "response.dict",
    "scoreboard": None,
    "words": "options.dict",
}
CANARY = "canary"
RUNS = 10_000_000
CANARY_RUNS = 2_000_000
# Where the 4096 bytes of the others would only take longer.
INPUT_BYTES_MAX = {"config_file": 512, "control": 1024, "environment": 256, "scoreboard": 512, "words": 256}
# By the wall clock, and the machine may have more to do.
INPUT_SECONDS_MAX = 60
MEMORY_MIB_MAX = 1024
# libFuzzer's own status for a crash.
EXIT_FOUND = 77


@dataclass
class Outcome:
    """How the run of one target ended."""

    target: str
    executions: int
    seconds: float
    edges: int
    finding: Path | None
    log: Path
    status: int

    def row(self) -> str:
        """One line of the table."""
        per_second = self.executions / max(self.seconds, 0.001)
        verdict = "nothing found" if self.status == 0 else f"FOUND: {self.finding or self.log}"
        if self.target == CANARY:
            verdict = "found, as it should be" if self.is_good() else "the planted bug was NOT FOUND"
        return f"{self.target:14} {self.executions:>11,} {per_second:>9,.0f}/s {self.edges:>6} {verdict}"

    def is_good(self) -> bool:
        """Whether nothing is wrong, with the server or the fuzzer."""
        return self.status == (EXIT_FOUND if self.target == CANARY else 0)


def main() -> int:
    """Builds, runs, reports."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", choices=[[], *DICTIONARIES], metavar="target")
    parser.add_argument("--runs", type=int, default=RUNS, help="executions of each target")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="targets at once")
    parser.add_argument("--fast", action="store_true", help="do not trace comparisons")
    parser.add_argument("--sanitizer", action="store_true", help="with AddressSanitizer")
    parser.add_argument("--seed", type=int, default=0, help="0 is another one each time")
    options = parser.parse_args()

    programs = build(fast=options.fast, sanitizer=options.sanitizer)
    targets = options.targets or list(DICTIONARIES)
    print(f"{'target':14} {'executions':>11} {'rate':>11} {'edges':>6} result", flush=True)
    outcomes = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        runs = [pool.submit(run, programs, target, options.runs, options.seed) for target in targets]
        for done in concurrent.futures.as_completed(runs):
            outcomes.append(done.result())
            print(outcomes[-1].row(), flush=True)
    for outcome in outcomes:
        if not outcome.is_good():
            print(f"\n{outcome.target}, the end of {outcome.log}:")
            print("\n".join(outcome.log.read_text(errors="replace").splitlines()[-30:]))
            print(f"again: {programs / outcome.target} {outcome.finding or ''}")
    return 0 if all(outcome.is_good() for outcome in outcomes) else 1


def build(*, fast: bool, sanitizer: bool) -> Path:
    """The directory of the built targets."""
    flags = COVERAGE_FLAGS + [COMPARES_FLAG] * (not fast) + SANITIZER_FLAGS * sanitizer
    version = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    host = next(line.split()[1] for line in version.splitlines() if line.startswith("host:"))
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(TARGET_DIRECTORY),
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
        "RUSTC_WRAPPER": str(HERE / "rustc.sh"),
        **(SANITIZER_ENVIRONMENT if sanitizer else {}),
    }
    # With a target named, build scripts and macros are spared the flags. Not --locked: a crate that the
    # server has come to need is added to the lock here.
    command = ["cargo", "build", "--quiet", "--release", "--bins", "--target", host]
    subprocess.run(command, cwd=HERE, env=environment, check=True)
    return TARGET_DIRECTORY / host / "release"


def run(programs: Path, target: str, runs: int, seed: int) -> Outcome:
    """Runs one target to its end or first finding."""
    directory = TARGET_DIRECTORY / "fuzz" / target
    corpus = directory / "corpus"
    if target == CANARY:
        # What it once found would prove nothing about this run.
        shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True, exist_ok=True)
    known = set(directory.glob("*-*"))
    log = directory / "log"
    command = [
        str(programs / target),
        f"-runs={max(runs, CANARY_RUNS) if target == CANARY else runs}",
        f"-seed={seed}",
        f"-max_len={INPUT_BYTES_MAX.get(target, 4096)}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}",
        f"-artifact_prefix={directory}/",
        "-print_final_stats=1",
    ]
    if dictionary := DICTIONARIES[target]:
        command.append(f"-dict={HERE / dictionary}")
    # New inputs go to the first directory.
    command += [str(corpus), str(HERE / "corpus" / target)]
    start = time.monotonic()
    with log.open("wb") as output:
        status = subprocess.run(command, cwd=directory, stdout=output, stderr=output).returncode
    text = log.read_text(errors="replace")
    found = sorted(set(directory.glob("*-*")) - known)
    return Outcome(
        target=target,
        executions=last_number(r"stat::number_of_executed_units: *(\d+)", text),
        seconds=time.monotonic() - start,
        edges=last_number(r" cov: (\d+)", text),
        finding=found[0] if found else None,
        log=log,
        status=status,
    )


def last_number(pattern: str, text: str) -> int:
    """The last number in `text` that `pattern` captures, 0 if there is none."""
    numbers = re.findall(pattern, text)
    return int(numbers[-1]) if numbers else 0


if __name__ == "__main__":
    sys.exit(main())
