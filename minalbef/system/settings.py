"""A Config as text: options of the command line, settings of a run's folder."""
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from minalbef.config import Config
from minalbef.system.limits import nearest


def require_config(config: Any) -> "Config":
    """The config; raises ValueError for what is no Config, such as a preset's name."""
    if not isinstance(config, Config):
        raise ValueError(f"config={config!r} must be a Config; make one with minalbef.preset(name)")
    return config


# may differ on resume: they change rounding and dropout's masks
FREE = ("fast", "device", "checkpointing", "compile", "tensorboard")


def read_changes(changes: tuple[str, ...]) -> dict[str, str]:
    """("batch=32",) -> {"batch": "32"}. Raises ValueError for what has no "="."""
    for change in changes:
        if "=" not in change:
            raise ValueError(f"{change!r} is no change of an option; write name=value, such as "
                             "batch=32")
    return dict(change.split("=", 1) for change in changes)


def replace_checked(config: Config, /, **changes: Any) -> Config:
    """`dataclasses.replace` that reads strings as the field's type.

    Raises ValueError for a name that is no field, with the nearest that is, and for a wrong value.
    """
    kinds = {item.name: type(item.default) for item in fields(Config)}
    for name, value in changes.items():
        if name not in kinds:
            raise ValueError(f"no option {name!r}{nearest(name, kinds)}")
        with suppress(TypeError, ValueError, OverflowError, KeyError):   # Config says what is wrong
            changes[name] = convert(value, kinds[name])
    return replace(config, **changes)


def convert(value: Any, kind: type) -> Any:
    """A value, maybe as text, as a field of that kind has it; for an int, 2.5 stays 2.5."""
    if kind is tuple:
        parts = value.strip("()").split(",") if isinstance(value, str) else value
        return tuple(float(part) for part in parts)
    if kind is bool:
        return {"true": True, "false": False}[str(value).lower()]
    if kind is int:
        number = float(value)
        return int(number) if number == int(number) else value
    return kind(value)


def from_dict(values: dict[str, Any], source: str | Path = "the settings") -> Config:
    """The Config that `to_dict` gave, also after JSON. A field that came later has its default.

    source: the values' file, for the message. Raises ValueError for values that do not fit.
    """
    names = {item.name for item in fields(Config)}
    unknown = sorted(values.keys() - names)
    if unknown:
        raise ValueError(f"{source} was made by a later version of minalbef, or changed: it has "
                         f"{', '.join(unknown)}, which this version does not know; take the later "
                         "version, or train the run again")
    try:
        return replace_checked(Config(), **values)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def other_settings(values: dict[str, Any], config: Config) -> str:
    """How a run's settings, as `to_dict` gives them, differ from `config`; "" if they do not.

    FREE fields may differ.
    """
    there = from_dict(values).to_dict()
    here = config.to_dict()
    return differences({name: there[name] for name in here if name not in FREE},
                       {name: here[name] for name in here if name not in FREE})


def differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    """"seed: 0 there, 3 here", of values by name; "" where none differ."""
    lines = []
    for name in {**there, **here}:
        if there.get(name) != here.get(name):
            then = there.get(name, "none")
            lines.append(f"{name}: {then} there, {here.get(name, 'none')} here")
    return "; ".join(lines)
