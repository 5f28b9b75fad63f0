"""What the load generators print is read rightly, errors included."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ..load import LoadError, parse_ab, parse_wrk, run_together

WRK = """\
Running 1s test @ http://127.0.0.1:18000/
  1600 requests in 1.00s, 758.14KB read
{"requests": 1600, "duration_us": 2000000, "bytes": 9, "p50_us": 700, "p99_us": 900, "p999_us": 1200, \
"errors": {"connect": 1, "read": 2, "write": 3, "timeout": 4, "status": 100}}
"""

AB = """\
Concurrency Level:      64
Time taken for tests:   2.500 seconds
Complete requests:      5000
Failed requests:        7
   (Connect: 0, Receive: 0, Length: 7, Exceptions: 0)
Non-2xx responses:      5
Requests per second:    2000.00 [#/sec] (mean)

Percentage of the requests served within a certain time (ms)
  50%      3
  99%     12
 100%     40 (longest request)
"""


def test_wrk_requests_of_a_wrong_status_are_errors_and_no_good_answers() -> None:
    """A server that answers 500 quickly must not win."""
    outcome = parse_wrk(WRK)
    assert outcome.requests_per_s == 750
    assert outcome.error_count == 110
    assert (outcome.p50_us, outcome.p99_us, outcome.p999_us) == (700, 900, 1200)


def test_wrk_output_without_a_result_is_refused() -> None:
    """As when wrk is killed before its end."""
    with pytest.raises(LoadError, match="no result"):
        parse_wrk("Running 1s test @ http://127.0.0.1:18000/\n")


def test_ab_report_is_read() -> None:
    """Milliseconds become microseconds, and there is no finer percentile than 99."""
    outcome = parse_ab(AB)
    assert outcome.requests_per_s == pytest.approx(1998)
    assert outcome.error_count == 12
    assert (outcome.p50_us, outcome.p99_us, outcome.p999_us) == (3000, 12000, None)


def test_ab_report_without_refusals_has_no_line_for_them() -> None:
    """Ab prints `Non-2xx responses` only if there were some."""
    outcome = parse_ab(AB.replace("Non-2xx responses:      5\n", ""))
    assert outcome.errors["status"] == 0


def test_ab_output_without_a_report_is_refused() -> None:
    """As when it cannot connect."""
    with pytest.raises(LoadError, match="Complete requests"):
        parse_ab("apr_pollset_poll: The timeout specified has expired (70007)\n")


def test_a_load_generator_that_fails_says_why() -> None:
    """Its last line on standard error is the reason."""
    command = [sys.executable, "-c", "import sys; sys.exit('first\\nunable to connect')"]
    with pytest.raises(LoadError, match=r"failed: unable to connect$"):
        run_together([command], 1)


def test_load_generators_run_at_the_same_time(tmp_path: Path) -> None:
    """Each opens a pipe whose other end the other one holds, so one after the other would never end."""
    there, back = tmp_path / "there", tmp_path / "back"
    os.mkfifo(there)
    os.mkfifo(back)
    asks = f"open('{there}', 'w').write('question'); print(open('{back}').read())"
    answers = f"print(open('{there}').read()); open('{back}', 'w').write('answer')"
    outputs = run_together([[sys.executable, "-c", asks], [sys.executable, "-c", answers]], 1)
    assert outputs == ["answer\n", "question\n"]
