"""Encoders that training leaves as they are: `--freeze image`."""
from collections.abc import Collection
from typing import Any

WEIGHTS = {"image": "--vit", "text": "--bert"}   # the flags that name them in pretraining


def freeze_encoders(task: Any, encoders: Collection[str], random: Collection[str] = ()
                    ) -> dict[str, str]:
    """Freeze encoders of a task's student, in place: -> what that adds to the run's origin.

    random: those at random initialisation. Raises ValueError if one of them would stay so
    """
    for name in encoders:
        if name in random:
            raise ValueError(f"--freeze {name}: that encoder would stay at random initialisation; "
                             f"name its weights with {WEIGHTS[name]}, or leave --freeze out")
        albef = getattr(task.student, "albef", task.student)
        getattr(albef, f"{name}_encoder").requires_grad_(False)
    return {"freeze": " ".join(sorted(encoders))} if encoders else {}
