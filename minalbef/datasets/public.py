"""Records of the downstream tasks' public sets: SNLI-VE, VQA v2, NLVR2, RefCOCO+, called as those of readers.py."""
import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from minalbef.datasets import readers
from minalbef.datasets.readers import Fault, Finder, Roots, entries, field, load, photo_id, read, refuse, words
from minalbef.tasks.entailment import LABELS, EntailmentRecord
from minalbef.tasks.grounding import GroundingRecord, box_fault
from minalbef.tasks.nlvr2 import NLVR2Record
from minalbef.tasks.vqa import VQARecord, clean_question
from minalbef.tokenizer import has_words
from minalbef.writing import explain

ANSWERS = 3_128                       # in the original's answer_list.json


def entailment(path: Path, root: Roots = None, fault: Callable = refuse) -> Iterator[EntailmentRecord]:
    """SNLI-VE, the original's [{image, sentence, label}] or the official lines of Flikr30kID, sentence2, gold_label."""
    find = Finder(root, "flickr")

    def parse(entry):
        official = isinstance(entry, dict) and "gold_label" in entry
        label = field(entry, "gold_label" if official else "label")
        if label not in LABELS:
            why = " (its annotators did not agree)" if label == "-" else ""
            raise Fault("unknown label", f"label {label!r} is none of {', '.join(LABELS)}{why}", "leave it out")
        name = next((key for key in entry if re.fullmatch("flic?kr30k_?id", key.lower())), "Flikr30kID")
        image = str(field(entry, name if official else "image", (str, int))).removesuffix(".jpg") + ".jpg"
        text = words(entry.get("sentence2" if official else "sentence"))
        return [EntailmentRecord(find(image), text, photo_id(image, "flickr"), label)]
    return read(path, entries(path), parse, fault)


def read_answers(given, number: int | str) -> tuple[str, ...]:
    """The answers of an entry, one or several, as a tuple. Raises Fault where there is none."""
    some = tuple([given] if isinstance(given, str) else given or ())
    if not some or not all(isinstance(one, str) and has_words(one) for one in some):
        raise Fault("no answer", f"question {number} has answers {given!r}", "leave it out, or read it as a test's")
    return some


def vqa(path: Path, root: Roots = None, fault: Callable = refuse, test: bool = False) -> Iterator[VQARecord]:
    """The original's questions: [{question_id, question, image, dataset: vqa or vg, answer: several, or vg's one}].

    test: answers may be absent; else a question without is a fault. Of Visual Genome the trust is 0.5
    """
    find, seen = {"vqa": Finder(root), "vg": Finder(root, "vg")}, {}

    def parse(entry):
        number, image = field(entry, "question_id", (int, str)), field(entry, "image")
        question = words(entry.get("question"), clean_question)
        if (source := entry.get("dataset", "vqa")) not in find:
            raise Fault("malformed", f"dataset {source!r} is none of vqa, vg", "docs/data.md shows the format")
        readers.once(seen, number, f"{image}: {question}", "question_id")
        answers = () if test and not entry.get("answer") else read_answers(entry.get("answer"), number)
        id = number if isinstance(number, int) else readers.number_of(number)
        trust = 0.5 if source == "vg" else 1.0                   # one person's answer, as the original weights it
        return [VQARecord(find[source](image), question, answers, id, trust, source)]
    return read(path, entries(path), parse, fault)


def vqa_official(path: Path, annotations: Path | None = None, root: Roots = None,
                 fault: Callable = refuse) -> Iterator[VQARecord]:
    """VQA v2's questions and annotations, as its site has them. annotations: None for a test, whose answers are secret.

    The answers are those of the ten annotators, word for word, as answers.accuracy wants them.
    """
    noted, seen, find = load(annotations, "annotations")["annotations"] if annotations else (), {}, Finder(root)
    given = {entry.get("question_id"): entry.get("answers") for entry in noted if isinstance(entry, dict)}
    whole = load(path, "questions")
    part = str(whole.get("data_subtype")).replace("-dev", "")                    # test-dev2015 has test2015's pictures
    if not re.fullmatch(r"(train|val|test)20\d\d", part):
        raise ValueError(f"{path} has data_subtype {part!r}, so its pictures are unknown; it must be such as val2014")

    def parse(entry):
        number, question = field(entry, "question_id", int), words(entry.get("question"), clean_question)
        image = f"{part}/COCO_{part}_{field(entry, 'image_id', int):012d}.jpg"
        readers.once(seen, number, f"{image}: {question}", "question_id")
        if annotations and number not in given:
            raise Fault("no answer", f"question {number} is not in {Path(annotations).name}",
                        "both must be of one split")
        answers = read_answers([one["answer"] for one in given[number]], number) if annotations else ()
        return [VQARecord(find(image), question, answers, number)]
    return read(path, whole["questions"], parse, fault)


def count_answers(records: Iterable[VQARecord]) -> Counter[str]:
    """Of each question of VQA's, the answer that most annotators gave (the first of several).

    Visual Genome's questions are left out: each has one person's answer, often a phrase.
    """
    return Counter(Counter(record.answers).most_common(1)[0][0]
                   for record in records if record.answers and record.dataset == "vqa")


def answer_list(path: Path) -> list[str]:
    """The answers to rank, as in the original's answer_list.json. Raises ValueError for another file or repeats."""
    some = load(path)
    if not isinstance(some, list) or not some or not all(isinstance(one, str) and has_words(one) for one in some):
        raise ValueError(f"{path} is no list of answers; it must be a JSON list of strings")
    if len(set(some)) < len(some):
        twice = next(one for i, one in enumerate(some) if one in some[:i])
        raise ValueError(f"{path} has {len(some) - len(set(some))} answers twice, such as {twice!r}; leave one out")
    return some


