"""Visual entailment on scenes: three scenes by three statements, each label once in each."""
from emojiscenes.problems import Judged
from minalbef.scenes.tasks.base import BLIND, Painter, SceneTask, SceneTest
from minalbef.tasks.entailment import LABELS, EntailmentRecord


def record(problem: Judged, painter: Painter) -> EntailmentRecord:
    return EntailmentRecord(painter.image(problem.scene), painter.text(problem.text), problem.id,
                            LABELS[problem.label])


SCENES = SceneTask(
    problems=("entailment",),
    record=record,
    tests={"": SceneTest("entailment", 1800)},
    titles=(("accuracy, three classes", "accuracy"),),
    settings={"alpha_ramp": False},
    trained_baselines=BLIND,
)
