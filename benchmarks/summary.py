"""From runs to rows: medians over the rounds, and ratios taken round by round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from .load import Outcome
from .measure import Run


@dataclass(frozen=True)
class Row:
    """A server under one load. Medians over the rounds; `None` where nothing was measured."""

    workload: str
    load: str
    server: str
    processes: int
    threads: int
    rounds: int
    requests_per_s: float | None
    requests_per_s_min: float | None
    requests_per_s_max: float | None
    ratio: float | None
    """Median of requests/s over those of the reference in the same round."""
    cpu_us_per_request: float | None
    p50_us: float | None
    p99_us: float | None
    p999_us: float | None
    errors: int
    foreign_share: float | None
    remark: str | None
    fault: str | None

    @property
    def spread(self) -> float | None:
        """Return how far apart the rounds are, as a share of the median."""
        if (
            self.rounds < 2
            or not self.requests_per_s
            or self.requests_per_s_max is None
            or self.requests_per_s_min is None
        ):
            return None
        return (self.requests_per_s_max - self.requests_per_s_min) / self.requests_per_s


def summarise(runs: Sequence[Run], reference: str) -> list[Row]:
    """Return a row for each workload, load and server, in the order of `runs`."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.workload, run.server), []).append(run)

    rows = []
    for workload in dict.fromkeys(run.workload for run in runs):
        against = {run.round: run for run in groups.get((workload, reference), [])}
        labels = dict.fromkeys(label for run in runs if run.workload == workload for label in run.outcomes)
        for label in labels or [""]:
            for (name, _), group in groups.items():
                if name == workload:
                    rows.append(row(group, label, against))
    return rows


def row(group: Sequence[Run], label: str, against: dict[int, Run]) -> Row:
    """Return the row of one server's runs, compared with those in `against`."""
    measured = [(run, run.outcomes[label]) for run in group if label in run.outcomes and run.fault is None]
    rates = [outcome.requests_per_s for _, outcome in measured]
    ratios = [
        outcome.requests_per_s / other.requests_per_s
        for run, outcome in measured
        if (other := outcome_of(against.get(run.round), label)) is not None and other.requests_per_s > 0
    ]

    def middle(value: Callable[[Outcome], float | None]) -> float | None:
        return median_of(value(outcome) for _, outcome in measured)

    return Row(
        workload=group[0].workload,
        load=label,
        server=group[0].server,
        processes=group[0].processes,
        threads=group[0].threads,
        rounds=len(measured),
        requests_per_s=median_of(rates),
        requests_per_s_min=min(rates, default=None),
        requests_per_s_max=max(rates, default=None),
        ratio=median_of(ratios),
        cpu_us_per_request=median_of(run.cpu_us_per_request for run, _ in measured),
        p50_us=middle(lambda outcome: outcome.p50_us),
        p99_us=middle(lambda outcome: outcome.p99_us),
        p999_us=middle(lambda outcome: outcome.p999_us),
        errors=sum(outcome.error_count for _, outcome in measured),
        foreign_share=median_of(run.foreign_share for run, _ in measured),
        remark=next((run.remark for run in group if run.remark is not None), None),
        fault=next((run.fault for run in group if run.fault is not None), None),
    )


def outcome_of(run: Run | None, label: str) -> Outcome | None:
    """Return what a run without a fault measured of a load."""
    return run.outcomes.get(label) if run is not None and run.fault is None else None


def median_of(values: Iterable[float | None]) -> float | None:
    """Return the median of those that are there."""
    present = [value for value in values if value is not None]
    return median(present) if present else None
