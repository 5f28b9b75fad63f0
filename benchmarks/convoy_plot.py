"""The plot of `convoy`: p99 and the longest wait over the hold, a line a server."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .convoy import HOLDS_MS, Row
from .plot import OURS

PEER_COLOURS = ("#5b7a99", "#8a8f4a", "#7d5b99", "#997a5b", "#5b9990", "#555555")
FIGURE_INCHES = (9.0, 3.4)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the plot as SVG."""
    # Text stays text: the file is small, and can be searched.
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=FIGURE_INCHES, layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for place, server in enumerate(dict.fromkeys(row.server for row in rows)):
            line = [row for row in rows if row.server == server]
            style = (
                {"color": OURS, "linewidth": 2.5} if server == "spawning" else {"color": peer_colour(place)}
            )
            left.plot(
                [row.hold_ms for row in line], [row.p99_ms for row in line], marker="o", label=server, **style
            )
            right.plot([row.hold_ms for row in line], [row.max_ms for row in line], marker="o", **style)
        label(left, "p99")
        label(right, "longest")
        left.set_ylabel("wait of an instant view, ms")
        figure.supxlabel("the other view holds the interpreter between two system calls for, ms", fontsize=9)
        figure.legend(loc="outside right center", frameon=False)
        figure.savefig(path, format="svg")


def label(axes: Axes, title: str) -> None:
    """Give a panel its scales and title."""
    axes.set_title(title)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(HOLDS_MS, [f"{hold_ms:g}" for hold_ms in HOLDS_MS])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def peer_colour(place: int) -> str:
    """Return the colour of a peer's line."""
    return PEER_COLOURS[place % len(PEER_COLOURS)]
