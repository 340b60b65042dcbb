"""The tasks that have a file in this folder, in the order of `tasks.table.TASKS`."""
from importlib import import_module
from importlib.util import find_spec

from minalbef.scenes.tasks.base import SceneTask
from minalbef.tasks.table import TASKS

SCENE_TASKS: dict[str, SceneTask] = {}
for name in TASKS:
    file = f"minalbef.scenes.tasks.{name}"
    if find_spec(file):
        SCENE_TASKS[name] = import_module(file).SCENES


if __name__ == "__main__":            # for the Makefile
    print(*SCENE_TASKS)
