"""Readers of the downstream tasks' public sets: SNLI-VE, VQA v2, NLVR2, RefCOCO+.

They are called as those of readers.py.
"""
import pickle
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from minalbef.datasets.forms import Fault, entries, load
from minalbef.datasets.readers import (
    FaultHandler,
    Finder,
    Roots,
    parse_entries,
    photo_id,
    refuse,
    stable_hash,
)
from minalbef.system.tokenizer import has_words
from minalbef.system.writing import restate
from minalbef.tasks.entailment import LABELS, EntailmentRecord
from minalbef.tasks.grounding import Box, GroundingRecord, box_fault
from minalbef.tasks.nlvr2 import NLVR2Record
from minalbef.tasks.vqa import VQARecord

ANSWERS = 3_128                       # in the original's answer_list.json
VISUAL_GENOME_TRUST = 0.5             # the original's: its answers are one person's


def entailment(path: Path, root: Roots = None,
               on_fault: FaultHandler = refuse) -> Iterator[EntailmentRecord]:
    """SNLI-VE -> a record for each sentence.

    The original's entries are {image, sentence, label}; the official lines have Flikr30kID, in
    several spellings, sentence2 and gold_label.
    """
    def parse(entry: Any) -> list[EntailmentRecord | Fault]:
        if "gold_label" in entry:
            names = (key for key in entry if re.fullmatch("flic?kr30k_?id", key.lower()))
            image_key = next(names, "Flikr30kID")
            text_key, label_key = "sentence2", "gold_label"
        else:
            image_key, text_key, label_key = "image", "sentence", "label"
        label = entry[label_key]
        if label not in LABELS:
            reason = " (its annotators did not agree)" if label == "-" else ""
            problem = f"label {label!r} is none of {', '.join(LABELS)}{reason}"
            return [Fault("unknown label", problem, "leave it out")]
        image = str(entry[image_key]).removesuffix(".jpg") + ".jpg"
        return [EntailmentRecord(image, entry.get(text_key), photo_id(image, "flickr"), label)]
    return parse_entries(path, entries(path), parse, Finder(root, "flickr"), on_fault)


def vqa(path: Path, root: Roots = None, on_fault: FaultHandler = refuse,
        test: bool = False) -> Iterator[VQARecord]:
    """The original's lists of questions -> a record each.

    An entry is {question_id, question, image, dataset, answer}. dataset is vqa, with a list of
    answers, or vg (Visual Genome), with one.
    test: the answers may be absent; otherwise a question without an answer is a fault
    """
    finders = {"vqa": Finder(root), "vg": Finder(root, "vg")}
    questions: dict[Any, Any] = {}

    def parse(entry: Any) -> list[VQARecord]:
        number = entry["question_id"]
        check_question(questions, number, (entry["image"], entry.get("question")))
        dataset = entry.get("dataset", "vqa")
        answers: tuple[str, ...] = ()
        if entry.get("answer") or not test:
            answers = parse_answers(entry.get("answer"), number)
        if isinstance(number, str):
            number = stable_hash(number)
        trust = VISUAL_GENOME_TRUST if dataset == "vg" else 1.0
        image = finders[dataset](entry["image"])
        return [VQARecord(image, entry.get("question"), answers, number, trust, dataset)]
    return parse_entries(path, entries(path), parse, Finder(root), on_fault)


def check_question(questions: dict[Any, Any], number: Any, asked: Any) -> None:
    """Raises Fault for a question_id of another question, whose answers it would take.

    questions: what each id before asks, of which image; this one is noted
    """
    if questions.setdefault(number, asked) != asked:
        raise Fault("duplicate id", f"question_id {number!r} asks {asked!r}, and before "
                                    f"{questions[number]!r}")


