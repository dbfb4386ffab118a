#!/usr/bin/env python3
"""Records the picture of `swarm lab` in the README: docs/lab.svg.

Runs the lab in a terminal (tmux), takes the screen once in the middle and once at the end, and draws both as one SVG.
Usage, from the top of the project, after `cargo build --release`: docs/record-lab.py
"""

import html
import pathlib
import re
import subprocess
import sys
import time

DOCS = pathlib.Path(__file__).resolve().parent
SWARM = DOCS.parent / "target/release/swarm"
ARGS = "lab --fault corrupt-peer --fault kill-peer --fault slow-peer --fault disk-full"
COLUMNS, ROWS = 96, 32
CELL_W, CELL_H, MARGIN = 8.4, 19, 16
ENDED = "(the lab has ended)"
BACKGROUND, FOREGROUND = "#14161b", "#d8dbe2"
COLOURS = {31: "#ff6b6b", 32: "#5fd38d", 33: "#e5c07b", 90: "#4a505c"}


def tmux(*args):
    done = subprocess.run(["tmux", "-L", "swarm-record", *args], check=True, capture_output=True, text=True)
    return done.stdout


def screen():
    """The lines on the screen, with their colours as escape sequences."""
    return tmux("capture-pane", "-e", "-p", "-t", "lab").rstrip("\n").split("\n")


def plain(lines):
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))


def record(swarm):
    """The screen when the swarm is half done, and when it is done."""
    # The lab is to have cleaned up when the terminal goes.
    command = f"{swarm} {ARGS}; echo '{ENDED}'; sleep 600"
    tmux("new-session", "-d", "-s", "lab", "-x", str(COLUMNS), "-y", str(ROWS), command)
    middle, end = [], []
    try:
        while ENDED not in plain(end):
            end = screen()
            shares = re.findall(r"(\d+) %  ", plain(end))
            if shares and sum(map(int, shares)) < 55 * len(shares):
                middle = end
            time.sleep(0.1)
    finally:
        tmux("kill-server")
    return middle, end


def styled(line):
    """The line's runs of equal style: column, text, colour, bold, dim."""
    column, colour, bold, dim = 0, None, False, False
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if not part.startswith("\x1b"):
            if part.strip():
                yield column, part, colour, bold, dim
            column += len(part)
            continue
        # Grey is written as the eighth of 256 colours.
        codes = part[2:-1].replace("38;5;8", "90").split(";")
        for code in (int(code or 0) for code in codes):
            if code == 0:
                colour, bold, dim = None, False, False
            elif code in (1, 2):
                bold, dim = bold or code == 1, dim or code == 2
            elif code == 22:
                bold, dim = False, False
            elif code == 39 or code in COLOURS:
                colour = COLOURS.get(code)


def draw(lines):
    width, height = COLUMNS * CELL_W + 2 * MARGIN, len(lines) * CELL_H + 2 * MARGIN
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-size="14" '
        f'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace">'
    )
    yield f"<title>swarm {ARGS}</title>"
    yield f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>'
    for row, line in enumerate(lines):
        y = MARGIN + (row + 0.75) * CELL_H
        for column, text, colour, bold, dim in styled(line):
            # Words apart, so that columns stand whatever the font.
            for word in re.finditer(r"\S+( \S+)*", text):
                style = f'fill="{colour or FOREGROUND}"'
                style += ' font-weight="bold"' if bold else ""
                style += ' opacity="0.6"' if dim else ""
                x, length = MARGIN + (column + word.start()) * CELL_W, len(word[0]) * CELL_W
                yield (
                    f'<text x="{x:.1f}" y="{y:.1f}" {style} textLength="{length:.1f}" '
                    f'lengthAdjust="spacingAndGlyphs">{html.escape(word[0])}</text>'
                )
    yield "</svg>"


def main():
    swarm = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else SWARM).resolve()
    middle, end = record(swarm)

    def trimmed(lines):
        lines = [line for line in lines if not plain([line]).startswith(("generating", ENDED))]
        while lines and not plain(lines[-1:]).strip():
            lines.pop()
        return lines

    prompt = f"\x1b[32m$\x1b[0m \x1b[1mswarm {ARGS}\x1b[0m"
    rule = "\x1b[90m" + "─" * COLUMNS + "\x1b[0m"
    lines = [prompt, "", *trimmed(middle), "", rule, "", *trimmed(end)]
    (DOCS / "lab.svg").write_text("\n".join(draw(lines)) + "\n")


main()
