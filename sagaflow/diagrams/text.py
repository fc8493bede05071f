"""Text in a picture: how wide it is, where it is broken, and what XML allows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import fsum
from typing import Final
from unicodedata import east_asian_width
from xml.sax.saxutils import escape

# Of DejaVu Sans, the widest of the usual fonts without serifs, in parts of the font's size.
_WIDTHS: Final = (
    ("iljI|'.,:;!", 0.32),
    ("ft()[]r-/ ", 0.40),
    ("mwMWOQ@%", 0.90),
    ("ABCDEFGHJKLNPRSTUVXYZ", 0.70),
    ("_", 0.50),
)
_WIDTH_OF: Final = {character: width for text, width in _WIDTHS for character in text}
_OTHER: Final = 0.62
_WIDE: Final = 1.05
_WORDS: Final = re.compile(r"\S+\s*")
_WITHIN_WORDS: Final = re.compile(r"(?<=[_.])|(?<=[a-z0-9])(?=[A-Z])")
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def width_of(text: str, size: float) -> float:
    """Return how wide *text* is at most, in a font of *size*."""
    return size * fsum(_width(character) for character in text)


def wrapped(text: str, most: int) -> list[str]:
    """Break *text* into lines of *most* characters: between words, and within those too long."""
    lines, line = list[str](), ""
    for part in _parts(text, most):
        if line and len(line) + len(part.rstrip()) > most:
            lines.append(line)
            line = ""
        line += part
    return [found.strip() for found in (*lines, line) if found.strip()]


def _parts(text: str, most: int) -> Iterator[str]:
    for word in _WORDS.findall(text):
        if len(word.rstrip()) <= most:
            yield word
            continue
        for part in _WITHIN_WORDS.split(word):
            yield from (part[at : at + most] for at in range(0, len(part), most))


def xml(text: str) -> str:
    """Return *text* as XML has it, also within quotes."""
    return escape(_NO_XML.sub("\ufffd", text), {'"': "&quot;"})


def _width(character: str) -> float:
    if east_asian_width(character) in "WF":
        return _WIDE
    return _WIDTH_OF.get(character, _OTHER)
