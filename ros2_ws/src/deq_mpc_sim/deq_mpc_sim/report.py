"""The picture of a flight: its path among the spheres from above and from the side, clearance, policy times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from deq_mpc_sim.flight_watch import FlightRecord
from deq_mpc_sim.referee import Verdict
from deq_mpc_sim.scenes import ARENA_HIGH, ARENA_LOW

Array = NDArray[np.float64]

SIZE_INCHES = (12.0, 10.25)
MAP_WIDTH = 4.8
DPI = 120
INK, MUTED, HAIRLINE = "#1f2933", "#7b8794", "#dde2e8"
PATH, START, GOAL = "#1565c0", "#1f2933", "#2e7d32"
FAR, NEAR, HIT = "#c4ccd6", "#f0a13a", "#d64545"
SUCCESS, FAILURE = "#2e7d32", "#c62828"
NEAR_CLEARANCE = 0.15
"""Spheres that were nearer than this [m] are highlighted."""
ARROW_SECONDS = 0.4
"""A moving sphere's line shows where it goes in this time."""
LINE_WIDTH = 1.6
TIME = "time since the policy took over [s]"


def save_report(path: Path, record: FlightRecord, verdict: Verdict, caption: str) -> None:
    """Draw the flight as a PNG; the file appears whole or not at all. See `draw_report`."""
    figure = draw_report(record, verdict, caption)
    partial = path.with_name(f".{path.name}.partial")
    try:
        figure.savefig(partial, format="png")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def draw_report(record: FlightRecord, verdict: Verdict, caption: str) -> Figure:
    """The flight as a figure.

    Args:
        record, verdict: the flight.
        caption: what was flown, e.g. scene, seed and policy.
    """
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    _draw_heading(figure, verdict, caption)
    _draw_map(_place(figure, 0.7, 3.55, MAP_WIDTH, MAP_WIDTH), record, 0, 1)
    _draw_map(_place(figure, 0.7, 0.6, MAP_WIDTH, 0.46 * MAP_WIDTH), record, _lengthwise(record), 2)
    _draw_clearance(_place(figure, 6.3, 4.75, 4.6, 3.53), record)
    _draw_policy(_place(figure, 6.3, 0.6, 4.6, 3.2), record)
    return figure


def _place(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    across, up = SIZE_INCHES
    return figure.add_axes((left / across, bottom / up, width / across, height / up), anchor="W")


def _lengthwise(record: FlightRecord) -> int:
    """The horizontal axis along which the flight goes farther."""
    if record.goal is None or not len(record.pos):
        return 0
    return int(np.abs(record.goal - record.pos[0])[:2].argmax())


def _draw_heading(figure: Figure, verdict: Verdict, caption: str) -> None:
    axes = _place(figure, 0.7, 8.75, 10.8, 1.35)
    axes.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0))
    axes.axis("off")
    headline, colour = ("Goal reached", SUCCESS) if verdict.fault is None else ("Failed", FAILURE)
    first = axes.text(0.0, 0.88, headline, fontsize=18, fontweight="bold", color=colour)
    axes.annotate(
        verdict.fault or "", (1.0, 0.0), (9, 4), xycoords=first, textcoords="offset points", fontsize=11, color=colour
    )
    axes.text(0.0, 0.7, caption, fontsize=10.5, color=MUTED)
    for k, (label, value) in enumerate(_numbers(verdict)):
        axes.text(0.2 * k, 0.32, value, fontsize=13, fontweight="bold", color=INK)
        axes.text(0.2 * k, 0.14, label, fontsize=9, color=MUTED)


def _numbers(verdict: Verdict) -> list[tuple[str, str]]:
    policy = verdict.policy_ms
    return [
        ("time to goal", _text_or_dash(verdict.time_to_goal_s, "{:.2f} s")),
        ("smallest clearance", _text_or_dash(verdict.min_clearance_m, "{:.3f} m")),
        ("collisions", str(verdict.collisions)),
        ("policy p50 / p99", f"{_text_or_dash(policy.p50, '{:.1f}')} / {_text_or_dash(policy.p99, '{:.1f}')} ms"),
        ("deadlines missed", _misses(verdict)),
    ]


def _misses(verdict: Verdict) -> str:
    if verdict.deadline_misses is None or not verdict.control_steps:
        return "–"
    return f"{verdict.deadline_misses:,} of {verdict.control_steps:,}"


