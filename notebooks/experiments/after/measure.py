"""The tests of "After ALBEF": every recipe has the same questions, in each way that it answers.

Ways: "itc", "itm", "mlm", "likelihood" of a caption, "boxes". Scenes and captions are of the test
split, and other ones with each seed. Figures are shares from 0 to 1, by name:

itc r1, itm r1               R@1 of 500, the mean of both directions; itm re-ranks ITC's ten best
WAY KIND                     one change: the true caption scores above one with a KIND changed
grey WAY KIND                the same with a grey image: what the words alone give away
word KIND, grey word KIND    MLM: a masked word of a KIND
next KIND, grey next KIND    captioners: a word of a KIND, from the image and the words before it
pointing itm, pointing mlm   the peak of a noun's Grad-CAM map lies in its object
boxes                        the predicted box of "a small apple" overlaps the true one by half
"""
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from captioning import log_likelihood
from emojiscenes.grammar import KINDS, phrase, size_of
from emojiscenes.language import Noun, Scene
from emojiscenes.scenes import Drawn
from emojiscenes.staging import RIGHT, box_of, overlap
from minalbef.evaluation import ranking
from minalbef.evaluation.words import piece_places
from minalbef.scenes import evaluation, questions
from minalbef.scenes.records import unique_nouns, word_records
from minalbef.tasks.run import Run

FIRST = 3000                          # of the questions' seeds, plus the run's
RANKED, CHANGED, WORDS, POINTED = 500, 250, 250, 400
CHUNK = 125
Score = Callable[[Run, Sequence[Scene | None], Sequence[str]], Tensor]


def measure(run: Run, seed: int, ways: Sequence[str], similarity: Any = None, share: float = 1.0
            ) -> dict[str, float]:
    """All figures of a trained model, by name.

    run: the model in evaluation mode, with its tokenizer and config. seed: the run's
    similarity: in place of ranking.similarity. share: of the number of questions
    """
    patched = mock.patch.object(ranking, "similarity", similarity) if similarity else nullcontext()
    with patched, torch.no_grad():
        samples = ask(run, FIRST + seed, ways, share)
    return {name: values.mean().item() for name, values in samples.items()}


def ask(run: Run, seed: int, ways: Sequence[str], share: float) -> dict[str, Tensor]:
    """Each figure's answers, 0 to 1."""
    plain = questions.plain(run, "test", seed, RANKED * share)
    foils = questions.foils(run, "test", seed, CHANGED * share)
    spoken = plain[:int(WORDS * share)]
    for_pointing = plain[:int(POINTED * share)]
    samples: dict[str, Tensor] = {}
    if "itc" in ways:
        samples |= retrieval(run, plain, "itm" in ways)
        samples |= one_change(run, foils, "itc", questions.similarity)
    if "itm" in ways:
        samples |= one_change(run, foils, "itm", questions.match_odds)
    if "likelihood" in ways:
        samples |= one_change(run, foils, "likelihood", likelihood)
        samples |= next_words(run, spoken, "next")
        samples |= next_words(run, spoken, "grey next", grey=True)
    if "mlm" in ways:
        accuracy = evaluation.masked_words(run, spoken)
        for name, title in (("mlm_accuracy", "word"), ("mlm_accuracy_without_image", "grey word")):
            for kind, right in accuracy[name].items():
                samples[f"{title} {kind}"] = right
    scores = [way for way in ("itm", "mlm") if way in ways]
    if scores:
        for name, right in evaluation.pointing_game(run, for_pointing, scores).items():
            samples[name.replace("_", " ")] = right
    if "boxes" in ways:
        samples["boxes"] = boxes_found(run, for_pointing)
    return samples


def retrieval(run: Run, scenes: list[Drawn], match: bool) -> dict[str, Tensor]:
    """R@1 by ITC; match: also by ITM."""
    recalls = evaluation.recalls(evaluation.compete(run, scenes, match=match), 0.0)
    samples = {"itc r1": torch.stack([recalls["itc_i2t_r1"], recalls["itc_t2i_r1"]])}
    if match:
        samples["itm r1"] = torch.stack([recalls["rerank_i2t_r1"], recalls["rerank_t2i_r1"]])
    return samples


def one_change(run: Run, foils: dict, way: str, score: Score) -> dict[str, Tensor]:
    """Whether the true caption scores higher than the false one, a half for a tie: by kind (p,)."""
    samples = {}
    for kind, part in foils.items():
        scenes, true, false = zip(*part)
        grey = [None] * len(scenes)
        for title, pictures in ((way, scenes), (f"grey {way}", grey)):
            samples[f"{title} {kind}"] = evaluation.preferred(score(run, pictures, true),
                                                              score(run, pictures, false))
    return samples


def likelihood(run: Run, pictures: Sequence[Scene | None], texts: Sequence[str]) -> Tensor:
    """The log-probability of each text, given its image: -> (p,)."""
    return torch.cat([log_likelihood(*part) for part in in_chunks(run, pictures, texts)])


def in_chunks(run: Run, pictures: Sequence[Scene | None], texts: Sequence[str]
              ) -> list[tuple[Tensor, Tensor, Tensor]]:
    """A captioner's logits, tokens and keep, chunk by chunk."""
    model: Any = run.model
    parts = []
    for i in range(0, len(texts), CHUNK):
        tokens, keep = run.tokenizer.encode(list(texts[i:i + CHUNK]), run.config.text_length)
        pixels = questions.pixels(pictures[i:i + CHUNK], run.config.image_size)
        logits = model.next_word_logits(tokens, keep, model.encode_image(pixels))
        parts.append((logits, tokens, keep))
    return parts


def next_words(run: Run, scenes: Sequence[Drawn], title: str, grey: bool = False
               ) -> dict[str, Tensor]:
    """Which words a captioner predicts, all pieces of each: by kind (w,), and "all"."""
    texts = [scene.text for scene in scenes]
    pictures = [None if grey else scene.scene for scene in scenes]
    right: list[Tensor] = []
    for logits, tokens, _ in in_chunks(run, pictures, texts):
        right += [*(logits[:, :-1].argmax(-1) == tokens[:, 1:])]         # of piece i + 1, at i
    answers: dict[str, list[bool]] = {kind: [] for kind in (*KINDS, "all")}
    for record, row in zip(word_records(scenes, run.config.image_size), right):
        for kind, pieces in zip(record.kinds, piece_places(run, record.text)):
            answer = all(row[piece - 1] for piece in pieces)
            answers["all"].append(answer)
            if kind:
                answers[kind].append(answer)
    figures = {}
    for kind, part in answers.items():
        if part:
            figures[f"{title} {kind}"] = torch.tensor(part).float()
    return figures


def boxes_found(run: Run, scenes: Sequence[Drawn]) -> Tensor:
    """Whether X-VLM's box of an object overlaps the true one by half or more: -> (w,)."""
    model: Any = run.model
    hits = []
    for scene in scenes:
        things = [thing for thing, _ in unique_nouns(scene)]
        if not things:
            continue
        phrases = [phrase(Noun(thing.name, size_of(thing))) for thing in things]
        tokens, keep = run.tokenizer.encode(phrases)
        image = model.encode_image(questions.pixels([scene.scene], run.config.image_size))
        image = image.expand(len(things), -1, -1)
        boxes = model.predict_boxes(model.encode_text(tokens, keep), keep, image)
        for thing, (x, y, width, height) in zip(things, boxes.tolist()):
            box = x - width / 2, y - height / 2, width, height
            hits.append(overlap(box, box_of(thing)) >= RIGHT)
    return torch.tensor(hits).float()
