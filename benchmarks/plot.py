"""The plot: requests a second by server, a panel for each load."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .servers import CEILING
from .summary import Row

COLUMNS_MAX = 3
PANEL_INCHES = (4.6, 3.0)
CEILING_RATIO_MAX = 3
OURS, CEILINGS, OTHERS = "#b5452c", "#c9c4b8", "#5b7a99"


def draw(rows: Sequence[Row], path: Path, caption: str) -> None:
    """Write the plot as SVG. Whiskers reach from the slowest to the fastest round."""
    panels = list(dict.fromkeys((row.workload, row.load) for row in rows if row.requests_per_s is not None))
    if not panels:
        return
    columns = min(COLUMNS_MAX, len(panels))
    lines = math.ceil(len(panels) / columns)
    # Text stays text: the file is small, and can be searched.
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * lines), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, (workload, load) in zip(grid.flat, panels, strict=False):
            chosen = [row for row in rows if (row.workload, row.load) == (workload, load)]
            panel(axes, chosen)
            axes.set_title(f"{workload}: {load}" if load else workload)
        figure.supxlabel(f"requests/s; {caption}", fontsize=8)
        figure.savefig(path, format="svg")


def panel(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw one load's bars, the fastest on top."""
    ordered = sorted(without_far_ceiling(rows), key=lambda row: row.requests_per_s or 0)
    for place, row in enumerate(ordered):
        rate = row.requests_per_s
        if rate is None or row.requests_per_s_min is None or row.requests_per_s_max is None:
            continue
        whiskers = [[rate - row.requests_per_s_min], [row.requests_per_s_max - rate]]
        axes.barh(place, rate, xerr=whiskers, color=colour(row.server), ecolor="#333333", capsize=2)
        end = (row.requests_per_s_max, place)
        axes.annotate(f"{rate:,.0f}", end, xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    names = [f"{row.server} (errors)" if row.errors else row.server for row in ordered]
    axes.set_yticks(range(len(ordered)), names)
    axes.margins(x=0.25)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)


def without_far_ceiling(rows: Sequence[Row]) -> list[Row]:
    """Return the rows without the bare loop where its bar would leave the servers no room."""
    fastest = max((row.requests_per_s or 0 for row in rows if row.server != CEILING), default=0)
    bound = CEILING_RATIO_MAX * fastest if fastest else math.inf
    return [row for row in rows if row.server != CEILING or (row.requests_per_s or 0) <= bound]


def colour(server: str) -> str:
    """Return the colour of a server's bars."""
    return {"spawning": OURS, CEILING: CEILINGS}.get(server, OTHERS)
