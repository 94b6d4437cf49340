"""Numbers -> inline SVG with its own small functions: intervals by subject, curves with bands, bars for a table's cell, dots and marks over axes with
round ticks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

TONES = ("base", "correct", "gruff", "obvious", "callous", "realigned", "subtle", "random")
"""Classes of style.css; an arm has one colour everywhere."""

Point = tuple[float, float, float | None, float | None]
"""x, y, low, high."""


@dataclass(frozen=True)
class Line:
    label: str
    tone: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Interval:
    label: str
    tone: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None = None
    """Written beside the value, if there is one."""


def tone(name: str) -> str:
    """A subject or direction -> its colour's class."""
    return next((one for one in reversed(TONES) if one in name), "other")


def number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def svg(width: int, height: int, title: str, body: str, name: str) -> str:
    return (
        f'<svg class="{name}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}" '
        f'preserveAspectRatio="xMidYMid meet"><title>{escape(title)}</title>{body}</svg>'
    )


def bar(value: float | None, low: float | None, high: float | None, left: float, right: float) -> str:
    """One interval on a common axis, for a table's cell."""
    if value is None or right <= left:
        return ""

    def x(v: float) -> float:
        return round(2 + 96 * (min(max(v, left), right) - left) / (right - left), 2)

    body = '<line class="axis" x1="2" x2="98" y1="8" y2="8"/>'
    if left < 0 < right:
        body += f'<line class="axis" x1="{x(0)}" x2="{x(0)}" y1="2" y2="14"/>'
    if low is not None and high is not None:
        body += f'<line class="range" x1="{x(low)}" x2="{x(high)}" y1="8" y2="8"/>'
    title = f"{number(value)}" + (f", {number(low)} to {number(high)}" if low is not None and high is not None else "")
    return svg(100, 16, title, body + f'<circle class="dot" cx="{x(value)}" cy="8" r="3.2"/>', "bar")


def forest(title: str, rows: Sequence[Interval], top: float = 1.0) -> str:
    """Shares by subject, a dot and its 95 % interval each; x runs from 0 to `top`."""

    def mark(x: Callable[[float], float], y: int, row: Interval, whisker: str) -> str:
        return f'{whisker}<circle class="dot t-{row.tone}" cx="{x(row.value or 0)}" cy="{y}" r="4.5"/>'

    return by_row(title, rows, mark, lambda v: f"{100 * v:.0f} %", top=top, left=136, right=92, step=26, name="forest")


def bars(title: str, rows: Sequence[Interval], top: float) -> str:
    """Horizontal bars from 0 to `top` with their 95 % intervals."""

    def mark(x: Callable[[float], float], y: int, row: Interval, whisker: str) -> str:
        long = round(x(row.value or 0) - x(0), 2)
        return f'<rect class="fill t-{row.tone}" x="{x(0)}" y="{y - 6}" width="{long}" height="12"/>{whisker}'

    return by_row(title, rows, mark, lambda v: f"{v:.3g}", top=top, left=112, right=34, step=20, name="curves")


def by_row(
    title: str,
    rows: Sequence[Interval],
    mark: Callable[[Callable[[float], float], int, Interval, str], str],
    told: Callable[[float], str],
    *,
    top: float,
    left: int,
    right: int,
    step: int,
    name: str,
) -> str:
    """One value a row on a common axis from 0 to `top`: its label, its mark and the value in words.

    mark: (place on x, y of the row, the row, its interval's line) -> SVG. left, right: pixels beside the axis; step: pixels a row.
    """
    width, height = 420, 30 + step * len(rows)

    def x(v: float) -> float:
        return round(left + (width - left - right) * v / top, 2)

    body = ""
    for k in range(5):
        v = top * k / 4
        body += f'<line class="grid" x1="{x(v)}" x2="{x(v)}" y1="6" y2="{height - 22}"/>'
        body += f'<text class="tick" x="{x(v)}" y="{height - 8}" text-anchor="middle">{told(v)}</text>'
    for k, row in enumerate(rows):
        y = 18 + step * k
        body += f'<text class="label" x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(row.label)}</text>'
        if row.value is None:
            body += f'<text class="tick" x="{left + 4}" y="{y + 4}">no value</text>'
            continue
        sure = row.low is not None and row.high is not None
        whisker = f'<line class="range t-{row.tone}" x1="{x(row.low)}" x2="{x(row.high)}" y1="{y}" y2="{y}"/>' if sure else ""
        body += mark(x, y, row, whisker)
        body += f'<text class="value" x="{width - 2}" y="{y + 4}" text-anchor="end">{told(row.value)}{"" if row.n is None else f", n {row.n}"}</text>'
    return svg(width, height, title, body, name)