def vqa_official(path: Path, annotations: Path | None = None, root: Roots = None,
                 on_fault: FaultHandler = refuse) -> Iterator[VQARecord]:
    """VQA v2's questions and annotations, as its site has them -> a record for each question.

    Its answers are those of the ten annotators, word for word, as VQA's accuracy needs them.
    annotations: None for a test, whose answers are secret
    """
    answers: dict[Any, Any] = {}
    if annotations:
        for annotation in load(annotations, "annotations")["annotations"]:
            if isinstance(annotation, dict):
                answers[annotation.get("question_id")] = annotation.get("answers")
    contents = load(path, "questions")
    subtype = str(contents.get("data_subtype"))
    part = subtype.replace("-dev", "")                       # test-dev2015 has test2015's images
    if not re.fullmatch(r"(train|val|test)20\d\d", part):
        raise ValueError(f"{path} has data_subtype {part!r}, so its images are unknown; "
                         "it must be such as val2014")

    questions: dict[Any, Any] = {}

    def parse(entry: Any) -> list[VQARecord | Fault]:
        number = entry["question_id"]
        check_question(questions, number, (entry["image_id"], entry.get("question")))
        image = f"{part}/COCO_{part}_{entry['image_id']:012d}.jpg"
        texts: tuple[str, ...] = ()
        if annotations:
            if number not in answers:
                problem = f"question {number} is not in {Path(annotations).name}"
                return [Fault("no answer", problem, "both must be of one split")]
            texts = parse_answers([answer["answer"] for answer in answers[number]], number)
        return [VQARecord(image, entry.get("question"), texts, number)]
    return parse_entries(path, contents["questions"], parse, Finder(root), on_fault)


def parse_answers(value: Any, number: int | str) -> tuple[str, ...]:
    """The answers of an entry, a text or a list, as a tuple. Raises Fault if there is none."""
    answers = tuple([value] if isinstance(value, str) else value or ())
    if not is_text_list(answers):
        raise Fault("no answer", f"question {number} has answers {value!r}",
                    "leave it out, or read it as a test's")
    return answers


def is_text_list(values: Sequence[Any]) -> bool:
    """Whether there are values, and each is a text with words."""
    return bool(values) and all(isinstance(value, str) and has_words(value) for value in values)


def count_answers(records: Iterable[VQARecord]) -> Counter[str]:
    """How often each answer is the one that most annotators of a question gave.

    Of several such answers the first counts. Visual Genome's questions don't count: each has one
    person's answer, often a phrase.
    """
    counts: Counter[str] = Counter()
    for record in records:
        if record.answers and record.dataset == "vqa":
            answer, _ = Counter(record.answers).most_common(1)[0]
            counts[answer] += 1
    return counts


def answer_list(path: Path) -> list[str]:
    """The answers to rank, as in the original's answer_list.json. Raises ValueError for others."""
    answers = load(path)
    if not isinstance(answers, list) or not is_text_list(answers) \
            or len(set(answers)) < len(answers):
        raise ValueError(f"{path} is no list of answers; it must be a JSON list of strings, each "
                         "of them once")
    return answers


def nlvr2(path: Path, root: Roots = None,
          on_fault: FaultHandler = refuse) -> Iterator[NLVR2Record]:
    """NLVR2 -> a record for each pair of images with its statement.

    The original's entries are {images: [a, b], sentence, label}; the official lines have
    identifier, sentence and label.

    A record's id groups the pairs of one statement, as the official metric does: by the identifier
    without its third field, the pair. The original's list has no identifiers; there the images'
    names and the sentence identify the statement.
    """
    def parse(entry: Any) -> list[NLVR2Record]:
        text = entry.get("sentence")
        if "images" in entry:
            images = entry["images"]
            match = re.search(r"([^/]+)-\d+-img\d\.", str(images[0]))
            statement = f"{match[1] if match else ''} {text}"
        else:
            pair, _, sentence = entry["identifier"].rpartition("-")  # split-set-pair-sentence
            part = pair.partition("-")[0]
            folder = PurePosixPath("images", part, str(entry.get("directory", "")))
            images = [f"{folder}/{pair}-img{i}.png" for i in (0, 1)]
            statement = f"{pair.rpartition('-')[0]} {sentence}"
        label = {"true": True, "false": False}.get(str(entry["label"]).lower(), entry["label"])
        return [NLVR2Record(tuple(images), text, label, stable_hash(statement))]
    return parse_entries(path, entries(path), parse, Finder(root), on_fault)


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, strings and numbers, refuses anything else, and so runs no code."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and could run code; "
                                     "refs need only lists and dicts")