def _text_or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _style(axes: Axes, title: str, xlabel: str, ylabel: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, fontweight="bold")
    axes.set_xlabel(xlabel, fontsize=9, color=MUTED)
    axes.set_ylabel(ylabel, fontsize=9, color=MUTED)
    axes.tick_params(labelsize=8.5, colors=MUTED, length=0)
    axes.grid(color=HAIRLINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _note_colours(axes: Axes, record: FlightRecord) -> None:
    """Right of the title: what the colours mean that the picture has."""
    meanings = {NEAR: f"nearer than {NEAR_CLEARANCE} m", HIT: "entered"}
    shown = [colour for colour, spheres in _sphere_groups(record) if colour in meanings and len(spheres)]
    for row, colour in enumerate(shown):
        axes.annotate(
            f"● {meanings[colour]}",
            (1.0, 1.0),
            (0, 5 + 12 * row),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8.5,
            color=colour,
            ha="right",
        )


def _sphere_colour(clearance: float) -> str:
    if clearance < 0.0:
        return HIT
    return NEAR if clearance < NEAR_CLEARANCE else FAR


def _sphere_groups(record: FlightRecord) -> Iterator[tuple[str, Array]]:
    """Colours and their spheres, the most important last."""
    colours = np.array([_sphere_colour(clearance) for clearance in record.sphere_clearance], dtype=object)
    for colour in (FAR, NEAR, HIT):
        yield colour, record.spheres[colours == colour]


def _draw_map(axes: Axes, record: FlightRecord, i: int, j: int) -> None:
    names, title = "xyz", "from the side" if j == 2 else "from above"
    moving = bool(record.spheres[:, 4:7].any())
    note = ", spheres at their nearest" if moving else ""
    _style(axes, title + note, f"{names[i]} [m]", f"{names[j]} [m]")
    corner, size = (ARENA_LOW[i], ARENA_LOW[j]), (ARENA_HIGH - ARENA_LOW)[[i, j]]
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=MUTED, linewidth=0.8, linestyle=(0, (4, 4))))
    _note_colours(axes, record)
    for colour, spheres in _sphere_groups(record):
        circles = [Circle((s[i], s[j]), s[3]) for s in spheres]
        axes.add_collection(PatchCollection(circles, facecolor=colour, edgecolor="white", linewidth=0.7, alpha=0.75))
        if moving and len(spheres):
            tips = spheres[:, [i, j]] + ARROW_SECONDS * spheres[:, [4 + i, 4 + j]]
            lines = np.stack([spheres[:, [i, j]], tips], axis=1)
            axes.add_collection(LineCollection(list(lines), color=INK, alpha=0.5, linewidth=1.0, zorder=3))
    axes.plot(record.pos[:, i], record.pos[:, j], color=MUTED, linewidth=1.0, zorder=4)
    if record.fly is not None:
        flown = record.pos[(record.t >= record.fly[0]) & (record.t <= record.fly[1])]
        axes.plot(flown[:, i], flown[:, j], color=PATH, zorder=5, linewidth=LINE_WIDTH)
        axes.plot(*flown[0, [i, j]], "o", color=START, markersize=6, zorder=6)
        _label(axes, "start", flown[0, [i, j]])
    if record.goal is not None:
        point = record.goal[[i, j]]
        axes.plot(*point, "*", color=GOAL, markersize=13, markeredgecolor="white", zorder=6)
        _label(axes, "goal", point)
    margin = 0.12
    axes.set_xlim(ARENA_LOW[i] - margin, ARENA_HIGH[i] + margin)
    axes.set_ylim(min(ARENA_LOW[j] - margin, 0.0), ARENA_HIGH[j] + margin)
    axes.set_aspect("equal")


def _label(axes: Axes, text: str, point: Array) -> None:
    place = (float(point[0]), float(point[1]))
    label = axes.annotate(text, place, (0, 9), textcoords="offset points", fontsize=9, ha="center", zorder=7)
    label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _draw_clearance(axes: Axes, record: FlightRecord) -> None:
    _style(axes, "clearance to the nearest sphere", TIME, "[m]")
    t, distance = record.clearance_t - _begin(record), record.clearance
    if not len(t):
        _say_nothing(axes, "the policy never flew" if len(record.spheres) else "no spheres")
        return
    axes.fill_between(t, 0.0, distance, color=PATH, alpha=0.12, linewidth=0.0)
    axes.plot(t, distance, color=PATH, linewidth=LINE_WIDTH)
    axes.axhline(0.0, color=HIT, linewidth=1.0)
    axes.fill_between(t, distance, 0.0, where=(distance < 0.0).tolist(), color=HIT, alpha=0.5, linewidth=0.0)
    k = int(distance.argmin())
    axes.plot(t[k], distance[k], "o", color=HIT if distance[k] < 0.0 else INK, markersize=5, zorder=4)
    axes.annotate(
        f"{distance[k]:.3f} m", (t[k], distance[k]), (0, -14), textcoords="offset points", fontsize=9, ha="center"
    )
    axes.set_xlim(*_span(record))
    low, high = min(0.0, float(distance.min())), float(distance.max())
    axes.set_ylim(low - 0.14 * (high - low), high + 0.06 * (high - low))


def _draw_policy(axes: Axes, record: FlightRecord) -> None:
    _style(axes, "computing time of a policy step, over all steps so far", TIME, "[ms]")
    t, times = record.policy_t - _begin(record), record.policy_ms
    if not len(t):
        _say_nothing(axes, "the policy never flew")
        return
    end = _span(record)[1]
    top = 1.15 * float(times.max())
    heights = _spread(times[-1], 0.05 * top)
    for column, (name, colour) in enumerate((("p50", PATH), ("p99", NEAR), ("max", MUTED))):
        last = times[-1, column]
        axes.plot(np.append(t, end), np.append(times[:, column], last), color=colour, linewidth=LINE_WIDTH)
        axes.plot(end, last, "o", color=colour, markersize=4, clip_on=False)
        label = f"  {name} {last:.1f}"
        axes.annotate(label, (end, heights[column]), fontsize=8.5, color=colour, va="center", annotation_clip=False)
    axes.set_xlim(*_span(record))
    axes.set_ylim(0.0, top)


def _begin(record: FlightRecord) -> float:
    """When the policy took over [s]."""
    return 0.0 if record.fly is None else record.fly[0]


def _span(record: FlightRecord) -> tuple[float, float]:
    """The time axis: from when the policy took over to when it gave back [s]."""
    return 0.0, 1.0 if record.fly is None else max(record.fly[1] - record.fly[0], 0.1)


def _spread(values: Array, gap: float) -> list[float]:
    """Heights for the labels of ascending ``values``, at least ``gap`` apart."""
    heights = [float(values[0])]
    for value in values[1:]:
        heights.append(max(float(value), heights[-1] + gap))
    return heights


def _say_nothing(axes: Axes, why: str) -> None:
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])
