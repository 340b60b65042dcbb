"""Retrieval on scenes: within families of four scenes of the same objects, and among 500 scenes."""
import torch

from emojiscenes.problems import Told
from minalbef.data import Record
from minalbef.fast.pretrain import in_form
from minalbef.pretrain import Pretrain
from minalbef.scenes.tasks.base import Draw, Painter, SceneTask, SceneTest, cluster

FAMILIES = 800                        # scenes, in families of four
FIGURES = {"itc_i2t_r1": "itc_i2t_r1", "itc_t2i_r1": "itc_t2i_r1",
           "rerank_i2t_r1": "itm_i2t_r1", "rerank_t2i_r1": "itm_t2i_r1"}


def record(problem: Told, painter: Painter) -> Record:
    """One of the image's captions, each in turn.

    Families and other scenes both count their images from 0: they get odd and even ids.
    """
    text = problem.texts[problem.id % len(problem.texts)]
    return Record(painter.image(problem.scene), text, 2 * problem.id + (1 if problem.kind else 0))


def baselines(draw: Draw) -> dict:
    """Chance level, which knowing the objects alone doesn't exceed within a family."""
    quarter = cluster(torch.full((len(draw("families", FAMILIES)),), 0.25), "families")
    return {"chance": {"families": {name: quarter for name in FIGURES.values()}}}


SCENES = SceneTask(
    problems=("families", "retrieval"),
    record=record,
    tests={"families": SceneTest("families", FAMILIES, {"top": 4, "log_odds": True}),
           "plain": SceneTest("retrieval", 500, {"top": 10, "log_odds": True}, grouped=False)},
    titles=(("R@1 in a family of 4, ITC", "families.itc_i2t_r1 / families.itc_t2i_r1"),
            ("R@1 in a family of 4, ITM", "families.itm_i2t_r1 / families.itm_t2i_r1"),
            ("R@1 of {block}, ITC", "plain.itc_i2t_r1 / plain.itc_t2i_r1"),
            ("R@1 of {block}, ITM", "plain.itm_i2t_r1 / plain.itm_t2i_r1")),
    figures=FIGURES,
    baselines=baselines,
    trained_baselines={"continued_pretraining": {
        "module": lambda config: in_form(Pretrain, config)(config)}},
    untrained_baselines={"pretrained": ("pretrained", "")},
)
