#!/usr/bin/env python3
"""terminal-picture.py SECONDS COMMAND... >PICTURE.svg: what stands on a terminal of 104 x 24 after a command has run in it for so long."""
import fcntl
import html
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

COLUMNS, ROWS = 104, 24
COLOURS = ["#1d1f21", "#c8372d", "#3d8b40", "#a5781f", "#3b7dd8", "#8a4fbf", "#2a8a8a", "#d0d0d0"]
ESCAPE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>78]|\x1b\][^\x07]*\x07")


def written(seconds, command):
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    os.kill(child, signal.SIGWINCH)
    bytes_, end = b"", time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                bytes_ += os.read(terminal, 65536)
            except OSError:
                break
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    return bytes_.decode(errors="replace")


def screen(text):
    """Cells of (character, colour, bold, reversed)."""
    empty = (" ", 0, False, False)
    cells = [[empty] * COLUMNS for _ in range(ROWS)]
    row = column = at = 0
    colour, bold, swapped = 0, False, False
    while at < len(text):
        if match := ESCAPE.match(text, at):
            at = match.end()
            numbers = [int(n) for n in (match[1] or "").strip("?").split(";") if n] if match[2] else []
            first = numbers[0] if numbers else 0
            if match[2] in ("H", "f"):
                row, column = (numbers + [1, 1])[0] - 1 if numbers else 0, numbers[1] - 1 if len(numbers) > 1 else 0
            elif match[2] == "G":
                column = max(first, 1) - 1
            elif match[2] == "J":
                lines = range(ROWS) if first >= 2 else range(row + 1, ROWS)
                for line in lines:
                    cells[line] = [empty] * COLUMNS
                if first == 0 and row < ROWS:
                    cells[row][column:] = [empty] * (COLUMNS - column)
            elif match[2] == "K" and row < ROWS:
                cells[row][column:] = [empty] * (COLUMNS - column)
            elif match[2] == "m":
                for number in numbers or [0]:
                    if number == 0:
                        colour, bold, swapped = 0, False, False
                    elif number in (1, 22):
                        bold = number == 1
                    elif number in (7, 27):
                        swapped = number == 7
                    elif 30 <= number <= 37 or 90 <= number <= 97:
                        colour = number % 10
                    elif number == 39:
                        colour = 0
            continue
        character = text[at]
        at += 1
        if character == "\n":
            row += 1
        elif character == "\r":
            column = 0
        elif character >= " " and row < ROWS and column < COLUMNS:
            cells[row][column] = (character, colour, bold, swapped)
            column += 1
    return cells


def main(seconds, command):
    cells = screen(written(float(seconds), command))
    while cells and all(cell[0] == " " and not cell[3] for cell in cells[-1]):
        cells.pop()
    width, height = COLUMNS * 8 + 24, len(cells) * 18 + 24
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="DejaVu Sans Mono, monospace" font-size="13">')
    print('<rect width="100%" height="100%" rx="6" fill="#fbfbfb" stroke="#cccccc"/>')
    for y, line in enumerate(cells):
        x = 0
        while x < COLUMNS:
            end = x
            while end < COLUMNS and line[end][1:] == line[x][1:]:
                end += 1
            text, (_, colour, bold, swapped) = "".join(cell[0] for cell in line[x:end]), line[x]
            if swapped:
                print(f'<rect x="{12 + x * 8}" y="{12 + y * 18}" width="{(end - x) * 8}" height="18" fill="{COLOURS[colour]}"/>')
            if text.strip():
                fill, weight = "#fbfbfb" if swapped else COLOURS[colour], ' font-weight="bold"' if bold else ""
                print(f'<text x="{12 + x * 8}" y="{25 + y * 18}" fill="{fill}"{weight} xml:space="preserve" '
                      f'textLength="{(end - x) * 8}" lengthAdjust="spacing">{html.escape(text)}</text>')
            x = end
    print("</svg>")


if len(sys.argv) < 3:
    sys.exit(__doc__)
main(sys.argv[1], sys.argv[2:])
