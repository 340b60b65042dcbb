"""What --help shows: commands in groups, the names of tasks and sets, and all options of a run."""
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from minalbef.config import PARTS


def describe_commands(groups: Mapping[str, Mapping[str, Callable]]) -> str:
    """The commands by group, a line each: the first of their docstrings."""
    lines = []
    for title, commands in groups.items():
        lines.append(f"\n{title}")
        for name, command in commands.items():
            first, *_ = (command.__doc__ or "").splitlines()
            lines.append(f"  {name:10} {first}")
    return "\n".join(lines)


def fill_in(command: Callable) -> None:
    """Put names where the docstring has {tasks} and the like. In place."""
    command = inspect.unwrap(command)            # tyro reads the docstring of the innermost one
    doc = command.__doc__ or ""
    if "{" in doc:
        command.__doc__ = doc.format(**names())


def names() -> dict[str, str]:
    """What a docstring may name. Looked up for --help alone, since it loads torch."""
    from minalbef.datasets.catalogue import SETS
    from minalbef.scenes.tasks.table import SCENE_TASKS
    from minalbef.tasks.table import TASKS
    fine_tuning = [name for name, task in TASKS.items() if task.begins_from]
    return {
        "scene_tasks": either(SCENE_TASKS),
        "other_tasks": either(name for name in fine_tuning if name not in SCENE_TASKS),
        "predicting_tasks": either(name for name, task in TASKS.items() if task.predict),
        "trained_sets": ", ".join(name for name, splits in SETS.items() if "train" in splits),
        "other_sets": ", ".join(name for name, splits in SETS.items() if "train" not in splits),
    }


def either(words: Iterable[str]) -> str:
    """a, b or c"""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def describe_options() -> str:
    """Every field of a Config by group: its default, the values it takes, the reason for it.

    Groups and reasons are the comments of its source.
    """
    lines = ["options: name=value, here with the paper's value, which a preset may change"]
    for part in PARTS:
        items = {item.name: item for item in fields(part)}
        for line in inspect.getsource(part).splitlines():
            heading = re.fullmatch(r"    # (.+)", line)
            option = re.match(r"    (\w+): [^#]+(?:# (.+))?$", line)
            if heading:
                lines.append(f"\n{heading[1]}")
            elif option and option[1] in items:
                item = items[option[1]]
                setting = f"{item.name}={text_of(item.default)}"
                words = "; ".join(filter(None, (values_of(item), option[2])))
                lines.append(f"  {setting:26} {words}".rstrip())
    return "\n".join(lines)


def values_of(item: Any) -> str:
    """The values that a field takes, in words; "" where only its type says so."""
    if "range" in item.metadata:
        least, most = item.metadata["range"]
        return f"{least:,} to {most:,}"
    words = item.metadata.get("words", ())
    if isinstance(item.default, bool):
        words = ("true", "false")
    return " or ".join(words)


def text_of(value: Any) -> str:
    """A value as a user writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value) or '""'
