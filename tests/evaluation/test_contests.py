"""contests: captions compete within their group, and one may be true of several images."""
import numpy as np
import torch

from emojiscenes.scenes import Scenes, truth
from minalbef.evaluation import contests
from minalbef.evaluation.contests import Contest, RankingRecord
from minalbef.scenes.records import ranking_records


def test_a_caption_is_true_of_its_own_image_and_of_those_it_fits():
    image = np.zeros((4, 4, 3), np.uint8)
    group = [RankingRecord(image, "a cat", 7, fits=(7, 9)),
             RankingRecord(image, "a dog", 8),
             RankingRecord(image, "a cat and a dog", 9, fits=(9,))]
    true = torch.tensor([[True, False, False],           # by image, then by caption
                         [False, True, False],
                         [True, False, True]])
    assert contests.truth(group).equal(true)


def test_a_caption_that_fits_another_image_is_a_hit_there():
    sim = torch.tensor([[[0.2, 0.1], [0.9, 0.3]]])       # both images prefer the first caption
    first_alone = torch.eye(2, dtype=torch.bool)[None]
    first_fits_both = torch.tensor([[[True, False], [True, True]]])
    recalls = []
    for true in (first_alone, first_fits_both):
        values = contests.hits(Contest(sim, sim, true), weight=0.0)
        recalls.append((values["itc_i2t_r1"].tolist(), values["itc_t2i_r1"].tolist()))
    assert recalls == [([[1, 0]], [[0, 1]]), ([[1, 1]], [[1, 1]])]


def test_records_of_scenes_know_every_caption_that_is_true_of_an_image():
    scenes = Scenes("test", seed=4, objects=6, counts=(0.6, 0.4, 0.0))
    examples = [scenes.draw(i) for i in range(60)]
    records = ranking_records(examples, 30, size=8)
    for first in (0, 30):
        true = torch.from_numpy(truth(examples[first:first + 30])).T
        assert true.sum() > 30, "some captions are true of another image, too"
        assert contests.truth(records[first:first + 30]).equal(true)
