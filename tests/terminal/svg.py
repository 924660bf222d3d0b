"""What a terminal shows, as `tmux capture-pane -p -e` prints it, from standard input to an SVG on standard output."""

import html
import re
import sys
import unicodedata

WIDE, HIGH, MARGIN = 8.4, 18, 14
# Not collapsed, whatever a viewer thinks of xml:space.
NBSP = "\u00a0"
PLAIN, GROUND = "#d4d4d4", "#1e1e1e"
COLOURS = {30: "#808080", 31: "#f47067", 32: "#57ab5a", 33: "#daaa3f", 34: "#539bf5", 35: "#b083f0", 36: "#39c5cf", 37: PLAIN}


def columns(text):
    return sum(0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def spans(line, style):
    """The pieces of a line with what was in force; `style` goes on over the lines."""
    for piece in re.split(r"(\x1b\[[0-9;]*m)", line):
        code = re.fullmatch(r"\x1b\[([0-9;]*)m", piece)
        if code is None:
            if piece:
                yield piece, dict(style)
            continue
        for number in (int(one or 0) for one in code[1].split(";")):
            if number == 0:
                style.clear()
            elif number in (1, 2):
                style["bold" if number == 1 else "dim"] = True
            elif number == 22:
                style.pop("bold", None), style.pop("dim", None)
            elif number == 39:
                style.pop("colour", None)
            elif number in COLOURS:
                style["colour"] = COLOURS[number]


def main():
    lines = sys.stdin.read().rstrip("\n").split("\n")
    texts, widest, style = [], 0, {}
    for row, line in enumerate(lines):
        place = 0
        for text, said in spans(line, style):
            width = columns(text)
            if text.strip():
                attributes = f'fill="{said.get("colour", PLAIN)}"'
                attributes += ' font-weight="bold"' if said.get("bold") else ""
                attributes += ' opacity="0.6"' if said.get("dim") else ""
                x, y = MARGIN + place * WIDE, MARGIN + (row + 0.75) * HIGH
                shown = html.escape(text).replace(" ", NBSP)
                texts.append(f'<text x="{x:.1f}" y="{y:.1f}" textLength="{width * WIDE:.1f}" {attributes}>{shown}</text>')
            place += width
        widest = max(widest, place)
    size = f'width="{2 * MARGIN + widest * WIDE:.0f}" height="{2 * MARGIN + len(lines) * HIGH:.0f}"'
    print(f'<svg xmlns="http://www.w3.org/2000/svg" {size} lengthAdjust="spacingAndGlyphs"')
    print('  font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14">')
    print(f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>')
    print("\n".join(texts))
    print("</svg>")


main()
