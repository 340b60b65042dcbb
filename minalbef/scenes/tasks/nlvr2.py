"""NLVR2 on scenes: one claim about four pairs of images, twice true and twice false."""
from emojiscenes.problems import Paired
from minalbef.scenes.tasks.base import BLIND, Painter, SceneTask, SceneTest
from minalbef.tasks.nlvr2 import NLVR2Record


def record(problem: Paired, painter: Painter) -> NLVR2Record:
    images = painter.image(problem.left), painter.image(problem.right, side="right")
    return NLVR2Record(images, painter.text(problem.text), problem.true, problem.id,
                       kind=problem.kind)


SCENES = SceneTask(
    problems=("nlvr2",),
    record=record,
    tests={"": SceneTest("nlvr2", 1800)},
    titles=(("accuracy", "accuracy"),
            ("consistency, all four pairs of a statement", "consistency")),
    settings={"lr": 6e-4},
    trained_baselines=BLIND | {
        "left_alone": {"hide": "right"},
        "without_assignment": {"assign": 0},
    },
)
