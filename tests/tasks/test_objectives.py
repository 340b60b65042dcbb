"""An objective of your own: BLIP's captioning loss beside ITC, ITM and MLM,
from images that are encoded once."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from helpers import Batches, disturb, small
from minalbef import ALBEF, Config, Decoder
from minalbef.fast.pretrain import fast_form
from minalbef.pretrain import Pretrain

CONFIG = small()


class Captioner(ALBEF):
    """ALBEF, and a decoder that writes captions from image tokens."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.decoder = Decoder(config, config.image_width)

    def caption_logits(self, tokens: Tensor, keep: Tensor, image: Tensor) -> Tensor:
        """Which word comes next? Every word but [CLS],
        from those before it and the image: -> (words, v)."""
        x = self.decoder(tokens[:, :-1], keep[:, :-1], self.decoder.keys_values(image))
        return self.decoder.word_logits(x[keep[:, 1:]])


class CaptionPretrain(Pretrain):
    """ALBEF's three objectives, and BLIP's language modelling."""

    def __init__(self, config: Config):
        super().__init__(config, student=Captioner(config))

    def own_losses(self, batch, image, text, draws, phase) -> dict[str, Tensor]:
        """LM: write each image's caption (Li et al. 2022, section 3.2). The mean over words."""
        tokens = batch.tokens
        keep = batch.keep
        logits = self.student.caption_logits(tokens, keep, image)
        words = keep[:, 1:]
        loss = F.cross_entropy(logits, tokens[:, 1:][words], reduction="sum")
        return {"lm": loss / self.per_process(words)}


def new_task(kind=fast_form(CaptionPretrain)) -> CaptionPretrain:
    torch.manual_seed(0)
    task = kind(CONFIG)
    disturb(task.student)
    return task


def test_the_captioning_loss_equals_one_word_after_the_other():
    task = new_task()
    batch = Batches(CONFIG)(0)
    losses, _ = task(batch, 0.4, task.draws(0))
    image = task.student.encode_image(batch.image)
    expected = []
    for row, keep in enumerate(batch.keep):
        tokens = batch.tokens[row:row + 1, keep]
        for i in range(1, tokens.shape[1]):
            before = tokens[:, :i]
            keys_values = task.student.decoder.keys_values(image[row:row + 1])
            x = task.student.decoder(before, torch.ones_like(before, dtype=torch.bool),
                                     keys_values)
            log_probability = task.student.decoder.word_logits(x[0, -1]).log_softmax(-1)
            expected.append(-log_probability[tokens[0, i]])
    assert len(expected) == batch.keep[:, 1:].sum()
    assert_close(losses["lm"], torch.stack(expected).mean(), atol=1e-5, rtol=1e-5)
    blind, _ = task(batch.map(lambda x: x * 0 if x is batch.image else x), 0.4, task.draws(0))
    assert abs(blind["lm"] - losses["lm"]) > 1e-4, "it doesn't look at the image"


def test_it_is_the_same_beside_the_plain_step():
    batch = Batches(CONFIG)(0)
    losses = []
    for kind in (CaptionPretrain, fast_form(CaptionPretrain)):
        task = new_task(kind)
        losses.append(task(batch, 0.4, task.draws(0))[0])
    assert_close(*losses, atol=1e-6, rtol=1e-6)
