"""A text encoder of your own, here a small causal language model: tried, trained,
saved and loaded again."""
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import minalbef
from helpers import Batches, small, texts
from minalbef import ALBEF, train
from minalbef.pretrain import Pretrain
from minalbef.system.tokenizer import Tokenizer

CONFIG = small()


class CausalLM(nn.Module):
    """A pre-norm transformer, whose words see those before them alone;
    the last word stands for the text."""

    def __init__(self, config, width: int = 24, heads: int = 4, depth: int = 2):
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, width)
        self.positions = nn.Embedding(config.text_length, width)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu",
                                           batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width),
                                            enable_nested_tensor=False)
        self.out = nn.Linear(width, config.text_width)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        length = tokens.shape[1]
        hidden = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        x = self.words(tokens) + self.positions.weight[:length]
        return self.out(self.layers(x, mask=hidden, is_causal=True))

    def pool(self, x: Tensor, keep: Tensor) -> Tensor:
        last = keep.sum(1) - 1
        return x[torch.arange(len(x), device=x.device), last]

    def word_table(self) -> Tensor:
        return self.out(self.words.weight)


def build(config) -> ALBEF:
    return ALBEF(config, text_encoder=CausalLM(config))


class Bare(nn.Module):
    def forward(self, tokens, keep):
        return torch.zeros(*tokens.shape, CONFIG.text_width)


@pytest.mark.parametrize("encoder, message", [
    (lambda: CausalLM(small(text_width=40)),
     r"text_encoder=CausalLM gives \(2, 9, 40\), and must give \(2, 9, 48\)"),
    (lambda: CausalLM(small(vocab_size=70)),
     r"word_table\(\) gives \(70, 48\), and must give \(64, 48\)"),
    (Bare, r"text_encoder=Bare has no word_table\(\): ALBEF calls it"),
    (lambda: print, "text_encoder=builtin_function_or_method must be an nn.Module")])
def test_a_text_encoder_that_does_not_fit_is_refused_by_what_it_gives(encoder, message):
    with pytest.raises(ValueError, match=message):
        ALBEF(CONFIG, text_encoder=encoder())


def test_the_feature_is_the_last_words_and_the_word_head_is_tied_to_the_table():
    model = build(CONFIG)
    tokens, keep = texts(3, 9)
    x = model.encode_text(tokens, keep)
    last = [x[row, int(keep[row].sum()) - 1] for row in range(3)]
    expected = model.text_proj(torch.stack(last))
    assert_close(model.text_feature(x, keep), expected / expected.norm(dim=-1, keepdim=True))
    model.word_logits(torch.randn(5, CONFIG.text_width)).sum().backward()
    assert model.text_encoder.words.weight.grad.abs().sum() > 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple:
    """The task after 20 steps, losses of each step, and its run folder."""
    folder = tmp_path_factory.mktemp("causal")
    words = [f"w{i}" for i in range(CONFIG.vocab_size - 5)]
    vocabulary = folder / "vocabulary.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]),
                          encoding="utf-8")
    torch.manual_seed(0)
    task = Pretrain(CONFIG, student=build(CONFIG)).train()
    optimiser = torch.optim.AdamW(train.parameter_groups(task, CONFIG))
    batches = Batches(CONFIG)
    losses = []
    for step in range(20):
        of_step, _ = train.train_step(task, task, optimiser, batches(0),
                                      step, CONFIG, torch.device("cpu"))
        losses.append({name: loss.item() for name, loss in of_step.items()})
    minalbef.save(folder, task.student, Tokenizer.from_vocab(vocabulary), task.teacher)
    return task, losses, folder


@torch.no_grad()
def test_it_is_saved_and_gives_the_same_once_loaded(trained):
    task, _, folder = trained
    run = minalbef.load(folder, build=build)
    model = task.student.eval()
    batch = Batches(CONFIG)(1)
    for albef in (model, run.model):
        assert isinstance(albef.text_encoder, CausalLM)
    def outputs(albef: ALBEF) -> list[Tensor]:
        x = albef.encode_text(batch.tokens, batch.keep)
        fused = albef.fuse(x, batch.keep, albef.encode_image(batch.image))
        return [albef.text_feature(x, batch.keep),
                albef.match_logits(fused), albef.word_logits(fused)]
    for value, expected in zip(outputs(model), outputs(run.model)):
        assert value.equal(expected)
    image = torch.zeros(3, 24, 24, dtype=torch.uint8)
    alone = run.embed_texts("w1 w2")
    together = run.embed_texts(["w1 w2", "w1 w2 w3 w4"])
    assert_close(together[:1], alone, msg="padding is part of the feature")
    assert run.similarity(image, ["w1 w2", "w3"]).shape == (1, 2)


def test_a_run_with_a_text_encoder_of_ones_own_says_so(trained):
    folder = trained[2]
    with pytest.raises(ValueError,
                       match="not fit the model: missing text_encoder.*minalbef.load.RUN, build="):
        minalbef.load(folder)
    loaded = str(minalbef.load(folder, build=build))
    assert "text encoder" in loaded
    assert "CausalLM, to tokens of width 48; 64 word pieces" in loaded
    assert "layers of width 32" in loaded.splitlines()[1]
