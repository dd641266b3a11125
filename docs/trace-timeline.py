#!/usr/bin/env python3
"""trace-timeline.py TRACE >TIMELINE.svg: a picture of a trace that TINE_TRACE has left: a row for each worker, a bar for each task."""
import html
import json
import sys

LEFT, ROW, WIDTH, TOP = 170, 26, 900, 44
COLOURS = {"ran": "#3b7dd8", "failed": "#e8a33d", "died": "#c8372d", "wait": "#b9c2cc"}


def read(path):
    """The events; the array may be open, and the last line torn where the host was killed or the disk was full."""
    with open(path, encoding="utf-8") as file:
        assert file.read(1) == "[", f"{path} is no trace"
        for line in file:
            try:
                yield json.loads(line.strip().rstrip(",")) if line.strip() else {"ph": ""}
            except ValueError:
                return


def kind_of(event):
    arguments = event.get("args", {})
    if event["cat"] == "wait":
        return "wait"
    return "died" if "died" in arguments else "failed" if arguments.get("status", 0) < 0 or arguments.get("failed") else "ran"


def main(path):
    names, lives, bars = {}, {}, []
    for event in read(path):
        thread = (event.get("pid"), event.get("tid"))
        if event["ph"] == "M" and event["name"] == "thread_name":
            names[thread] = event["args"]["name"]
        elif event["ph"] == "B":
            lives.setdefault(thread, [event["ts"], None])
        elif event["ph"] == "E" and thread in lives:
            lives[thread][1] = event["ts"]
        elif event["ph"] == "X":
            bars.append((thread, event["ts"], event["dur"], kind_of(event), event["name"]))
    begin = min([bar[1] for bar in bars] + [life[0] for life in lives.values()])
    end = max([bar[1] + bar[2] for bar in bars] + [life[1] or 0 for life in lives.values()])
    scale = WIDTH / (end - begin)
    used = {bar[0] for bar in bars} | set(lives)
    order = {name: at for at, name in enumerate(sorted(set(names.values())))}
    rows = sorted(used, key=lambda thread: (order.get(names.get(thread), -1), lives.get(thread, [0])[0]))
    place = lambda time: LEFT + (time - begin) * scale
    height = TOP + ROW * len(rows) + 34
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 40} {height}" '
          'font-family="sans-serif" font-size="12">')
    print(f'<rect width="100%" height="100%" fill="#ffffff"/>')
    for at, (kind, text) in enumerate([("ran", "ran"), ("failed", "failed"), ("died", "its worker died"), ("wait", "the host waits")]):
        print(f'<rect x="{LEFT + 150 * at}" y="12" width="14" height="14" fill="{COLOURS[kind]}"/>')
        print(f'<text x="{LEFT + 150 * at + 20}" y="24">{text}</text>')
    for row, thread in enumerate(rows):
        y = TOP + ROW * row
        name = f"{names.get(thread, 'thread')} ({thread[1]})"
        print(f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end">{html.escape(name)}</text>')
        if thread in lives:
            first, last = lives[thread]
            width = max((last or end) - first, 0) * scale
            print(f'<rect x="{place(first):.1f}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}" fill="#eef1f4"/>')
        for _, time, took, kind, what in (bar for bar in bars if bar[0] == thread):
            title = html.escape(f"{what}: {took / 1000:.3f} ms")
            print(f'<rect x="{place(time):.1f}" y="{y + 4}" width="{max(took * scale, 0.5):.1f}" height="{ROW - 8}" '
                  f'fill="{COLOURS[kind]}" stroke="#ffffff" stroke-width="0.5"><title>{title}</title></rect>')
    step = next(one for one in (s * 10**p for p in range(12) for s in (1, 2, 5)) if (end - begin) / one <= 12)
    y = TOP + ROW * len(rows)
    for tick in range(int((end - begin) / step) + 1):
        x = LEFT + tick * step * scale
        print(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{y + 4}" stroke="#00000018"/>')
        print(f'<text x="{x:.1f}" y="{y + 20}" text-anchor="middle">{tick * step / 1000:g} ms</text>')
    print("</svg>")


if len(sys.argv) != 2:
    sys.exit(__doc__)
main(sys.argv[1])
