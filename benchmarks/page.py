"""Write docs/benchmarks.md: the questions, the machine and the date, with the tables, and plots where there are some.

Do not edit that page: the suite writes it, from the heads of its own files and the tables that it printed. Without
matplotlib, the page has no plots.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.harness import Cell, Figure, Table

FOLDER = "benchmarks"  # of the plots, beside the page
OURS = "nexus-redis"
HEAD = """\
# Benchmarks

Written by `make bench`, which installs the peers in an environment of its own, runs them beside us on one server, a
round after the other, and takes about twenty minutes of a machine that has nothing else to do.

{about}

A figure is the median of the rounds, with half the distance from lowest to highest in percent; ratios are formed
inside a round. `python -m benchmarks --help` runs parts of it, or on a Redis of yours; `nexus-redis bench` measures us
alone, without a checkout.
"""


def about(facts: Mapping[str, Any]) -> str:
    """Return date, machine and versions in one to three sentences."""
    packages = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    sentences = [f"Measured {facts['date']} on {facts['machine']} (load before: {facts['load']}), {facts['server']}"]
    sentences[0] += f", {facts['rounds']} round{'s' * (facts['rounds'] > 1)}; {packages}"
    if facts["commit"]:
        sentences[0] += f"; commit {facts['commit']}"
    if facts["missing"]:
        sentences.append(f"Left out, since not installed: {', '.join(facts['missing'])}")
    if facts["is_quick"]:
        sentences.append("A quick look: these figures mean nothing")
    return ". ".join(sentences) + "."


def write(folder: Path, facts: Mapping[str, Any], found: Mapping[str, tuple[ModuleType, list[Table]]]) -> None:
    """Write the page and its plots."""
    parts = [HEAD.format(about=about(facts))]
    for name, (question, tables) in found.items():
        parts.append(f"## {question.TITLE}\n\n{inspect.getdoc(question)}\n")
        if name in PLOTS and find_spec("matplotlib"):
            (folder / FOLDER).mkdir(parents=True, exist_ok=True)
            if PLOTS[name](tables, folder / FOLDER / f"{name}.svg"):
                parts.append(f"![{question.TITLE}]({FOLDER}/{name}.svg)\n")
        parts += [markdown(table, question.TITLE) for table in tables]
    (folder / "benchmarks.md").write_text("\n".join(parts))


def markdown(table: Table, above: str) -> str:
    """Return a table, with a title that does not repeat the heading."""
    title = table.title.removeprefix(above).lstrip(":, ") or above
    lines = [f"**{title[:1].upper()}{title[1:]}.** {table.note}\n", f"| {' | '.join(table.columns)} |"]
    lines.append("|---" + "|---:" * (len(table.columns) - 1) + "|")
    lines += [f"| {' | '.join(texts)} |" for texts in table.texts()]
    return "\n".join(lines) + "\n"


# --- plots -----------------------------------------------------------------------------------------------------------

INK, OTHERS, SCREEN = "#1f6feb", "#8b949e", "#7d8590"  # readable on a light page and on a dark one
LINES = ("#d29922", "#2da44e", "#bf3989", "#8b949e", "#cf222e")  # the colours of the other libraries


def _axes(rows: int = 1, columns: int = 1, height: float = 3.0, width: float = 9.0) -> tuple[Any, list[Any]]:
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    colored = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    plain = {"svg.fonttype": "none", "svg.hashsalt": OURS, "axes.spines.top": False, "axes.spines.right": False}
    plt.rcParams.update({"font.size": 9, **plain, **dict.fromkeys(colored, SCREEN)})
    drawing, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False, layout="constrained")
    return drawing, list(axes.flat)


def _save(drawing: Any, path: Path) -> bool:
    drawing.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    return True


def _number(cell: Cell | None) -> float:
    return cell.median if isinstance(cell, Figure) else float(cell) if isinstance(cell, int | float) else math.nan


def _range(cells: list[Cell | None]) -> list[list[float]]:
    figures = [cell if isinstance(cell, Figure) else Figure(math.nan, math.nan, math.nan) for cell in cells]
    return [[each.median - each.low for each in figures], [each.high - each.median for each in figures]]


def acquires(tables: list[Table], path: Path) -> bool:
    """Draw bars: acquires a second at a cost of 1, a picture for each way to call."""
    column = "cost 1: acquires/s"
    drawing, axes = _axes(1, len(tables), 4.5)
    names = list(dict.fromkeys(str(row[""]) for table in tables for row in table.rows))
    for axis, table in zip(axes, tables, strict=True):
        by_name = {str(row[""]): row.get(column) for row in table.rows}
        cells = [by_name.get(name) for name in names]
        colors = [INK if name == OURS else OTHERS for name in names]
        axis.barh(names, [_number(cell) for cell in cells], xerr=_range(cells), color=colors, ecolor=SCREEN)
        axis.set_xscale("log")
        axis.invert_yaxis()
        axis.set_title(table.title.rpartition(": ")[2])
        axis.set_xlabel("acquires/s")
        if axis is not axes[0]:
            axis.set_yticklabels([])
    return _save(drawing, path)


def sharing(tables: list[Table], path: Path) -> bool:
    """Draw lines over the number of processes: the granted rate, and the wait at p99."""
    rates = [table for table in tables if table.columns and "granted / budget" in table.columns]
    drawing, axes = _axes(2, len(rates), width=max(9.0, 3.5 * len(rates)))
    names = dict.fromkeys(str(row[""]) for table in rates for row in table.rows if row[""] != OURS)
    colors = dict(zip(names, LINES * len(names), strict=False)) | {OURS: INK}
    for number, table in enumerate(rates):
        for axis, column in zip((axes[number], axes[number + len(rates)]), ("granted / budget", "p99 ms"), strict=True):
            for name in dict.fromkeys(str(row[""]) for row in table.rows):
                rows = [row for row in table.rows if row[""] == name]
                axis.errorbar(
                    [int(str(row["processes"])) for row in rows], [_number(row[column]) for row in rows],
                    yerr=_range([row[column] for row in rows]), label=name, marker="o", markersize=4,
                    color=colors[name], zorder=3 if name == OURS else 2,
                )  # fmt: skip
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter("{x:.0f}")
        axes[number].set_title(table.title.rpartition(": ")[2])
        axes[number].set_ylim(bottom=0)
        axes[number].legend(fontsize=6, frameon=False)
        axes[number + len(rates)].set_yscale("symlog", linthresh=1)
        axes[number + len(rates)].set_ylim(bottom=0)
        axes[number + len(rates)].set_xlabel("processes")
    axes[0].set_ylabel("granted / budget")
    axes[len(rates)].set_ylabel("p99 wait, ms")
    return _save(drawing, path)


def claims(tables: list[Table], path: Path) -> bool:
    """Draw bars: calls a second."""
    drawing, (axis,) = _axes()
    rows = tables[0].rows
    names, cells = [str(row[""]) for row in rows], [row["calls/s"] for row in rows]
    colors = [OTHERS if name.startswith("EVALSHA") else INK for name in names]
    axis.barh(names, [_number(cell) for cell in cells], xerr=_range(list(cells)), color=colors, ecolor=SCREEN)
    axis.invert_yaxis()
    axis.set_xlabel("calls/s, one core of Redis")
    return _save(drawing, path)


def scaling(tables: list[Table], path: Path) -> bool:
    """Draw a line: cores of Redis by producers, with hollow points where they are calculated on paper."""
    drawing, (axis,) = _axes()
    for how, fill in (("simulated", INK), ("on paper", "none")):
        rows = [row for row in tables[0].rows if row[""] == how]
        sizes, cores = (
            [int(str(row["producers"]).replace(",", "")) for row in rows],
            [_number(row["Redis cores"]) for row in rows],
        )
        axis.plot(
            sizes, cores, marker="o", markerfacecolor=fill, color=INK, linestyle="-" if fill == INK else "--", label=how
        )
    axis.axhline(1, color=OTHERS, linewidth=0.8)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("producers")
    axis.set_ylabel("cores of Redis")
    axis.legend(frameon=False)
    return _save(drawing, path)


PLOTS: Mapping[str, Callable[[list[Table], Path], bool]] = {
    "acquire": acquires, "shared": sharing, "claim": claims, "scale": scaling,
}  # fmt: skip
