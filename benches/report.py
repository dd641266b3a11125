"""report.py FIGURES OUT COMMAND: tables and plots of what the programs of benches/ have measured.

FIGURES is the file that they wrote, one line for each single figure. OUT gets README.md and the plots; FIGURES gets the machine into
its first lines, so that it can be read alone.
"""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import pandas as pd

OURS, AIMED, MISSED, INK = "#1f5fa8", "#2e8b57", "#c0504d", "#333333"


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine(command):
    """What a reader needs to know of a machine to judge figures by."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    libc = " ".join(platform.libc_ver())
    compiler = output(os.environ.get("CC", "cc"), "--version").splitlines()[:1]
    # What this program writes is no change of what was measured.
    changed = output("git", "status", "--porcelain", "--", ".", ":!docs/benchmarks")
    is_virtual = "hypervisor" in Path("/proc/cpuinfo").read_text()
    return {
        "command": command,
        "commit": output("git", "describe", "--always") + ("-dirty" if changed else ""),
        "machine": f"{os.cpu_count()} processors, {model.group(1) if model else platform.machine()}" + (", virtual" if is_virtual else ""),
        "kernel": platform.release(),
        "versions": ", ".join([libc, *compiler, output("rustc", "--version"), "Python " + platform.python_version()]),
    }


def read(path):
    figures = pd.read_csv(path, comment="#")
    figures["value"] = figures["ns"] / figures["scale"]
    return figures


def summary(figures):
    """One line for each row and peer: minimum, median, maximum, and the median of tine's time to the peer's round by round."""
    ours = figures[figures["line"] == "tine"].set_index(["program", "row", "round"])["ns"]
    keys = figures.set_index(["program", "row", "round"]).index
    figures = figures.assign(ratio=ours.reindex(keys).to_numpy() / figures["ns"].where(figures["ns"] > 0))
    # The same peer may stand below a row with and without an aim.
    rows = figures.groupby(["program", "row", "line", "unit", "aim", "axis", "at"], sort=False, dropna=False)
    return rows.agg(
        low=("value", "min"), median=("value", "median"), high=("value", "max"), ratio=("ratio", "median"), rounds=("round", "nunique")
    ).reset_index()


def verdict(row):
    if row.line == "tine" or row.aim == 0:
        return ""
    return f"{'met' if row.ratio <= row.aim else '**missed**'} ({row.aim:.3g})"


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(rows):
    yield "| work | | min | median | max | tine takes | aim |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows.itertuples():
        if row.median == 0:
            continue
        work = f"**{row.row}** | tine" if row.line == "tine" else f" | {row.line}"
        ratio = "" if row.line == "tine" else f"{row.ratio:.3g}x"
        figures = " | ".join(f"{number(value)} {row.unit}" for value in (row.low, row.median, row.high))
        yield f"| {work} | {figures} | {ratio} | {verdict(row)} |"


def plot_growth(rows, axis, path):
    rows = rows[rows["axis"] == axis]
    scale = {"ns": 1e-3, "us": 1, "ms": 1e3}
    figure, plot = plt.subplots(figsize=(7, 4.2))
    for line, points in rows.groupby("line", sort=False):
        points = points[points["median"] > 0].sort_values("at")
        factor = points["unit"].map(scale)
        if len(points) < 2:
            continue
        low, median, high = (points[column] * factor for column in ("low", "median", "high"))
        color = OURS if line == "tine" else None
        drawn = plot.plot(points["at"], median, marker="o", label=line, color=color, linewidth=2.4 if line == "tine" else 1.2)
        plot.fill_between(points["at"], low, high, color=drawn[0].get_color(), alpha=0.12, linewidth=0)
    plot.set(xscale="log", yscale="log", xlabel=axis, ylabel="us each")
    plot.grid(True, which="major", alpha=0.3)
    plot.legend(frameon=False, fontsize=8)
    save(figure, path)


def plot_ratios(rows, path):
    """tine's time to the peer's of every row with an aim: a bar that ends left of its mark has met it."""
    rows = rows[(rows["line"] != "tine") & (rows["aim"] > 0) & (rows["median"] > 0)]
    figure, plot = plt.subplots(figsize=(9, 0.27 * len(rows) + 1))
    places = range(len(rows))
    colors = [AIMED if row.ratio <= row.aim else MISSED for row in rows.itertuples()]
    plot.barh(places, rows["ratio"], color=colors, height=0.7)
    plot.plot(rows["aim"], places, "|", color=INK, markersize=11, markeredgewidth=2, label="aim")
    plot.axvline(1, color=INK, linewidth=0.8)
    plot.set_yticks(places, [f"{row.row} : {row.line}" for row in rows.itertuples()], fontsize=7)
    plot.set(xscale="log", xlabel="tine's time to the peer's: less is better")
    plot.set_ylim(len(rows) - 0.4, -0.6)
    plot.legend(frameon=False, fontsize=8)
    save(figure, path)


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(figures_path, out, command):
    out = Path(out)
    plt.rcParams["svg.hashsalt"] = "tine"
    # The first of matplotlib's colors is too near to tine's.
    plt.rcParams["axes.prop_cycle"] = plt.cycler(color=plt.get_cmap("tab10").colors[1:])
    figures = read(figures_path)
    facts = machine(command)
    head = "".join(f"# {name}: {value}\n" for name, value in facts.items())
    body = "".join(line for line in Path(figures_path).read_text().splitlines(keepends=True) if not line.startswith("#"))
    Path(figures_path).write_text(head + body)

    rows = summary(figures)
    aimed = rows[(rows["line"] != "tine") & (rows["aim"] > 0) & (rows["median"] > 0)]
    met = int((aimed["ratio"] <= aimed["aim"]).sum())
    best = rows.groupby("line", sort=False)["high"].max()
    missing = best[best == 0].index
    text = ["# Benchmarks", ""]
    text += [
        "One run, all rows interleaved: in each round every row and every peer is measured once, and again where other work had more",
        "than a small share of a processor meanwhile. A ratio is the median of the ratios of the rounds; only ratios mean anything on",
        "another machine. [figures.csv](figures.csv) has every single figure.",
        "",
    ]
    text += [f"- {name}: `{value}`" for name, value in facts.items()]
    text += [f"- rounds: {rows['rounds'].max()}", f"- aims: {met} of {len(aimed)} met"]
    if len(missing):
        text.append("- not here: " + ", ".join(missing))
    text += ["", "![tine's time to each peer's](ratios.svg)", ""]
    plot_ratios(rows, out / "ratios.svg")
    for axis in rows["axis"].dropna().unique():
        name = re.sub(r"[^a-z]+", "-", axis.lower()).strip("-") + ".svg"
        plot_growth(rows, axis, out / name)
        text += [f"![{axis}]({name})", ""]
    for program, part in rows.groupby("program", sort=False):
        text += [f"## {program}", "", *table(part), ""]
    (out / "README.md").write_text("\n".join(text))


if __name__ == "__main__":
    main(*sys.argv[1:])