def nlvr2(path: Path, root: Roots = None, fault: Callable = refuse) -> Iterator[NLVR2Record]:
    """NLVR2, the original's [{images: [a, b], sentence, label}] or the official lines of identifier, sentence, label.

    The id groups pairs of one statement as the official metric does: by the identifier without its third field, the
    pair. The original's list has no identifiers: there it is the set, from the pictures' names, and the sentence.
    """
    find = Finder(root)

    def parse(entry):
        text, label = words(entry.get("sentence") if isinstance(entry, dict) else None), str(entry.get("label"))
        if label.lower() not in ("true", "false"):
            raise Fault("unknown label", f"label {label!r} is none of True, False", "leave it out")
        if "images" in entry:
            images = field(entry, "images", list)
            named = re.search(r"([^/]+)-\d+-img\d\.", str(images[0]))
            group = named[1] if named else "", text
        else:
            pair, _, sentence = field(entry, "identifier").rpartition("-")       # split-set-pair-sentence
            group = pair.rpartition("-")[0], sentence
            folder = str(PurePosixPath("images", pair.partition("-")[0], str(entry.get("directory", ""))))
            images = [f"{folder}/{pair}-img{i}.png" for i in (0, 1)]
        if len(images) != 2 or not all(isinstance(image, str) and image for image in images):
            raise Fault("missing picture", f"the pair {images!r} must be two pictures")
        id = readers.number_of(" ".join(group))
        return [NLVR2Record(tuple(map(find, images)), text, label.lower() == "true", id)]
    return read(path, entries(path), parse, fault)


class _Plain(pickle.Unpickler):
    """Reads lists, dicts, strings and numbers; a pickle that asks for anything else is refused, and nothing is run."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and could run code; refs need only lists and dicts")


def load_refs(path: Path) -> list[dict]:
    """RefCOCO's refs(unc).p, without executing any of it. Raises ValueError for a broken, foreign or malicious file."""
    with explain(f"{path} cannot be read", "it must be the pickle of the set's site; get it again", Exception):
        with open(path, "rb") as file:                                           # broken pickles raise anything
            refs = _Plain(file, encoding="utf-8", errors="replace").load()       # Python 2 wrote it
    if not isinstance(refs, list) or not all(
            isinstance(ref, dict) and all(isinstance(ref.get(key), int) for key in ("ref_id", "ann_id", "image_id"))
            for ref in refs):
        raise ValueError(f"{path} is no list of refs with ref_id, ann_id and image_id; get it again")
    return refs


def refcoco(path: Path, instances: Path, root: Roots = None, fault: Callable = refuse, listed: Path | None = None,
            proposals: Path | None = None, splits: tuple[str, ...] = ("val",)) -> Iterator[GroundingRecord]:
    """RefCOCO+'s refs(unc).p and instances.json -> a record an expression, in the splits wanted.

    listed: the original's list [{ref_id, text}], for order and texts. proposals: its dets.json, {image: boxes}
    """
    refs = {ref["ref_id"]: ref for ref in load_refs(path) if ref.get("split") in splits}
    whole = load(instances, "annotations", "images")
    images = {image.get("id"): image for image in whole["images"] if isinstance(image, dict)}
    truth = {one.get("id"): one.get("bbox") for one in whole["annotations"] if isinstance(one, dict)}
    boxes = load(proposals) if proposals else {}
    if not isinstance(boxes, dict):
        raise ValueError(f"{proposals} has no boxes by image; it must be a JSON object, like the original's dets.json")
    find, checked = Finder(root), {}

    def parse(item):
        number, texts = item
        if number not in refs:
            raise Fault("unknown ref", f"ref_id {number} is not among the {len(refs)} refs of {', '.join(splits)}")
        ref = refs[number]
        image, box = images.get(ref["image_id"]), truth.get(ref["ann_id"])
        if image is None or box is None:
            raise Fault("malformed", f"ref {number} has no picture or no box in {Path(instances).name}")
        name, size, key = image["file_name"], (image["height"], image["width"]), str(ref["image_id"])
        if wrong := box_fault(box, size):
            raise Fault("bad box", f"ref {number}: box {box!r} {wrong}")
        place = find("/".join([*re.findall(r"_((?:train|val)20\d\d)_", name), name]))
        if proposals and key not in checked:                     # once a picture, not once an expression
            some = [(one, box_fault(one, size)) for one in boxes.get(key, ())]
            yield from (Fault("bad proposal", f"picture {key}: box {one!r} {wrong}") for one, wrong in some if wrong)
            checked[key] = tuple(tuple(map(float, one)) for one, wrong in some if not wrong)
        if proposals and not checked[key]:
            raise Fault("no proposals", f"picture {key} has no proposals in {Path(proposals).name}")
        rest = photo_id(name), tuple(map(float, box)), checked.get(key, ()), size, ref["split"], number
        yield from readers.each(texts, lambda text: GroundingRecord(place, text, *rest))
    if listed:
        return read(listed, entries(listed),
                    lambda entry: parse((field(entry, "ref_id", int), [entry.get("text")])), fault)
    items = [(number, [one.get("sent") or one.get("raw") for one in ref.get("sentences", ())])
             for number, ref in refs.items()]
    return read(path, items, parse, fault)
