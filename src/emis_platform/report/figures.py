"""Numbers -> inline SVG with its own small functions: intervals by subject, curves with bands, bars for a table's cell."""

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


def tone(name: str) -> str:
    """A subject or direction -> its colour's class."""
    return next((one for one in reversed(TONES) if one in name), "other")


def number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


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

    return by_row(title, rows, mark, lambda v: f"{100 * v:.0f} %", top=top, left=136, right=46, step=26, name="forest")


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
        body += f'<text class="value" x="{width - 2}" y="{y + 4}" text-anchor="end">{told(row.value)}</text>'
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
        on_y, on_x = (f"{100 * v:.0f} %", number(u)) if percent else (number(v), f"{u:.0f}")
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
