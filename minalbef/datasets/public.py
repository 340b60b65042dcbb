"""Readers of the downstream tasks' public sets: SNLI-VE, VQA v2, NLVR2, RefCOCO+.

They are called as those of readers.py.
"""
import pickle
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from minalbef.datasets.readers import (
    FORMAT_PAGE,
    Fault,
    FaultHandler,
    Finder,
    Roots,
    check_id,
    check_text,
    entries,
    field,
    load,
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
from minalbef.tasks.vqa import VQARecord, clean_question

ANSWERS = 3_128                       # in the original's answer_list.json
VISUAL_GENOME_TRUST = 0.5             # the original's: its answers are one person's


def entailment(path: Path, root: Roots = None,
               on_fault: FaultHandler = refuse) -> Iterator[EntailmentRecord]:
    """SNLI-VE -> a record for each sentence.

    The original's entries are {image, sentence, label}; the official lines have Flikr30kID,
    sentence2 and gold_label.
    """
    find = Finder(root, "flickr")

    def parse(entry: Any) -> list[EntailmentRecord]:
        if isinstance(entry, dict) and "gold_label" in entry:
            image_key, text_key, label_key = official_image_key(entry), "sentence2", "gold_label"
        else:
            image_key, text_key, label_key = "image", "sentence", "label"
        label = field(entry, label_key)
        if label not in LABELS:
            reason = " (its annotators did not agree)" if label == "-" else ""
            problem = f"label {label!r} is none of {', '.join(LABELS)}{reason}"
            raise Fault("unknown label", problem, "leave it out")
        name = str(field(entry, image_key, (str, int)))
        image = name.removesuffix(".jpg") + ".jpg"
        text = check_text(entry.get(text_key))
        return [EntailmentRecord(find(image), text, photo_id(image, "flickr"), label)]
    return parse_entries(path, entries(path), parse, on_fault)


def official_image_key(entry: dict[str, Any]) -> str:
    """The field of an official line that names the image; its spelling varies."""
    for key in entry:
        if re.fullmatch("flic?kr30k_?id", key.lower()):
            return key
    return "Flikr30kID"


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


def vqa(path: Path, root: Roots = None, on_fault: FaultHandler = refuse,
        test: bool = False) -> Iterator[VQARecord]:
    """The original's lists of questions -> a record each.

    An entry is {question_id, question, image, dataset, answer}. dataset is vqa, with a list of
    answers, or vg (Visual Genome), with one.
    test: the answers may be absent; otherwise a question without an answer is a fault
    """
    finders = {"vqa": Finder(root), "vg": Finder(root, "vg")}
    questions: dict[str, str] = {}

    def parse(entry: Any) -> list[VQARecord]:
        number = field(entry, "question_id", (int, str))
        image = field(entry, "image")
        question = check_text(entry.get("question"), clean_question)
        dataset = entry.get("dataset", "vqa")
        if dataset not in finders:
            raise Fault("malformed", f"dataset {dataset!r} is neither vqa nor vg", FORMAT_PAGE)
        check_id(questions, number, f"{image}: {question}", "question_id")
        answers: tuple[str, ...] = ()
        if entry.get("answer") or not test:
            answers = parse_answers(entry.get("answer"), number)
        question_id = number if isinstance(number, int) else stable_hash(number)
        trust = VISUAL_GENOME_TRUST if dataset == "vg" else 1.0
        path = finders[dataset](image)
        return [VQARecord(path, question, answers, question_id, trust, dataset)]
    return parse_entries(path, entries(path), parse, on_fault)


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
    questions: dict[str, str] = {}
    find = Finder(root)
    contents = load(path, "questions")
    subtype = str(contents.get("data_subtype"))
    part = subtype.replace("-dev", "")                       # test-dev2015 has test2015's images
    if not re.fullmatch(r"(train|val|test)20\d\d", part):
        raise ValueError(f"{path} has data_subtype {part!r}, so its images are unknown; "
                         "it must be such as val2014")

    def parse(entry: Any) -> list[VQARecord]:
        number = field(entry, "question_id", int)
        question = check_text(entry.get("question"), clean_question)
        image = f"{part}/COCO_{part}_{field(entry, 'image_id', int):012d}.jpg"
        check_id(questions, number, f"{image}: {question}", "question_id")
        if not annotations:
            return [VQARecord(find(image), question, (), number)]
        if number not in answers:
            problem = f"question {number} is not in {Path(annotations).name}"
            raise Fault("no answer", problem, "both must be of one split")
        texts = parse_answers([answer["answer"] for answer in answers[number]], number)
        return [VQARecord(find(image), question, texts, number)]
    return parse_entries(path, contents["questions"], parse, on_fault)


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
    """The answers to rank, as in the original's answer_list.json.

    Raises ValueError for any other file, and for repeated answers.
    """
    answers = load(path)
    if not isinstance(answers, list) or not is_text_list(answers):
        raise ValueError(f"{path} is no list of answers; it must be a JSON list of strings")
    repeats = [answer for answer, count in Counter(answers).items() if count > 1]
    if repeats:
        count = len(answers) - len(set(answers))
        raise ValueError(f"{path} repeats {count} answers, such as {repeats[0]!r}; "
                         "remove the repeats")
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
    find = Finder(root)

    def parse(entry: Any) -> list[NLVR2Record]:
        text = check_text(entry.get("sentence") if isinstance(entry, dict) else None)
        label = str(entry.get("label")).lower()
        if label not in ("true", "false"):
            problem = f"label {entry.get('label')!r} is neither True nor False"
            raise Fault("unknown label", problem, "leave it out")
        if "images" in entry:
            images = field(entry, "images", list)
            match = re.search(r"([^/]+)-\d+-img\d\.", str(images[0]))
            statement = f"{match[1] if match else ''} {text}"
        else:
            images, statement = official_pair(entry)
        if len(images) != 2 or not all(isinstance(image, str) and image for image in images):
            raise Fault("missing image", f"the pair {images!r} must be two images")
        left, right = images
        pair = find(left), find(right)
        return [NLVR2Record(pair, text, label == "true", stable_hash(statement))]
    return parse_entries(path, entries(path), parse, on_fault)


def official_pair(entry: dict[str, Any]) -> tuple[list[str], str]:
    """The images of an official line, and what identifies its statement."""
    pair, _, sentence = field(entry, "identifier").rpartition("-")       # split-set-pair-sentence
    part = pair.partition("-")[0]
    folder = str(PurePosixPath("images", part, str(entry.get("directory", ""))))
    images = [f"{folder}/{pair}-img{i}.png" for i in (0, 1)]
    return images, f"{pair.rpartition('-')[0]} {sentence}"


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
    with restate(f"{path} cannot be read", "it must be the pickle of the set's site; get it again",
                 Exception):
        with open(path, "rb") as file:
            # Python 2 wrote it
            refs = _PlainUnpickler(file, encoding="utf-8", errors="replace").load()
    if not isinstance(refs, list) or not all(map(is_ref, refs)):
        raise ValueError(f"{path} is no list of refs with ref_id, ann_id and image_id; "
                         "get it again")
    return refs


def is_ref(value: Any) -> bool:
    """Whether a value is a dict with RefCOCO's three ids."""
    if not isinstance(value, dict):
        return False
    return all(isinstance(value.get(key), int) for key in ("ref_id", "ann_id", "image_id"))


def refcoco(path: Path, instances: Path, root: Roots = None, on_fault: FaultHandler = refuse,
            text_list: Path | None = None, proposals: Path | None = None,
            splits: tuple[str, ...] = ("val",)) -> Iterator[GroundingRecord]:
    """RefCOCO+'s refs(unc).p and instances.json -> a record for each expression of the splits.

    text_list: the original's list [{ref_id, text}], whose order and texts are then taken
    proposals: the original's dets.json, {image: boxes}
    """
    refs = {ref["ref_id"]: ref for ref in load_refs(path) if ref.get("split") in splits}
    parse = RefParser(refs, instances, root, proposals, splits)
    if text_list:
        def parse_text(entry: Any) -> Iterable[GroundingRecord | Fault]:
            return parse(field(entry, "ref_id", int), [entry.get("text")])
        return parse_entries(text_list, entries(text_list), parse_text, on_fault)
    items = []
    for number, ref in refs.items():
        sentences = ref.get("sentences", ())
        texts = [sentence.get("sent") or sentence.get("raw") for sentence in sentences]
        items.append((number, texts))
    return parse_entries(path, items, lambda item: parse(*item), on_fault)


class RefParser:
    """Makes grounding records of refs: (ref_id, texts) -> records and faults."""

    def __init__(self, refs: dict[int, dict[str, Any]], instances: Path, root: Roots,
                 proposals: Path | None, splits: tuple[str, ...]):
        """refs: by ref_id. The rest: see `refcoco`."""
        contents = load(instances, "annotations", "images")
        self.refs = refs
        self.splits = splits
        self.instances = Path(instances).name
        self.images = by_id(contents["images"])
        self.annotations = by_id(contents["annotations"])
        self.find = Finder(root)
        self.candidates = load_proposals(proposals) if proposals else None
        self.proposals: dict[str, tuple[Box, ...]] = {}      # the candidates that are valid boxes

    def __call__(self, number: int, texts: Iterable[Any]) -> Iterator[GroundingRecord | Fault]:
        """The records of a ref's texts, after the faults of its image's proposals."""
        if number not in self.refs:
            raise Fault("unknown ref", f"ref_id {number} is not among the {len(self.refs)} refs of "
                        f"{', '.join(self.splits)}")
        ref = self.refs[number]
        image = self.images.get(ref["image_id"])
        box = self.annotations.get(ref["ann_id"], {}).get("bbox")
        if image is None or box is None:
            raise Fault("malformed", f"ref {number} has no image or no box in {self.instances}")
        name = image["file_name"]
        size = image["height"], image["width"]
        problem = box_fault(box, size)
        if problem:
            raise Fault("bad box", f"ref {number}: box {box!r} {problem}")
        folders = re.findall(r"_((?:train|val)20\d\d)_", name)
        path = self.find("/".join([*folders, name]))
        key = str(ref["image_id"])
        yield from self.check_proposals(key, size)
        for text in texts:
            try:
                yield GroundingRecord(path, check_text(text), photo_id(name), to_box(box),
                                      self.proposals.get(key, ()), size, ref["split"], number)
            except Fault as fault:
                yield fault

    def check_proposals(self, key: str, size: tuple[int, int]) -> Iterator[Fault]:
        """Sort out an image's bad proposals, once per image.

        Raises Fault if there are proposals, but no valid one for this image.
        """
        if self.candidates is None:
            return
        if key not in self.proposals:
            boxes: list[Box] = []
            for box in self.candidates.get(key, ()):
                problem = box_fault(box, size)
                if problem:
                    yield Fault("bad proposal", f"image {key}: box {box!r} {problem}")
                else:
                    boxes.append(to_box(box))
            self.proposals[key] = tuple(boxes)
        if not self.proposals[key]:
            raise Fault("no proposals", f"image {key} has no valid proposals")


def by_id(values: Iterable[Any]) -> dict[Any, dict[str, Any]]:
    """The dicts among some values, by their id."""
    return {value.get("id"): value for value in values if isinstance(value, dict)}


def load_proposals(path: Path) -> dict[str, Any]:
    """Proposals by image. Raises ValueError for a file that isn't a JSON object."""
    proposals = load(path)
    if not isinstance(proposals, dict):
        raise ValueError(f"{path} has no boxes by image; it must be a JSON object, "
                         "like the original's dets.json")
    return proposals


def to_box(values: Sequence[float]) -> Box:
    """Four numbers as floats: x, y, width, height."""
    x, y, width, height = map(float, values)
    return x, y, width, height
