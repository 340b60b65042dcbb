"""`minalbef options`: every field of a Config, with its default and the reason for it."""
import inspect
import re
from dataclasses import fields

from minalbef.config import PARTS, nearest


def options(word: str = "", /) -> None:
    """Every option that a command takes as name=value, with its default and the reason for it.

    Args:
        word: only those whose line has it, such as lr or queue
    """
    lines = []
    names = []
    for part in PARTS:
        lines += [line for line in option_lines(part) if word in line]
        names += [item.name for item in fields(part)]
    if not lines:
        raise ValueError(f"no option has {word!r} in its line{nearest(word, names)}; "
                         "`minalbef options` lists all")
    print("\n".join(lines))


def option_lines(part: type) -> list[str]:
    """A part's fields as its source has them, without ranges, and the headings between them."""
    lines = []
    for line in inspect.getsource(part).splitlines():
        heading = re.fullmatch(r"    (# .+)", line)
        option = re.fullmatch(r"    (\w+: [^=]+ = )(.+?)(?:  # (.+))?", line)
        if heading:
            lines.append(heading[1])
        elif option:
            setting = option[1] + default_of(option[2])
            lines.append(f"{setting:<32}  # {option[3]}" if option[3] else setting)
    return lines


def default_of(expression: str) -> str:
    """A field's default: number(512, 1, MANY) -> 512, word("fp32", "bf16") -> "fp32" or "bf16"."""
    call = re.fullmatch(r"(number|word)\((.+)\)", expression)
    if not call:
        return expression
    arguments = call[2].split(", ")
    return arguments[0] if call[1] == "number" else " or ".join(arguments)
