"""Values that may be set: kinds, ranges, the nearest word, and names for a terminal."""
import difflib
import re
from collections.abc import Iterable
from typing import Any

_KINDS = {
    int: "a whole number",
    bool: "true or false",
    float: "a number",
    str: "a word",
    tuple: "two numbers, a,b",
}


def check_kind(name: str, value: Any, default: Any) -> None:
    """Raises ValueError for a value that is not of its default's type; an int is a float, too."""
    kind: Any = type(default)
    if not isinstance(value, (int, float) if kind is float else kind):
        raise ValueError(f"{name}={value!r} must be {_KINDS[kind]}, such as {default!r}")


def check_encoder(name: str, value: str, *ours: str) -> None:
    """Raises ValueError for what names no encoder, see encoders.py."""
    if value not in ours and not value.partition(":")[2]:
        raise ValueError(f"{name}={value!r} must be {', '.join(ours)} or yourmodule:YourClass")


def check_freeze(value: str) -> None:
    """Raises ValueError for what names no part to freeze, see weights.starts.freeze."""
    for part in filter(None, value.split(",")):
        if not re.fullmatch(r"(image|text)(:\d+)?", part):
            raise ValueError(f"freeze={value!r}: {part!r} must be image or text, or the lowest n "
                             "layers of one of them, such as text:3")


def check_range(label: str, value: float, least: float, most: float) -> None:
    """Raises ValueError for a number outside, and for nan.

    label: the number with its name, as the user wrote it
    """
    if not least <= value <= most:
        raise ValueError(f"{label} must lie between {least:,} and {most:,}")


def check_multiple(name: str, value: int, unit_name: str, unit: int) -> None:
    """Raises ValueError for a number that is no multiple of another, with the nearest that is."""
    if value % unit:
        multiple = max(1, round(value / unit)) * unit
        raise ValueError(f"{name}={value} is not a multiple of {unit_name}={unit}; the nearest "
                         f"that is: {multiple}")


def nearest(word: str, words: Iterable[str]) -> str:
    """" (did you mean 'batch'?)": the first that begins with the word, or else the most similar.

    -> "" where no word is near
    """
    words = list(words)
    matches = [candidate for candidate in words if candidate.startswith(str(word))]
    if not matches:
        matches = difflib.get_close_matches(str(word), words, n=1, cutoff=0.4)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def printable(text: str) -> str:
    """A file's name or a user's text as a terminal may show it, in one line.

    What isn't printable is written as an escape: control characters, and half of a surrogate pair,
    which stands for a byte of a name that is no UTF-8.
    """
    line = ""
    for letter in text:
        line += letter if letter.isprintable() else letter.encode("unicode_escape").decode()
    return line