def curves(
    title: str, x_label: str, lines: Sequence[Line], *, top: float, x_top: float, percent: bool = True, bottom: float = 0.0
) -> str:
    """Lines over x from 0 with their intervals. A legend beside the figure names them; random ones are thin and grey."""
    width, height, left, right, low_edge = 420, 250, 46, 14, 38

    def x(v: float) -> float:
        return round(left + (width - left - right) * v / (x_top or 1), 2)

    def y(v: float) -> float:
        return round(10 + (height - 10 - low_edge) * (1 - (v - bottom) / ((top - bottom) or 1)), 2)

    body = ""
    for k in range(5):
        v, u = bottom + (top - bottom) * k / 4, x_top * k / 4
        body += f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(v)}" y2="{y(v)}"/>'
        on_y, on_x = (f"{100 * v:.0f} %", number(u)) if percent else (number(v), number(u))
        body += f'<text class="tick" x="{left - 6}" y="{y(v) + 4}" text-anchor="end">{on_y}</text>'
        body += f'<text class="tick" x="{x(u)}" y="{height - low_edge + 16}" text-anchor="middle">{on_x}</text>'
    body += f'<text class="tick" x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>'
    for line in sorted(lines, key=lambda line: line.tone != "random"):
        points = " ".join(f"{x(px)},{y(py)}" for px, py, _, _ in line.points)
        body += f'<polyline class="line t-{line.tone}" points="{points}"><title>{escape(line.label)}</title></polyline>'
        for px, py, low, high in line.points:
            if low is not None and high is not None:
                body += f'<line class="whisker t-{line.tone}" x1="{x(px)}" x2="{x(px)}" y1="{y(low)}" y2="{y(high)}"/>'
                body += f'<circle class="dot t-{line.tone}" cx="{x(px)}" cy="{y(py)}" r="3"/>'
    return svg(width, height, title, body, "curves")


@dataclass(frozen=True)
class Axis:
    """A stretch of numbers with its ticks (value, words)."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one; what lies beyond is drawn at the end."""
        scale = math.log if self.log else float
        low, high, v = scale(self.low), scale(self.high), scale(min(max(value, self.low), self.high))
        return (v - low) / ((high - low) or 1)


@dataclass(frozen=True)
class Mark:
    """A point with the interval of either number."""

    label: str
    tone: str
    x: tuple[float, float | None, float | None]
    y: tuple[float, float | None, float | None]
    shape: str = "circle"
    filled: bool = True


@dataclass(frozen=True)
class Row:
    """A row of `dots`: (value, low, high), and the same of what stands beside; a row without a value is a heading."""

    label: str
    tone: str = "other"
    value: tuple[float, float | None, float | None] | None = None
    beside: tuple[float, float | None, float | None] | None = None
    shape: str = "circle"
    filled: bool = True


SHAPES = ("circle", "square", "triangle", "diamond", "cross")


def axis(label: str, values: Sequence[float | None], *, unit: str = "number", zero: bool = True) -> Axis:
    """Round ticks around all values. unit: `share` writes percentages."""
    known = [v for v in values if v is not None] + ([0.0] if zero else [])
    low, high = min(known, default=0.0), max(known, default=1.0)
    span = (high - low) or abs(high) or 1.0
    size = 10 ** math.floor(math.log10(span / 4))
    step = next(size * k for k in (1, 2, 2.5, 5, 10) if size * k >= span / 4 - 1e-12)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [k * step for k in range(first, max(last, first + 1) + 1)]
    return Axis(label, ticks[0], ticks[-1], tuple((v, f"{100 * v:.3g} %" if unit == "share" else f"{v:.3g}") for v in ticks))