def load_refs(path: Path) -> list[dict[str, Any]]:
    """RefCOCO's refs(unc).p, without executing any of it.

    Raises ValueError for a broken, foreign or malicious file.
    """
    # a broken pickle may raise any exception
    with restate(f"{path} cannot be read", "it must be the pickle of the set's site, a list of "
                 "refs with ref_id, ann_id and image_id; get it again", Exception):
        with open(path, "rb") as file:
            # Python 2 wrote it
            refs = _PlainUnpickler(file, encoding="utf-8", errors="replace").load()
        return [ref | {key: int(ref[key]) for key in ("ref_id", "ann_id", "image_id")}
                for ref in refs]


def refcoco(path: Path, instances: Path, root: Roots = None, on_fault: FaultHandler = refuse,
            text_list: Path | None = None, proposals: Path | None = None,
            splits: tuple[str, ...] = ("val",)) -> Iterator[GroundingRecord]:
    """RefCOCO+'s refs(unc).p and instances.json -> a record for each expression of the splits.

    text_list: the original's list [{ref_id, text}], whose order and texts are then taken
    proposals: the original's dets.json, {image: boxes}; bad ones are a fault, once per image
    """
    refs = {ref["ref_id"]: ref for ref in load_refs(path) if ref.get("split") in splits}
    contents = load(instances, "annotations", "images")
    images = by_id(contents["images"])
    annotations = by_id(contents["annotations"])
    candidates = load(proposals) if proposals else {}
    checked: dict[str, tuple[Box, ...]] = {}     # an image's valid proposals

    def parse(entry: Any) -> Iterator[GroundingRecord | Fault]:
        number = entry["ref_id"]
        ref = refs[number]
        image = images[ref["image_id"]]
        box = annotations[ref["ann_id"]]["bbox"]
        size = image["height"], image["width"]
        problem = box_fault(box, size)
        if problem:
            raise Fault("bad box", f"ref {number}: box {box!r} {problem}")
        key = str(ref["image_id"])
        if key not in checked:
            problems = [(other, box_fault(other, size)) for other in candidates.get(key, ())]
            checked[key] = tuple(to_box(other) for other, problem in problems if not problem)
            for other, problem in problems:
                if problem:
                    yield Fault("bad proposal", f"image {key}: box {other!r} {problem}")
        if proposals and not checked[key]:
            raise Fault("no proposals", f"image {key} has no valid proposals")
        name = image["file_name"]
        folders = re.findall(r"_((?:train|val)20\d\d)_", name)
        texts = [entry.get("text")]
        if not text_list:
            texts = [text.get("sent") or text.get("raw") for text in ref.get("sentences", ())]
        for text in texts:
            yield GroundingRecord("/".join([*folders, name]), text, photo_id(name), to_box(box),
                                  checked[key], size, ref["split"], number)
    items = entries(text_list) if text_list else refs.values()
    return parse_entries(text_list or path, items, parse, Finder(root), on_fault)


def by_id(values: Iterable[Any]) -> dict[Any, dict[str, Any]]:
    """The dicts among some values, by their id."""
    return {value.get("id"): value for value in values if isinstance(value, dict)}


def to_box(values: Sequence[float]) -> Box:
    """Four numbers as floats: x, y, width, height."""
    x, y, width, height = map(float, values)
    return x, y, width, height
