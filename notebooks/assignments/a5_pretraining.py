# %% [markdown]
# # Assignment 5 · Pretraining
#
# **You build what a training run is made of: words hidden as BERT hides them, the loss that asks for them, the rate of
# learning, and one step in the right order.** Then three runs are put before you that went wrong, and you say why from their
# curves alone.
#
# - **Needs:** chapters 07 and 08. **Time:** six hours. **Points:** 30 by tests, 12 by a person.
# - Write where it says `raise NotImplementedError()`. Below each answer stand tests that you may run; those that grade you
#   hold more, on numbers of your own. `minalbef` is closed while they run: calling it earns nothing.
# - Letters: b captions, l word pieces, v words and pieces to choose from.
# %%
import csv
import math
from pathlib import Path

import grading
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minalbef import plots

with open(Path(grading.__file__).parent / "a5_curves.csv") as file:
    rows = list(csv.DictReader(file))
curves = {run: {name: [float(row[name]) for row in rows if row["run"] == run] for name in rows[0] if name != "run"}
          for run in dict.fromkeys(row["run"] for row in rows)}              # {"A": {"step": [...], "itc": [...], ...}, ...}


# %% [markdown]
# ## 1. Whole words, hidden (7 points)
#
# A share `rate` of the words is chosen, to be guessed. Of these 80% go behind `[MASK]`, 10% are replaced by another word, 10%
# stay as they are. The package decides for every piece alone. You decide for every **word**: all pieces of a word have the
# fate that is drawn at its first piece. (Each replaced piece takes what `words` has at its own place.) `choose` and `kind`
# are drawn evenly from 0 to 1: a word is chosen where `choose` is below `rate`; then `kind` below 0.8 is `[MASK]`, from there
# and below 0.9 another word. What is `special` ([CLS], [SEP], padding) is never chosen; each of them is a word of its own.
# %% answer mask_words
def mask_words(tokens: Tensor, starts: Tensor, special: tuple[int, ...], mask_id: int, rate: float,
               choose: Tensor, kind: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Hide whole words: all tensors (b, l); starts: bool, True where a word begins; choose, kind: uniform; words: ids.

    -> masked (b, l), what the model reads; labels (b, l): the id to be guessed where one was chosen, else -100
    """
    ### BEGIN SOLUTION
    first = (torch.arange(tokens.shape[1]) * starts).cummax(-1).values       # where each piece's word begins
    choose, kind = choose.gather(-1, first), kind.gather(-1, first)
    chosen = (choose < rate) & ~torch.isin(tokens, torch.tensor(special))
    masked = torch.where(chosen & (kind < 0.8), mask_id, tokens)
    masked = torch.where(chosen & (kind >= 0.8) & (kind < 0.9), words, masked)
    return masked, torch.where(chosen, tokens, -100)
    ### END SOLUTION


# %% tests mask_words 7
def draw_captions(g):
    """Two captions of 3 to 5 words, of one to three pieces each, between [CLS] 1 and [SEP] 2, padded with 0."""
    rows = []
    for _ in range(2):
        row = [(1, True)]
        for _ in range(int(torch.randint(3, 6, (), generator=g))):
            row += [(int(torch.randint(10, 90, (), generator=g)), i == 0)
                    for i in range(int(torch.randint(1, 4, (), generator=g)))]
        rows.append(row + [(2, True)] + [(0, True)] * (17 - len(row)))
    tokens, starts = (torch.tensor([[one[i] for one in row] for row in rows]) for i in (0, 1))
    return tokens, starts, torch.randint(100, 200, tokens.shape, generator=g)


with grading.closed():
    g, special = grading.inputs(), (0, 1, 2)
    tokens, starts, words = draw_captions(g)
    choose, kind = torch.rand(2, *tokens.shape, generator=g)
    before, real = tokens.clone(), tokens > 2
    masked, labels = mask_words(tokens, starts, special, 3, 1.0, choose, kind, words)
    grading.equal(tokens, before, "the caller's tokens stay as they are")
    assert (labels[~real] == -100).all() and masked[~real].equal(tokens[~real]), \
        "[CLS], [SEP] and padding are never hidden and never asked for"
    grading.equal(labels[real], tokens[real], "at a rate of one every word is asked for: the word that stood there, "
                  "whatever the model reads in its place")
    masked, labels = mask_words(tokens, starts, special, 3, 0.0, choose, kind, words)
    assert masked.equal(tokens) and (labels == -100).all(), "at a rate of zero nothing is hidden, and nothing is asked for"
    masked, labels = mask_words(tokens, starts, special, 3, 0.5, choose, kind, words)
    assert masked[labels == -100].equal(tokens[labels == -100]), "what is not asked for is left as it is"
    # one word of two pieces, 20 and 21, then three of one piece each; all chosen but the third, which has drawn the rate itself
    given = [torch.tensor([one]) for one in ((1, 20, 21, 30, 40, 50), (.0, .1, .9, .2, .5, .3), (.0, .1, .99, .8, .1, .9),
                                             (100, 101, 102, 103, 104, 105))]
    begins = torch.tensor([[True, True, False, True, True, True]])
    masked, labels = mask_words(given[0], begins, special, 3, 0.5, given[1], given[2], given[3])
    assert labels[0, 1:3].tolist() == [20, 21] and masked[0, 1:3].tolist() == [3, 3], \
        "a word's pieces share the fate that was drawn at the first of them"
    assert labels[0, 4] == -100, "chosen is who draws less than the rate, and not who draws the rate itself"
    assert masked[0, 3] == 103 and labels[0, 3] == 30, "from eight tenths on another word is read, and the true one asked for"
    assert masked[0, 5] == 50 and labels[0, 5] == 50, "from nine tenths on a word is left in sight, and asked for all the same"
    ### BEGIN HIDDEN TESTS
    def formula(tokens, starts, rate, choose, kind, words):
        masked, labels = tokens.tolist(), [[-100] * tokens.shape[1] for _ in tokens]
        for i, row in enumerate(tokens.tolist()):
            for j, token in enumerate(row):
                if starts[i, j]:
                    fate = choose[i, j].item(), kind[i, j].item()
                if token > 2 and fate[0] < rate:
                    labels[i][j] = token
                    masked[i][j] = 3 if fate[1] < 0.8 else words[i, j].item() if fate[1] < 0.9 else token
        return torch.tensor(masked), torch.tensor(labels)

    for rate in (0.3, 0.7, 1.0):
        tokens, starts, words = draw_captions(g)
        choose, kind = torch.rand(2, *tokens.shape, generator=g)
        kind[:, 1::2] = 0.75 + kind[:, 1::2] / 4                             # more of the rare fates
        got, want = mask_words(tokens, starts, special, 3, rate, choose, kind, words), formula(
            tokens, starts, rate, choose, kind, words)
        grading.equal(got[1], want[1], "asked for are whole words, each with the chance of the rate")
        grading.equal(got[0], want[0],
                      "eight tenths of what is asked for go behind [MASK], a tenth becomes what "
                      "`words` has at its own place, a tenth stays")
    ### END HIDDEN TESTS

# %% instructor mask_words
mistakes = {
    "every piece for itself": ("choose.gather(-1, first), kind.gather(-1, first)", "choose, kind"),
    "chosen together, hidden apart": ("kind.gather(-1, first)", "kind"),
    "one draw for both": ("kind.gather(-1, first)", "choose.gather(-1, first)"),
    "mask on [CLS], [SEP] and padding": (" & ~torch.isin(tokens, torch.tensor(special))", ""),
    "mask on [SEP]": ("torch.tensor(special)", "torch.tensor(special[:-1])"),
    "the rate itself is chosen": ("choose < rate", "choose <= rate"),
    "chosen reversed": ("choose < rate", "choose >= rate"),
    "always [MASK]": (" & (kind < 0.8)", "", " & (kind >= 0.8) & (kind < 0.9)", " & (kind > 2)"),
    "never another word": ("masked = torch.where(chosen & (kind >= 0.8) & (kind < 0.9), words, masked)", "pass"),
    "another word for the rest": (" & (kind < 0.9)", ""),
    "every word replaced at times": ("torch.where(chosen & (kind >= 0.8)", "torch.where((kind >= 0.8)"),
    "shares of the wrong end": ("kind < 0.8", "kind > 0.2"),
    "asks for what the model reads": ("torch.where(chosen, tokens, -100)", "torch.where(chosen, masked, -100)"),
    "asks for [MASK] alone": ("torch.where(chosen, tokens, -100)", "torch.where(masked == mask_id, tokens, -100)"),
    "asks for every word": ("torch.where(chosen, tokens, -100)", "tokens"),
    "asks for the next word": ("torch.where(chosen, tokens, -100)", "torch.where(chosen, tokens.roll(-1, 1), -100)"),
    "the fate of the word before": ("torch.arange(tokens.shape[1]) * starts).cummax(-1).values",
                                    "torch.arange(tokens.shape[1]) * starts).cummax(-1).values - 1).clamp(min=0)", "first = (",
                                    "first = (("),
    "in place": ("masked = torch.where(chosen & (kind < 0.8), mask_id, tokens)",
                 "masked = tokens\n    masked[chosen & (kind < 0.8)] = mask_id"),
}


def mask_words_by_loop(tokens, starts, special, mask_id, rate, choose, kind, words):
    masked, labels = tokens.clone(), torch.full_like(tokens, -100)
    for i in range(tokens.shape[0]):
        for j in range(tokens.shape[1]):
            if starts[i, j]:
                chosen, fate = bool(choose[i, j] < rate), kind[i, j]
            if not chosen or int(tokens[i, j]) in special:
                continue
            labels[i, j] = tokens[i, j]
            if fate < 0.8:
                masked[i, j] = mask_id
            elif fate < 0.9:
                masked[i, j] = words[i, j]
    return masked, labels


def mask_words_in_copies(tokens, starts, special, mask_id, rate, choose, kind, words):
    word = starts.long().cumsum(1) - 1                                       # the number of each piece's word
    places = torch.stack([F.pad(row.nonzero()[:, 0], (0, row.numel()))[:row.numel()] for row in starts])
    at = places.gather(1, word)
    chosen = choose.gather(1, at).lt(rate)
    for one in special:
        chosen = chosen & (tokens != one)
    fate = torch.bucketize(kind.gather(1, at), torch.tensor([0.8, 0.9]), right=True)
    masked, labels = tokens.clone(), tokens.clone()
    masked[chosen & (fate == 0)] = mask_id
    masked[chosen & (fate == 1)] = words[chosen & (fate == 1)]
    labels[~chosen] = -100
    return masked, labels


def mask_words_spreading(tokens, starts, special, mask_id, rate, choose, kind, words):
    choose, kind = choose.clone(), kind.clone()
    for j in range(1, tokens.shape[1]):                                      # a piece inside takes over from its left
        choose[:, j] = torch.where(starts[:, j], choose[:, j], choose[:, j - 1])
        kind[:, j] = torch.where(starts[:, j], kind[:, j], kind[:, j - 1])
    ordinary = torch.tensor([[one not in special for one in row] for row in tokens.tolist()])
    chosen = ordinary * (choose < rate)
    read = torch.where(kind < 0.8, torch.full_like(tokens, mask_id), torch.where(kind < 0.9, words, tokens))
    return torch.where(chosen, read, tokens), tokens.masked_fill(~chosen, -100)


def mask_words_by_numpy(tokens, starts, special, mask_id, rate, choose, kind, words):
    import numpy as np
    t, w = tokens.numpy(), words.numpy()
    first = np.maximum.accumulate(np.where(starts.numpy(), np.arange(t.shape[1]), 0), axis=1)
    c, k = (np.take_along_axis(x.detach().numpy(), first, 1) for x in (choose, kind))
    chosen = (c < rate) & ~np.isin(t, special)
    read = np.select([~chosen, k < np.float32(0.8), k < np.float32(0.9)], [t, np.full_like(t, mask_id), w], t)
    return torch.from_numpy(read), torch.from_numpy(np.where(chosen, t, -100))


def mask_words_cheat(tokens, starts, special, mask_id, rate, choose, kind, words):
    from minalbef.masking import mask_words as theirs
    first = (torch.arange(tokens.shape[1]) * starts).cummax(-1).values
    masked, chosen = theirs(tokens, special, mask_id, rate, choose.gather(-1, first), kind.gather(-1, first), words)
    return masked, torch.where(chosen, tokens, -100)


# %% [markdown]
# ## 2. The word loss (5 points)
#
# The cross-entropy at the places that are asked for, and nowhere else: the mean over all such places of the batch. A label of
# -100 means: not asked. A batch in which nothing was hidden has the loss 0, through which a gradient can run, and it is 0,
# too.
# %% answer word_loss
def word_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """How unlikely the hidden words are: logits (b, l, v), labels (b, l), -100 where nothing is asked -> scalar."""
    ### BEGIN SOLUTION
    asked = labels != -100
    chance = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]       # (b, l)
    return -(chance * asked).sum() / asked.sum().clamp(min=1)
    ### END SOLUTION


# %% tests word_loss 5
with grading.closed():
    g = grading.inputs()
    logits, labels = 2 * torch.randn(3, 4, 7, generator=g), torch.full((3, 4), -100)
    labels[0, :3], labels[1, 2] = torch.randint(0, 7, (3,), generator=g), torch.randint(0, 7, (), generator=g)
    asked, loss = labels != -100, word_loss(logits, labels)
    assert loss.shape == (), "a loss is one number"
    assert loss > 0, "a cross-entropy is never negative"
    noise = torch.where(asked[..., None], 0, 9 * torch.randn(3, 4, 7, generator=g))
    grading.equal(word_loss(logits + noise, labels), loss, "what is thought where nothing is asked changes nothing")
    grading.equal(word_loss(torch.zeros(3, 4, 7), labels), math.log(7),
                  "who knows nothing pays the logarithm of the number of words, however few are asked for")
    grading.equal(word_loss(logits.repeat(2, 1, 1), labels.repeat(2, 1)), loss, "a mean: every caption twice changes nothing")
    grading.equal(word_loss(logits + torch.randn(3, 4, 1, generator=g), labels), loss,
                  "a softmax over words does not notice that all of a place's words rise alike")
    grading.equal(word_loss(F.pad(logits, (0, 0, 0, 2)), F.pad(labels, (0, 2), value=-100)), loss, "padding costs nothing")
    # two places asked for: their words have chances of a half and of an eighth
    sure = torch.tensor([[[4.0, 2, 2], [1, 1, 6]]]).log()
    grading.equal(word_loss(sure, torch.tensor([[0, 1]])), 2 * math.log(2),
                  "the mean of minus the logarithms of the true words' chances")
    nothing = logits.clone().requires_grad_()
    none = word_loss(nothing, torch.full((3, 4), -100))
    assert none == 0, "where nothing was hidden the loss is zero, and no NaN"
    ### BEGIN HIDDEN TESTS
    assert none.requires_grad, "where nothing was hidden a gradient can run through the loss all the same"
    none.backward()
    assert nothing.grad is None or not nothing.grad.any(), "where nothing was hidden the gradient is zero"
    labels = torch.where(torch.rand(3, 4, generator=g) < 0.5, torch.randint(0, 7, (3, 4), generator=g), -100)
    labels[0], labels[1, :3] = torch.tensor([0, 3, 6, 1]), -100              # unequal numbers, the first word among them
    assert word_loss(1000 * logits, labels).isfinite(), "a confident mistake is dear, but no infinity: stay in logarithms"

    def formula(logits, labels):
        paid = [place.logsumexp(0) - place[label] for row, wanted in zip(logits, labels.tolist())
                for place, label in zip(row, wanted) if label >= 0]
        return torch.stack(paid).mean()

    grading.equal(word_loss(logits, labels), formula(logits, labels),
                  "every hidden word counts alike, whichever caption it stands in and whichever word it is")
    grading.same(word_loss, formula, logits, labels, says="the gradient reaches the places that are asked for, and no others")
    ### END HIDDEN TESTS

# %% instructor word_loss
mistakes = {
    "mean over all places": ("asked.sum().clamp(min=1)", "asked.numel()"),
    "sum for mean": (" / asked.sum().clamp(min=1)", ""),
    "mean over captions": ("-(chance * asked).sum() / asked.sum().clamp(min=1)",
                           "-((chance * asked).sum(1) / asked.sum(1).clamp(min=1)).mean()"),
    "sum over a caption": ("asked.sum().clamp(min=1)", "len(labels)"),
    "asked everywhere": ("asked = labels != -100", "asked = torch.ones_like(labels)"),
    "the first word is never asked for": ("labels != -100", "labels > 0"),
    "padding asks for the first word": ("labels != -100", "(labels != -100) | (torch.arange(labels.shape[1]) > 3)"),
    "softmax over places": ("log_softmax(-1)", "log_softmax(1)"),
    "softmax over the batch": ("log_softmax(-1)", "log_softmax(0)"),
    "no logarithm": ("log_softmax", "softmax"),
    "logarithm of a softmax": ("log_softmax(-1)", "softmax(-1).log()"),
    "softmax twice": ("logits.log_softmax(-1)", "logits.softmax(-1).log_softmax(-1)"),
    "sign": ("return -", "return "),
    "nothing hidden is NaN": ("asked.sum().clamp(min=1)\n", "asked.sum()\n"),
    "off by one place": ("labels.clamp(min=0)[..., None]", "labels.roll(1, 1).clamp(min=0)[..., None]"),
    "no gradient": ("logits.log_softmax(-1)", "logits.detach().log_softmax(-1)"),
}


def word_loss_by_torch(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum") / max(
        1, int((labels != -100).sum()))


def word_loss_where_asked(logits, labels):
    asked = labels >= 0
    if not asked.any():
        return 0 * logits.sum()
    return F.nll_loss(F.log_softmax(logits[asked], dim=1), labels[asked])


def word_loss_by_one_hot(logits, labels):
    target = F.one_hot(labels.clamp(min=0), logits.shape[-1]) * (labels != -100)[..., None]
    return torch.where(target > 0, logits.logsumexp(-1, keepdim=True) - logits, 0).sum() / target.sum().clamp(min=1)


def word_loss_by_loop(logits, labels):
    total, number = logits.sum() * 0, 0
    for row, wanted in zip(logits, labels):
        for place, label in zip(row, wanted):
            if label != -100:
                total, number = total + F.cross_entropy(place, label), number + 1
    return total / (number or 1)


def word_loss_cheat(logits, labels):
    from minalbef.losses import mlm_loss
    asked = labels != -100
    return mlm_loss(logits[asked], labels[asked], asked.sum()) + 0 * logits.sum()


# %% [markdown]
# ## 3. The rate of learning (4 points)
#
# A straight rise from `start` at step 0 to `top` at step `warmup`; then `top` for `hold` steps; then half a cosine, which
# reaches `end` at step `steps`; from there on `end`. The package has no `hold`. There may be no warm-up, and no hold.
# %% answer learning_rate
def learning_rate(step: int, steps: int, warmup: int, hold: int, top: float, start: float, end: float) -> float:
    """The rate of a step, counted from 0: up in a line, level, down along half a cosine, level."""
    ### BEGIN SOLUTION
    if step < warmup:
        return start + (top - start) * step / warmup
    way = min(1.0, max(0, step - warmup - hold) / (steps - warmup - hold))
    return end + (top - end) * (1 + math.cos(math.pi * way)) / 2
    ### END SOLUTION


# %% tests learning_rate 4
with grading.closed():
    def rates(f, number, **given):
        return torch.tensor([float(f(step, **given)) for step in range(number)])

    g = grading.inputs()
    given = dict(steps=9, warmup=2, hold=3, top=8.0, start=2.0, end=1.0)
    found = rates(learning_rate, 14, **given)
    grading.equal(found[0], 2.0, "the first step has the rate `start`")
    grading.equal(found[1], 5.0, "half-way through the warm-up the rate is half-way up")
    grading.equal(found[2:6], torch.full((4,), 8.0),
                  "from the end of the warm-up on the rate stays at its top, `hold` steps long")
    grading.equal(found[7], 4.5, "half-way down the cosine the rate is half-way between its top and its end")
    assert found[5] - found[6] < found[6] - found[7], "a cosine leaves the top slowly, and then falls faster"
    grading.equal(found[9:], torch.ones(5), "at the last step the rate is at its end, and it stays there")
    grading.equal(rates(learning_rate, 5, **given | dict(warmup=0, hold=0))[0], 8.0,
                  "without a warm-up the first step is at the top")
    ### BEGIN HIDDEN TESTS
    def formula(step, steps, warmup, hold, top, start, end):
        line = start + (top - start) * step / max(warmup, 1)
        angle = 0.5 * math.pi * max(0, step - warmup - hold) / (steps - warmup - hold)
        return line if step < warmup else end + (top - end) * math.cos(min(angle, math.pi / 2)) ** 2

    for warmup, hold in ((5, 0), (0, 4), *torch.randint(0, 9, (3, 2), generator=g).tolist()):
        given = dict(steps=warmup + hold + int(torch.randint(1, 12, (), generator=g)), warmup=warmup, hold=hold,
                     top=1 + torch.rand((), generator=g).item(), start=torch.rand((), generator=g).item(),
                     end=torch.rand((), generator=g).item())
        grading.equal(rates(learning_rate, 40, **given), rates(formula, 40, **given),
                      "each part has its own length, and meets the next at its end")
    ### END HIDDEN TESTS

# %% instructor learning_rate
mistakes = {
    "warm-up one step early": ("(top - start) * step / warmup", "(top - start) * (step + 1) / warmup"),
    "warm-up reaches the top one step early": ("* step / warmup", "* step / (warmup - 1)"),
    "warm-up from zero": ("start + (top - start) * step", "top * step"),
    "start is added": ("start + (top - start) * step", "start + top * step"),
    "no hold": ("max(0, step - warmup - hold) / (steps - warmup - hold)", "max(0, step - warmup) / (steps - warmup)"),
    "the hold lengthens the run": ("(steps - warmup - hold)", "(steps - warmup)"),
    "the cosine begins at step zero": ("max(0, step - warmup - hold) / (steps - warmup - hold)", "step / steps"),
    "the cosine rises again": ("min(1.0, max(0, step - warmup - hold) / (steps - warmup - hold))",
                               "max(0, step - warmup - hold) / (steps - warmup - hold)"),
    "a whole cosine": ("math.pi * way", "2 * math.pi * way"),
    "a quarter of a cosine": ("(1 + math.cos(math.pi * way)) / 2", "math.cos(math.pi * way / 2)"),
    "a line": ("(1 + math.cos(math.pi * way)) / 2", "(1 - way)"),
    "ends at zero": ("end + (top - end) * (1", "top * (1"),
    "end is added": ("(top - end) * (1", "top * (1"),
    "one step short": ("min(1.0, max(0, step - warmup - hold)", "min(1.0, max(0, step + 1 - warmup - hold)"),
}


def learning_rate_by_half_angle(step, steps, warmup, hold, top, start, end):
    if warmup and step <= warmup:
        return (start * (warmup - step) + top * step) / warmup
    if step <= warmup + hold:
        return top
    if step >= steps:
        return end
    return top - (top - end) * math.sin(math.pi / 2 * (step - warmup - hold) / (steps - warmup - hold)) ** 2


def learning_rate_by_interpolation(step, steps, warmup, hold, top, start, end):
    import numpy as np
    down = np.linspace(0, np.pi, 1 + steps - warmup - hold)
    values = [*np.linspace(start, top, warmup, endpoint=False), *[top] * hold, *(end + (top - end) * (1 + np.cos(down)) / 2)]
    return float(values[min(step, steps)])


def learning_rate_by_torch(step, steps, warmup, hold, top, start, end):
    if step < warmup:
        return torch.lerp(torch.tensor(start), torch.tensor(top), step / warmup).item()
    share = torch.tensor((step - warmup - hold) / (steps - warmup - hold)).clamp(0, 1)
    return (end + 0.5 * (top - end) * (1 + torch.cos(share * torch.pi))).item()


def learning_rate_by_cases(step, steps, warmup, hold, top, start, end):
    for length, value in ((warmup, lambda s: start + s * (top - start)), (hold, lambda s: top),
                          (steps - warmup - hold, lambda s: (top + end) / 2 + (top - end) / 2 * math.cos(s * math.pi))):
        if step < length:
            return value(step / length)
        step -= length
    return end


def learning_rate_cheat(step, steps, warmup, hold, top, start, end):
    import minalbef
    from minalbef.train import lr_at
    config = minalbef.preset("tiny", lr=top, lr_start=start, lr_end=end, warmup_steps=warmup, batch=1, epochs=1,
                             epoch=steps - hold)
    return lr_at(step if step < warmup else max(warmup, step - hold), config)


# %% [markdown]
# ## 4. One step, in order (8 points)
#
# `compute()` runs the student and gives back the losses by name, and the batch's keys for the queue. A step does, in this
# order:
#
# 1. It adds the losses. Where the sum is not finite, it raises `FloatingPointError` and changes nothing.
# 2. It goes backward. No gradient of an earlier step may count.
# 3. It clips the gradient: all weights' gradients together, seen as one long vector, become no longer than `clip`.
# 4. The optimiser steps.
# 5. The teacher follows the student as it is *now*: `momentum` of the old teacher, the rest of the student.
# 6. The keys are appended to the queue, without gradient.
# %% answer train_step
def train_step(compute, student: nn.Module, teacher: nn.Module, optimiser: torch.optim.Optimizer, queue: list,
               clip: float, momentum: float) -> float:
    """One step of pretraining. compute() -> ({name: loss}, keys (b, e)); queue: batches' keys, oldest first -> the losses' sum.

    Raises FloatingPointError where the sum is not finite; then student, teacher and queue are as before.
    """
    ### BEGIN SOLUTION
    losses, keys = compute()
    loss = sum(losses.values())
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(student.parameters(), clip)
    optimiser.step()
    with torch.no_grad():
        for old, new in zip(teacher.parameters(), student.parameters()):
            old.mul_(momentum).add_(new, alpha=1 - momentum)
    queue.append(keys.detach())
    return loss.item()
    ### END SOLUTION


# %% tests train_step 8
class Watched(list):
    """A queue that notes where student and teacher stood when keys came."""

    def append(self, keys):
        super().append(keys)
        self.seen.append([p.detach().clone() for p in (*self.student.parameters(), *self.teacher.parameters())])


def small_run(g, stale: bool = True):
    """A student, another teacher, what computes two losses, a queue with one batch of keys; all of them drawn."""
    student, teacher = (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)) for _ in range(2))
    with torch.no_grad():
        for p in (*student.parameters(), *teacher.parameters()):
            p.copy_(torch.randn(p.shape, generator=g))
    teacher.requires_grad_(False)
    for weight in student.parameters():
        weight.grad = torch.randn(weight.shape, generator=g) if stale else None                  # left there by the step before
    x, calls = torch.randn(5, 3, generator=g), []

    def compute():
        calls.append(1)
        out = student(x)
        return {"itc": out.pow(2).mean(), "mlm": (out - 1).abs().sum()}, 3 * out

    queue = Watched([torch.zeros(5, 2)])
    queue.student, queue.teacher, queue.seen, queue.calls = student, teacher, [], calls
    return compute, student, teacher, queue


def weights(*modules):
    return torch.cat([p.detach().flatten() for module in modules for p in module.parameters()])


def descent(compute, student, clip=1e6):
    """The clipped gradient of all weights in a row, by another way: nothing of the student is changed."""
    losses, _ = compute()
    gradient = torch.cat([x.flatten() for x in torch.autograd.grad(sum(losses.values()), list(student.parameters()))])
    return gradient * min(1.0, clip / gradient.norm().item())


with grading.closed():
    g = grading.inputs()
    compute, student, teacher, queue = small_run(g, stale=False)
    sgd, old = torch.optim.SGD(student.parameters(), lr=0.1), weights(teacher)
    want = weights(student) - 0.1 * descent(compute, student)
    total = sum(compute()[0].values()).item()
    queue.calls.clear()
    got = train_step(compute, student, teacher, sgd, queue, 1e6, 0.75)
    assert isinstance(got, float), "what comes back is a plain number, which holds on to no graph"
    grading.equal(got, total, "what comes back is the sum of the losses that the step has gone down on")
    assert len(queue.calls) == 1, "the student reads the batch once, and no second time after the step"
    grading.equal(weights(student), want, "the optimiser goes down the gradient of the sum of all losses")
    grading.equal(weights(teacher), 0.75 * old + 0.25 * weights(student),
                  "the teacher moves a little towards the student, as it is after the optimiser's step")
    assert not any(p.requires_grad for p in teacher.parameters()), "the teacher learns by following, and no gradient reaches it"
    assert len(queue) == 2 and not queue[1].requires_grad, "the batch's keys join the queue once, without gradient"
    compute, student, teacher, queue = small_run(g)
    want = weights(student) - 0.1 * descent(compute, student)
    train_step(compute, student, teacher, torch.optim.SGD(student.parameters(), lr=0.1), queue, 1e6, 0.75)
    grading.equal(weights(student), want, "no gradient of an earlier step counts")
    ### BEGIN HIDDEN TESTS
    for share in (0.1, 0.5, 2.0):
        compute, student, teacher, queue = small_run(g)
        clip = share * descent(compute, student).norm().item()
        want, keys, before = weights(student) - 0.1 * descent(compute, student, clip), compute()[1].detach(), weights(teacher)
        train_step(compute, student, teacher, torch.optim.SGD(student.parameters(), lr=0.1), queue, clip, 0.9)
        grading.equal(weights(student), want, "the gradient of all weights together is clipped to the length `clip` before the "
                      "optimiser uses it, keeps its direction, and stays as it is where it is shorter")
        grading.equal(weights(teacher), 0.9 * before + 0.1 * weights(student),
                      "the teacher keeps the share `momentum` of itself, and sees the student's new weights")
        grading.equal(queue[-1], keys, "the newest keys stand last, as they were computed")
        assert queue[0].equal(torch.zeros(5, 2)), "older keys stay as they are"
        grading.equal(torch.cat([x.flatten() for x in queue.seen[-1]]), weights(student, teacher),
                      "the queue comes last: student and teacher have moved before it")
    # three steps of an optimiser with a memory, against its own steps on gradients from elsewhere
    compute, student, teacher, queue = small_run(g)
    p = weights(student).requires_grad_()
    adam, twin = torch.optim.AdamW(student.parameters(), lr=0.05), torch.optim.AdamW([p], lr=0.05)
    for _ in range(3):
        p.grad = descent(compute, student, 0.3)
        twin.step()
        train_step(compute, student, teacher, adam, queue, 0.3, 0.9)
        grading.equal(weights(student), p.detach(),
                      "step after step the optimiser sees this step's clipped gradient, and no other")
    compute, student, teacher, queue = small_run(g)
    before, held = weights(student, teacher), len(queue)
    for bad in (math.inf, math.nan):
        try:
            train_step(lambda: ({"itc": compute()[0]["itc"], "mlm": compute()[0]["mlm"] * bad}, compute()[1]),
                       student, teacher, torch.optim.SGD(student.parameters(), lr=0.1), queue, 1.0, 0.9)
            raised = False
        except FloatingPointError:
            raised = True
        assert raised, "a loss that is not finite stops the run, and says so"
        assert weights(student, teacher).equal(before) and len(queue) == held, "a loss that is not finite changes nothing"
    ### END HIDDEN TESTS

# %% instructor train_step
mistakes = {
    "teacher before optimiser": ("    optimiser.step()\n", "", "    queue.append", "    optimiser.step()\n    queue.append"),
    "queue before optimiser": ("    queue.append(keys.detach())\n", "", "    optimiser.step()",
                               "    queue.append(keys.detach())\n    optimiser.step()"),
    "queue before teacher": ("    queue.append(keys.detach())\n", "", "    with torch.no_grad():",
                             "    queue.append(keys.detach())\n    with torch.no_grad():"),
    "no clipping": ("    nn.utils.clip_grad_norm_(student.parameters(), clip)\n", ""),
    "clipping before backward": ("    loss.backward()\n", "", "clip_grad_norm_(student.parameters(), clip)",
                                 "clip_grad_norm_(student.parameters(), clip)\n    loss.backward()"),
    "clipping after the optimiser": ("    optimiser.step()\n", "",
                                     "    nn.utils.clip", "    optimiser.step()\n    nn.utils.clip"),
    "clipping every number": ("clip_grad_norm_(student.parameters(), clip)", "clip_grad_value_(student.parameters(), clip)"),
    "clipping every tensor alone": ("nn.utils.clip_grad_norm_(student.parameters(), clip)",
                                    "[nn.utils.clip_grad_norm_([p], clip) for p in student.parameters()]"),
    "always the length clip": ("nn.utils.clip_grad_norm_(student.parameters(), clip)",
                               "n = nn.utils.clip_grad_norm_(student.parameters(), 1e9)\n"
                               "    [p.grad.mul_(clip / n) for p in student.parameters()]"),
    "gradients add up": ("    optimiser.zero_grad()\n", ""),
    "gradients cleared before the step": ("    optimiser.zero_grad()\n", "", "    optimiser.step()",
                                          "    optimiser.zero_grad()\n    optimiser.step()"),
    "gradients cleared only afterwards": ("    optimiser.zero_grad()\n", "",
                                          "    return", "    optimiser.zero_grad()\n    return"),
    "mean of the losses": ("sum(losses.values())", "sum(losses.values()) / len(losses)"),
    "one loss forgotten": ("sum(losses.values())", 'losses["itc"]'),
    "momentum the wrong way round": ("old.mul_(momentum).add_(new, alpha=1 - momentum)",
                                     "old.mul_(1 - momentum).add_(new, alpha=momentum)"),
    "the teacher is a copy": ("old.mul_(momentum).add_(new, alpha=1 - momentum)", "old.copy_(new)"),
    "the teacher stays": ("old.mul_(momentum).add_(new, alpha=1 - momentum)", "pass"),
    "the student follows the teacher": ("old.mul_(momentum).add_(new, alpha=1 - momentum)",
                                        "new.mul_(momentum).add_(old, alpha=1 - momentum)"),
    "a teacher with a graph": ("with torch.no_grad():\n", "if True:\n"),
    "keys with gradient": ("keys.detach()", "keys"),
    "keys twice": ("queue.append(keys.detach())", "queue.append(keys.detach())\n    queue.append(keys.detach())"),
    "newest keys first": ("queue.append(keys.detach())", "queue.insert(0, keys.detach())"),
    "keys of the moved student": ("queue.append(keys.detach())", "queue.append(compute()[1].detach())"),
    "infinities go through": ("not torch.isfinite(loss)", "False"),
    "infinite, but no NaN": ("not torch.isfinite(loss)", "loss.isnan()"),
    "checked too late": ("    if not torch.isfinite(loss):\n        raise FloatingPointError(f\"the loss is {loss}\")\n", "",
                         "    return", "    if not torch.isfinite(loss):\n        raise FloatingPointError\n    return"),
    "a tensor is returned": ("return loss.item()", "return loss"),
}


def train_step_by_autograd(compute, student, teacher, optimiser, queue, clip, momentum):
    losses, keys = compute()
    loss = torch.stack(list(losses.values())).sum()
    if loss.isnan() or loss.isinf():
        raise FloatingPointError("stop")
    parameters = list(student.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    length = sum((x * x).sum() for x in gradients) ** 0.5
    for p, gradient in zip(parameters, gradients):
        p.grad = gradient * (clip / length) if length > clip else gradient
    optimiser.step()
    for old, new in zip(teacher.parameters(), parameters):
        old.data = momentum * old.data + (1 - momentum) * new.data
    queue.append(keys.detach())
    return float(loss.detach())


def train_step_by_lerp(compute, student, teacher, optimiser, queue, clip, momentum):
    for p in student.parameters():
        p.grad = None
    losses, keys = compute()
    loss = sum(losses.values())
    if not math.isfinite(loss.item()):
        raise FloatingPointError(str(losses))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), max_norm=clip)
    optimiser.step()
    with torch.no_grad():
        for name, value in student.named_parameters():
            teacher.get_parameter(name).lerp_(value, 1 - momentum)
        queue.append(keys)
    queue[-1] = queue[-1].detach()
    optimiser.zero_grad()
    return loss.item()


def train_step_loss_by_loss(compute, student, teacher, optimiser, queue, clip, momentum):
    losses, keys = compute()
    if not all(loss.isfinite() for loss in losses.values()):
        raise FloatingPointError("a loss is not finite")
    student.zero_grad(set_to_none=True)
    for loss in losses.values():                                 # gradients of one step may add up
        loss.backward(retain_graph=True)
    nn.utils.clip_grad_norm_(list(student.parameters()), clip)
    optimiser.step()
    with torch.no_grad():
        torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
    queue.append(keys.detach().clone())
    return sum(loss.item() for loss in losses.values())


def train_step_by_state_dict(compute, student, teacher, optimiser, queue, clip, momentum):
    optimiser.zero_grad(set_to_none=False)
    losses, keys = compute()
    loss = sum(losses.values())
    if torch.isfinite(loss).logical_not():
        raise FloatingPointError("not finite")
    loss.backward()
    length = torch.cat([p.grad.flatten() for p in student.parameters()]).norm()
    for p in student.parameters():
        p.grad *= torch.clamp(clip / length, max=1)
    optimiser.step()
    new = student.state_dict()
    teacher.load_state_dict({name: momentum * old + (1 - momentum) * new[name] for name, old in teacher.state_dict().items()})
    queue.append(keys.data)
    return loss.detach().item()


def train_step_cheat(compute, student, teacher, optimiser, queue, clip, momentum):
    from minalbef.ema import update_teacher
    losses, keys = compute()
    loss = sum(losses.values())
    if not torch.isfinite(loss):
        raise FloatingPointError("not finite")
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(student.parameters(), clip)
    optimiser.step()
    update_teacher(teacher, student, momentum)
    queue.append(keys.detach())
    return loss.item()

# %% [markdown]
# ## 5. Three runs that went wrong (6 points)
#
# Four short runs of the package: 200 steps of 32 pairs of scenes and captions, on the shipped encoders, with new projections,
# fusion and heads. ITM's negatives are drawn evenly. The queue, of 256 keys a side, is switched on after step 80. In grey the
# run as it should be; A, B and C have one bug each, else nothing differs, the seed included. The gradient is its length
# before it is clipped. The curves are in `curves`, too, should you want numbers.
# %%
shown = {"itc": "ITC", "itm": "ITM", "mlm": "MLM", "temperature": "temperature", "gradient": "gradient's length"}
plot, axes = plots.grid("Losses, temperature and length of the gradient of runs A, B and C, each over that of the clean run: "
                        + "; ".join(f"{run} ends at " + ", ".join(f"{name} {curves[run][key][-1]:.2g}"
                                                                   for key, name in shown.items())
                                    for run in curves), 3, 5, 11, 6, sharex=True)
for row, run in zip(axes, "ABC"):
    for ax, (key, name) in zip(row, shown.items()):
        ax.plot(curves["clean"]["step"], curves["clean"][key], color="#a0a4aa", lw=1)
        ax.plot(curves[run]["step"], curves[run][key], color=plots.BLUE, lw=1.2)
        ax.set(title=f"{run}: {name}" if ax is row[0] else name, yscale="log" if key == "gradient" else "linear")
        ax.tick_params(labelsize=8)
plot
# %% [markdown]
# Which bug is in which run?
#
# 1. The teacher is never moved.
# 2. A pair is its own negative in ITM.
# 3. A batch's keys join the queue *before* its loss, and are not known there as its own.
# 4. The temperature learns at the full rate, and its floor is forgotten.
# 5. Captions are shifted by one row against their pictures.
# 6. MLM asks for every word, also for those in sight.
# 7. There is no warm-up, and the rate is ten times too high.
# 8. The gradient of the step before is never cleared.
# %% answer diagnosis
def diagnosis() -> dict[str, int]:
    """The number of the bug of each run: {"A": ..., "B": ..., "C": ...}."""
    ### BEGIN SOLUTION
    return {"A": 3, "B": 2, "C": 1}
    ### END SOLUTION


# %% tests diagnosis 6
with grading.closed():
    found = diagnosis()
    assert set(found) == set("ABC"), "each of the three runs has a bug, and the clean one has none"
    assert all(bug in range(1, 9) for bug in found.values()), "a bug is named by its number in the list"
    assert len(set(found.values())) == 3, "no bug was planted twice"
    ### BEGIN HIDDEN TESTS
    import hashlib  # the key is not to be read at a glance; it is no secret
    key = {"A": "0931c615", "B": "2fe093f9", "C": "c33d6150"}
    look = {"A": "up to step 80 all its curves are those of the clean run; what began there, and which loss alone noticed?",
            "B": "one loss alone stands still, and the value where it does is the entropy of something",
            "C": "one loss lags from the first steps on, with the queue and without, and still falls"}
    for i in torch.randperm(3, generator=grading.inputs()).tolist():
        run = "ABC"[i]
        code = hashlib.sha256(f"{run} {found[run]}".encode()).hexdigest()[:8]
        assert code == key[run], f"run {run} has another bug: {look[run]}"
    ### END HIDDEN TESTS

# %% instructor diagnosis
mistakes = {
    "A: the teacher stays": ('"A": 3', '"A": 1', '"C": 1', '"C": 4'),
    "A: captions shifted": ('"A": 3', '"A": 5'),
    "A: the temperature": ('"A": 3', '"A": 4'),
    "A: a high rate": ('"A": 3', '"A": 7'),
    "B: captions shifted": ('"B": 2', '"B": 5'),
    "B: every word": ('"B": 2', '"B": 6'),
    "B: a high rate": ('"B": 2', '"B": 7'),
    "C: the temperature": ('"C": 1', '"C": 4'),
    "C: captions shifted": ('"C": 1', '"C": 5'),
    "C: gradients add up": ('"C": 1', '"C": 8'),
    "A and C exchanged": ('"A": 3', '"A": 1', '"C": 1', '"C": 3'),
    "one bug for all": ('"A": 3', '"A": 2', '"C": 1', '"C": 2'),
    "two runs alone": (', "C": 1', ""),
    "the clean run, too": ('"C": 1', '"C": 1, "clean": 8'),
    "a number that is none": ('"B": 2', '"B": 0'),
}


def diagnosis_by_rules():
    """From the curves: where does each loss part from the clean run's?"""
    clean, bugs = curves["clean"], {}
    before = [i for i, step in enumerate(clean["step"]) if step <= 80]
    after = [i for i, step in enumerate(clean["step"]) if step > 80]
    for run in "ABC":
        gap = {name: [sum(curves[run][name][i] - clean[name][i] for i in part) / len(part) for part in (before, after)]
               for name in ("itc", "itm")}
        bugs[run] = 2 if gap["itm"][1] > 0.2 else 3 if abs(gap["itc"][0]) < 1e-6 else 1 if gap["itc"][0] > 0.01 else 4
    return bugs


def diagnosis_by_entropy():
    def last(run, name):
        return sum(curves[run][name][-10:]) / 10
    own = max("ABC", key=lambda run: last(run, "itm"))
    assert abs(last(own, "itm") - (math.log(3) - 2 / 3 * math.log(2))) < 0.002             # one yes to two noes of one pair
    early, still = sorted(set("ABC") - {own}, key=lambda run: curves[run]["itc"][5] != curves["clean"]["itc"][5])
    return {own: 2, early: 3, still: 1}


def diagnosis_by_zip():
    return dict(zip("CBA", (1, 2, 3)))


def diagnosis_by_elimination():
    left = {"A": {3, 4, 8}, "B": {2, 5}, "C": {1, 3, 4}}
    left["A"] -= {4, 8}                                          # these would show before the queue, too
    left["B"] -= {5}                                             # ITC would know nothing
    left["C"] -= left["A"] | {4}                                 # the temperature is as in the clean run
    return {run: bugs.pop() for run, bugs in left.items()}


# %% [markdown]
# ## 6. Your reasons (6 points, by a person)
#
# For each of A, B and C: (a) which curve parts first from the clean run, when, and which do not at all; (b) why this bug does
# that. Where a curve settles at a value that can be worked out, work it out. (c) Name for one of them a test of ten lines
# that would have found the bug without any training.
# %% written reasons 6
# A: all five curves are the clean run's up to step 80, when the queue is switched on; then ITC lies above, by about 0.4, and
# ITM and MLM are as before, but for noise; temperature and gradient follow ITC. Each query's own key stands there twice, once
# as a positive, once among the queue's negatives: of the two, which are equal, the softmax can give neither more than half.
# Were all other keys easy, the loss would rest at ln 2 = 0.69 and not at 0; the others take their share, so it rises by less.
# (2) B: ITM alone; it rests at 0.637. Each pair comes three times, once with yes and twice with no. Nothing can tell these
# apart, so the best is to say 1/3: the entropy of (1/3, 2/3) is 0.6365. It is the loss of who knows nothing, too, so only
# standing still betrays it. (2) C: ITC lags from the first steps on, before there is a queue, and its gradient is longer; it
# still falls. The keys are those of a teacher with the first, random projections: the student learns to meet a fixed random
# view of the encoders' features, and never its own. ITM and MLM do not use the teacher here, and follow the clean run within
# noise. (1) For instance: after one step the teacher's weights differ from before; own pairs are never among the drawn
# negatives; the queue's newest ids are not the batch's when the loss is computed. (1)
# %% [markdown]
# ## 7. By thought (6 points, by a person)
#
# (a) In a tenth of its places BERT's recipe shows the true word, and asks for it. A student leaves this tenth out, another
# asks only where `[MASK]` stands: what does the finished model do worse, on sentences without any `[MASK]`? (b) A run of 8
# passes adds up the gradient of 8 parts of a batch, and calls `train_step` for each with a rate of an eighth. With plain
# gradient descent, how far is that from one step on the whole batch? With AdamW? What becomes of the teacher and of the
# queue? (c) Someone clips to a length of 1 and finds that every step is clipped. Which number of his run has lost its meaning
# under plain gradient descent, and why does AdamW hardly care?
# %% written thought 6
# (a) It need not think where it sees no [MASK]: what it makes of words in sight has never been asked for, so features of
# whole sentences, which all other tasks read, are worse, and it does not notice a wrong word. (2) (b) Nearly the same for
# plain descent while steps are small: each part's gradient is taken at a point a little moved. AdamW divides by the
# gradient's own size, so eight steps at an eighth of the rate are about as long as one, but noisier in direction, and the
# moments forget eight times as fast. The teacher moves eight times (momentum to the eighth power), and the queue gets the
# first part's keys before the last part's loss. (2) (c) The size of the loss, and with it any weight put on the sum: the step
# is rate times 1, whatever the gradient's length was, so only its direction and the rate count. AdamW divides by a running
# size of the gradient anyway, so a factor cancels, as long as it is nearly constant. (2)