def shape(kind: str, x: float, y: float, css: str, title: str) -> str:
    """One of SHAPES around a point, in outline where css says `open`."""
    inside = f"<title>{escape(title)}</title>"
    if kind == "circle":
        return f'<circle class="{css}" cx="{x}" cy="{y}" r="4.5">{inside}</circle>'
    corners = {
        "square": ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        "triangle": ((0, -5.5), (5, 4), (-5, 4)),
        "diamond": ((0, -6), (5.5, 0), (0, 6), (-5.5, 0)),
        "cross": ((-5, -2), (-2, -2), (-2, -5), (2, -5), (2, -2), (5, -2), (5, 2), (2, 2), (2, 5), (-2, 5), (-2, 2), (-5, 2)),
    }[kind]
    points = " ".join(f"{round(x + dx, 2)},{round(y + dy, 2)}" for dx, dy in corners)
    return f'<polygon class="{css}" points="{points}">{inside}</polygon>'


def plane(
    title: str,
    x_axis: Axis,
    y_axis: Axis,
    *,
    lines: Sequence[Line] = (),
    marks: Sequence[Mark] = (),
    band: tuple[float, float] | None = None,
    goals: Sequence[tuple[float, float]] = (),
    named: bool = False,
) -> str:
    """Lines and marks with their intervals over two axes. band: a null on y; goals: faint crosses at (x, y); named: labels beside marks."""
    width, height, left, right, upper, lower = 420, 270, 46, 16, 26, 40

    def x(v: float) -> float:
        return round(left + (width - left - right) * x_axis.place(v), 2)

    def y(v: float) -> float:
        return round(height - lower - (height - upper - lower) * y_axis.place(v), 2)

    body = f'<text class="tick" x="2" y="12">{escape(y_axis.label)}</text>'
    if band:
        body += f'<rect class="null" x="{left}" y="{y(band[1])}" width="{width - left - right}" '
        body += f'height="{max(1.0, round(y(band[0]) - y(band[1]), 2))}"><title>null: {number(band[0])} to {number(band[1])}</title></rect>'
    for v, words in y_axis.ticks:
        body += f'<line class="{"axis" if v == 0 else "grid"}" x1="{left}" x2="{width - right}" y1="{y(v)}" y2="{y(v)}"/>'
        body += f'<text class="tick" x="{left - 6}" y="{y(v) + 4}" text-anchor="end">{words}</text>'
    for v, words in x_axis.ticks:
        body += f'<line class="grid" x1="{x(v)}" x2="{x(v)}" y1="{upper}" y2="{height - lower}"/>'
        body += f'<text class="tick" x="{x(v)}" y="{height - lower + 15}" text-anchor="middle">{words}</text>'
    body += (
        f'<text class="tick" x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">{escape(x_axis.label)}</text>'
    )
    for gx, gy in goals:
        body += f'<path class="goal" d="M{x(gx) - 7},{y(gy)}h14M{x(gx)},{y(gy) - 7}v14"><title>goal: {number(gy)} at {gx:.0f}</title></path>'
    for line in lines:
        points = " ".join(f"{x(px)},{y(py)}" for px, py, _, _ in line.points)
        body += f'<polyline class="line t-{line.tone}" points="{points}"><title>{escape(line.label)}</title></polyline>'
        for px, py, low, high in line.points:
            if low is not None and high is not None:
                body += f'<line class="whisker t-{line.tone}" x1="{x(px)}" x2="{x(px)}" y1="{y(low)}" y2="{y(high)}"/>'
            body += f'<circle class="dot t-{line.tone}" cx="{x(px)}" cy="{y(py)}" r="3"/>'
    for m in marks:
        (mx, x_low, x_high), (my, y_low, y_high) = m.x, m.y
        if x_low is not None and x_high is not None:
            body += f'<line class="whisker t-{m.tone}" x1="{x(x_low)}" x2="{x(x_high)}" y1="{y(my)}" y2="{y(my)}"/>'
        if y_low is not None and y_high is not None:
            body += f'<line class="whisker t-{m.tone}" x1="{x(mx)}" x2="{x(mx)}" y1="{y(y_low)}" y2="{y(y_high)}"/>'
        body += shape(m.shape, x(mx), y(my), f"dot t-{m.tone}{'' if m.filled else ' open'}", m.label)
    if named:
        heights = apart([y(m.y[0]) - 5 for m in marks], 11)
        for m, label_y in zip(marks, heights, strict=True):
            side, anchor = (8, "start") if x(m.x[0]) < (left + width) / 2 else (-8, "end")
            body += f'<text class="tick" x="{x(m.x[0]) + side}" y="{label_y}" text-anchor="{anchor}">{escape(m.label)}</text>'
    return svg(width, height, title, body, "curves")


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Each moved down, in order of height, as far as it has to lie `gap` below the one above it; as many, in the order given."""
    moved = [0.0] * len(wanted)
    last = float("-inf")
    for index in sorted(range(len(wanted)), key=lambda i: wanted[i]):
        last = moved[index] = max(wanted[index], last + gap)
    return moved


def dots(title: str, rows: Sequence[Row], x_axis: Axis, beside: Axis | None = None, band: tuple[float, float] | None = None) -> str:
    """A dot and its 95 % interval a row, on an axis that may go below 0; a second, narrower axis beside. band: a null on the first."""
    width, step, left, top = 560, 18, 186, 8
    height = top + 40 + step * len(rows)
    spans = [(left, 396 if beside else 540)] + ([(424, 548)] if beside else [])

    def at(axis: Axis, span: tuple[int, int], v: float) -> float:
        return round(span[0] + (span[1] - span[0]) * axis.place(v), 2)

    body = ""
    if band:
        one, two = (at(x_axis, spans[0], v) for v in band)
        body += f'<rect class="null" x="{one}" y="{top}" width="{max(1.0, round(two - one, 2))}" height="{height - top - 40}">'
        body += f"<title>null: {number(band[0])} to {number(band[1])}</title></rect>"
    for axis, span in zip((x_axis, beside), spans, strict=False):
        assert axis
        for v, words in axis.ticks[:: 2 if len(axis.ticks) > 4 and span[1] - span[0] < 150 else 1]:
            body += f'<line class="{"axis" if v == 0 else "grid"}" x1="{at(axis, span, v)}" x2="{at(axis, span, v)}" y1="{top}" y2="{height - 36}"/>'
            body += f'<text class="tick" x="{at(axis, span, v)}" y="{height - 22}" text-anchor="middle">{words}</text>'
        body += f'<text class="tick" x="{sum(span) / 2}" y="{height - 6}" text-anchor="middle">{escape(axis.label)}</text>'
    for k, row in enumerate(rows):
        y = top + 10 + step * k
        if row.value is None:
            body += f'<text class="tick head" x="4" y="{y + 4}">{escape(row.label)}</text>'
            continue
        name = row.label if len(row.label) < 28 else f"{row.label[:26]}…"
        body += f'<text class="label" x="{left - 12}" y="{y + 4}" text-anchor="end">{escape(name)}<title>{escape(row.label)}</title></text>'
        for axis, span, ends in zip((x_axis, beside), spans, (row.value, row.beside), strict=False):
            if axis is None or ends is None:
                continue
            value, low, high = ends
            told = f"{row.label}: {value:.3g}" + ("" if low is None or high is None else f", {low:.3g} to {high:.3g}")
            if low is not None and high is not None:
                one, two = at(axis, span, low), at(axis, span, high)
                body += f'<line class="whisker t-{row.tone}" x1="{one}" x2="{two}" y1="{y}" y2="{y}"/>'
            body += shape(row.shape, at(axis, span, value), y, f"dot t-{row.tone}{'' if row.filled else ' open'}", told)
    return svg(width, height, title, body, "wide")
