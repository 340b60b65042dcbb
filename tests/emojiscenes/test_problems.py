"""problems, phrasing and staging: every truth checked, nothing to be learnt from text or image alone."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from emojiscenes.language import Count, Noun, Object, Relation, Scene, There, holds, needs
from emojiscenes.painting import paint
from emojiscenes.phrasing import ASKED, CLAIMED, NEEDS_BOTH, Claim, answer, ask, true_of
from emojiscenes.problems import GROUP, Problems, answer_list
from emojiscenes.scenes import SPLITS, split_of
from emojiscenes.staging import LABELS, judge, refers, views
from emojiscenes.stream import Stream

MANY = {
    "entailment": 3006, "vqa": 3000, "nlvr2": 3000, "grounding": 3000, "retrieval": 800,
    "families": 800,
}


@pytest.fixture(scope="module")
def samples():
    problems = {}
    for task in GROUP:
        source = Problems(task, "train", objects=50)
        problems[task] = [source.draw(i) for i in range(MANY[task])]
    return problems


def majority(given) -> float:
    """Of (what is known, truth) each: how often the commonest truth for what is known is right."""
    counts: dict = {}
    for known, truth in given:
        counts.setdefault(known, Counter())[truth] += 1
    right = sum(max(answers.values()) for answers in counts.values())
    return right / sum(answers.total() for answers in counts.values())


def texts_of(problem) -> tuple[str, ...]:
    return problem.texts if hasattr(problem, "texts") else (problem.text,)


def thing(name, x, y, size=0.25):
    return Object(name, x, y, size, "noto")


# all of them


@pytest.mark.parametrize("task", GROUP)
def test_a_problem_depends_on_its_number_alone(task):
    problem, other = (Problems(task, "train", objects=50) for _ in range(2))
    forwards = [problem.draw(i) for i in range(20)]
    assert [other.draw(i) for i in reversed(range(20))] == forwards[::-1]
    assert forwards[0] != Problems(task, "train", seed=1, objects=50).draw(0)
    second = forwards[GROUP[task] : 2 * GROUP[task]]
    assert problem.group(1) == second, "a group's problems follow one another"


@pytest.mark.parametrize("task", GROUP)
def test_splits_share_neither_sentence_nor_scene(task, samples):
    number = 2 * GROUP[task]
    for split in SPLITS:
        problems = Problems(task, split, objects=50)
        selection = [problems.draw(i) for i in range(number)]
        texts = {text for problem in selection for text in texts_of(problem)}
        if task != "vqa":
            for text in texts:
                assert split_of(text) == split
        if split != "train":
            seen = set()
            for problem in samples[task]:
                seen |= {problem.left, problem.right} if task == "nlvr2" else {problem.scene}
            assert not seen & {
                problem.left if task == "nlvr2" else problem.scene for problem in selection
            }


def test_what_does_not_exist_is_refused():
    for arguments, message in (
        (("riddles", "train"), "no task 'riddles'; there are entailment"),
        (("vqa", "dev"), "no split 'dev'"),
        (("vqa", "train", 0, 64, ("yeti",)), "no object 'yeti'"),
    ):
        with pytest.raises(ValueError, match=message):
            Problems(*arguments)


# entailment
def test_neither_statement_nor_scene_nor_curtain_tells_a_label(samples):
    selection = samples["entailment"]
    assert Counter(problem.label for problem in selection) == dict.fromkeys((0, 1, 2), 1002)
    keys = {
        "statement": lambda problem: problem.text,
        "scene": lambda problem: problem.scene,
        "curtain": lambda problem: problem.scene.curtain,
        "curtain's place": lambda problem: tuple(edge > 0.5 for edge in problem.scene.curtain),
        "background": lambda problem: problem.scene.background,
        "statement's form": lambda problem: type(problem.form),
        "how many are seen": lambda problem: len(views(problem.scene)[2].objects),
        "how many are hidden": lambda problem: (
            len(problem.scene.objects) - len(views(problem.scene)[2].objects)
        ),
    }
    for name, key in keys.items():
        assert majority((key(problem), problem.label) for problem in selection) == pytest.approx(
            1 / 3
        ), name
    for word in {word for problem in selection for word in problem.text.split()}:
        counts = Counter(problem.label for problem in selection if word in problem.text.split())
        assert len(set(counts.values())) == 1, word
    both = majority(
        (
            needs(problem.form) <= {thing.name for thing in views(problem.scene)[2].objects},
            problem.label,
        )
        for problem in selection
    )
    assert 0.4 < both < 0.6, "only with both can there be more than chance, or the check is blind"
    for problem in selection:
        assert problem.scene.curtain


def test_labels_are_what_can_be_seen(samples):
    for problem in samples["entailment"]:
        assert (
            LABELS[holds(problem.form, problem.scene)]
            == problem.label
            == judge(problem.form, views(problem.scene))
        )


def worlds(problem):
    """The scene without curtain, with up to two things that may stand behind it."""
    seen = views(problem.scene)[2]
    x0, y0, x1, y1 = problem.scene.curtain
    names = needs(problem.form) | {thing.name for thing in seen.objects}
    names.add(getattr(problem.form, "noun", Noun("gift")).name)
    selection = []
    for name, half in itertools.product(sorted(names), (0.105, 0.19)):
        if min(x1 - x0, y1 - y0) < 2 * half:
            continue
        for a, b in itertools.product((0.0, 0.5, 1.0), repeat=2):
            x = x0 + half + a * (x1 - x0 - 2 * half)
            y = y0 + half + b * (y1 - y0 - 2 * half)
            selection.append(thing(name, x, y, 2 * half))
    pairs = [pair for pair in itertools.combinations(selection, 2) if pair[0].name != pair[1].name]
    for more in [(), *((single,) for single in selection), *pairs[::7], *pairs[3::31]]:
        yield replace(seen, objects=seen.objects + more)


def test_labels_agree_with_trying_what_may_stand_behind_the_curtain(samples):
    """The scene as it truly is, too: so lifting the curtain never proves a label wrong."""
    for problem in samples["entailment"][:270]:
        values = {holds(problem.form, world) for world in worlds(problem)} - {None}
        assert values == {0: {False}, 1: {True, False}, 2: {True}}[problem.label], problem
        lifted = holds(problem.form, replace(problem.scene, curtain=None))
        assert problem.label == 1 or lifted is (problem.label == 2)


@pytest.mark.parametrize("size", [48, 64])
def test_the_curtain_hides_what_it_should_and_nothing_else(size, samples):
    for scene in list({problem.scene for problem in samples["entailment"]})[:300]:
        seen = replace(views(scene)[2], curtain=scene.curtain)
        picture = paint(scene, size)
        assert (picture == paint(seen, size)).all(), "a hidden thing peeps out"
        x0, y0, x1, y1 = scene.curtain
        for problem in seen.objects:
            wide, high = (
                (problem.size / 2) - max(low - centre, centre - high)
                for low, high, centre in ((x0, x1, problem.x), (y0, y1, problem.y))
            )
            assert min(wide, high) <= 1e-9, "a seen thing is half hidden"
    assert (paint(scene, size) != paint(replace(scene, curtain=None), size)).any()


def test_a_label_does_not_hang_on_a_margin():
    scene = Scene((thing("cat", 0.5, 0.5, 0.31),), "red", (0.0, 0.0, 0.4, 1.0))
    assert judge(There(Noun("cat", "big", "middle")), views(scene)) is None
    assert judge(There(Noun("cat", None, "middle")), views(scene)) == 2
    assert judge(There(Noun("dog", None, "left")), views(scene)) == 1
    narrow = replace(scene, curtain=(0.0, 0.0, 0.22, 1.0))
    assert holds(There(Noun("dog")), narrow) is None
    assert judge(There(Noun("dog")), views(narrow)) is None


# VQA
ROOM = Scene((thing("apple", 0.2, 0.2), thing("cat", 0.8, 0.3, 0.4), thing("cat", 0.7, 0.8)), "red")


def expected(question, scene):
    """The answer, from the words alone."""
    words = question.text.removesuffix("?").replace(",", "").split()
    things = {thing.name: thing for thing in scene.objects}
    if question.kind == "background":
        return scene.background
    if question.kind == "where":
        thing = next(things[word] for word in words if word in things)
        across = "left" if thing.x < 0.4 else "right" if thing.x > 0.6 else ""
        height = "top" if thing.y < 0.4 else "bottom" if thing.y > 0.6 else ""
        return f"{height} {across}".strip() or "middle"
    if question.kind == "compare":
        a = things[words[-4]]
        b = things[words[-1]]
        value = {
            "bigger": b.size - a.size, "smaller": a.size - b.size, "higher": a.y - b.y,
            "lower": b.y - a.y, "left": a.x - b.x, "right": b.x - a.x,
        }
        word = next(word for word in words if word in value)
        return a.name if value[word] < 0 else b.name
    return None


def test_answers_agree_with_the_words(samples):
    checked = Counter()
    for problem in samples["vqa"]:
        assert problem.answer == answer(problem.question, problem.scene)
        assert problem.text == problem.question.text
        value = expected(problem.question, problem.scene)
        assert value in (None, problem.answer), problem
        checked[problem.kind] += value is not None
    assert checked == {
        **dict.fromkeys(("where", "background", "compare"), 500),
        **dict.fromkeys(("what", "how many", "yes or no"), 0),
    }


def test_plain_questions_by_hand():
    asked = {ask(kind, ROOM.objects, Stream("hand", kind, i)) for kind in ASKED for i in range(400)}
    answers_by_text = {question.text: answer(question, ROOM) for question in asked}
    for text, value in {
        "how many cats are there?": "two",
        "how many small cats are there?": "one",
        "how many apples do you see?": "one",
        "what is the background?": "red",
        "where is the apple?": "top left",
        "where is the cat?": None,
        "what is in the top left corner?": "apple",
        "what is on the right?": "cat",
        "is there a big cat?": "yes",
        "what is left of the cat?": None,
        "what is right of the apple?": "cat",
        "what is above the apple?": None,
        "is the background blue?": "no",
        "are there two cats?": "yes",
        "are there three cats?": "no",
        "is the apple small?": "yes",
        "is there a cat right of an apple?": "yes",
    }.items():
        assert answers_by_text[text] == value, text


def test_each_question_stands_with_two_scenes_of_different_answers(samples):
    for problem, other in zip(samples["vqa"][::2], samples["vqa"][1::2]):
        assert problem.text == other.text
        assert problem.answer != other.answer
        assert problem.scene != other.scene
    assert Counter(problem.kind for problem in samples["vqa"]) == dict.fromkeys(ASKED, 500)


def test_questions_alone_give_no_answers(samples):
    for kind in ASKED:
        selection = [problem for problem in samples["vqa"] if problem.kind == kind]
        # even for one who has seen these problems
        assert majority((problem.text, problem.answer) for problem in selection) <= 0.5, kind
    yes_or_no = Counter(problem.answer for problem in samples["vqa"] if problem.kind == "yes or no")
    assert yes_or_no == {"yes": 250, "no": 250}
    shares = Counter(problem.answer for problem in samples["vqa"] if problem.kind == "how many")
    assert shares["two"] > 80 and shares["none"] > 80


def test_annotators_sometimes_disagree_and_mostly_are_right(samples):
    listed = answer_list(50)
    assert len(set(listed)) == len(listed) and set(answer_list(("cat",))) < set(listed)
    for problem in samples["vqa"]:
        assert len(problem.answers) == 10
        assert problem.answers.count(problem.answer) >= 7
        assert {*problem.answers} <= {*listed}
    differ = sum(len(set(problem.answers)) > 1 for problem in samples["vqa"])
    assert differ / 3000 == pytest.approx(0.2, abs=0.03)


# NLVR2
LEFT = Scene((thing("cat", 0.2, 0.2), thing("cat", 0.8, 0.8, 0.4)), "red")
RIGHT = Scene((thing("cat", 0.5, 0.5), thing("dog", 0.8, 0.2)), "blue")
CAT = There(Noun("cat"))
DOG = There(Noun("dog"))


@pytest.mark.parametrize(
    "made, value",
    [
        (Claim("both", CAT), True),
        (Claim("both", DOG), False),
        (Claim("only one", DOG), True),
        (Claim("only one", CAT), False),
        (Claim("at least one", DOG), True),
        (Claim("left", DOG), False),
        (Claim("right", DOG), True),
        (Claim("total", Count(Noun("cat"), 3), n=3), True),
        (Claim("total", Count(Noun("cat"), 2), n=2), False),
        (Claim("same number", Count(Noun("cat"), 2)), False),
        (Claim("same number", Count(Noun("cat"), 2), True), True),
        (Claim("same background", CAT), False),
        (Claim("same background", CAT, True), True),
        (Claim("same background", DOG), None),
        (Claim("one and other", There(Noun("cat", "big")), other=DOG), True),
        (Claim("one and other", DOG, other=DOG), False),
        (Claim("left", There(Noun("cat", None, "middle"))), False),
    ],
)
def test_claims_by_hand(made, value):
    assert true_of(made, LEFT, RIGHT) is value


def test_claims_are_twice_true_and_twice_false(samples):
    for group in zip(*(samples["nlvr2"][i::4] for i in range(4))):
        assert [problem.true for problem in group].count(True) == 2
        assert len({(problem.text, problem.id, problem.kind) for problem in group}) == 1
        assert (
            len({problem.left for problem in group})
            == len({problem.right for problem in group})
            == 2
        )
        assert len({(problem.left, problem.right) for problem in group}) == 4
        for problem in group:
            assert true_of(problem.claim, problem.left, problem.right) is problem.true
    assert {problem.kind for problem in samples["nlvr2"]} == set(CLAIMED)


def test_text_or_one_picture_do_not_tell_where_both_are_needed(samples):
    ids = {
        "text": lambda problem: problem.text,
        "left": lambda problem: (problem.id, problem.left),
        "right": lambda problem: (problem.id, problem.right),
    }
    for name, key in ids.items():
        for kind in CLAIMED:
            share = majority(
                (key(problem), problem.true) for problem in samples["nlvr2"] if problem.kind == kind
            )
            if name == "text" or kind in NEEDS_BOTH:
                assert share == 0.5, (kind, name)
            assert kind != name or share == 1, "a claim about one picture is told by it"
        assert majority((key(problem), problem.true) for problem in samples["nlvr2"]) < 0.66
    assert 0.4 < sum(problem.kind in NEEDS_BOTH for problem in samples["nlvr2"]) / 3000 < 0.6


# grounding
def test_expressions_by_hand():
    cats = ROOM.objects[1:]
    for expression, things in {
        Noun("cat"): cats,
        Noun("cat", "big"): cats[:1],
        Noun("cat", None, "bottom"): cats[1:],
        Noun("dog"): (),
        Relation(Noun("cat"), "right", Noun("apple")): cats,
        Relation(Noun("cat"), "below", Noun("apple")): None,
        Relation(Noun("apple"), "left", Noun("cat", "big")): ROOM.objects[:1],
        Relation(Noun("apple"), "right", Noun("cat")): (),
    }.items():
        assert refers(expression, ROOM) == things, expression


def test_an_expression_is_true_of_its_target_alone(samples):
    kinds = Counter()
    for problem in samples["grounding"]:
        target = problem.scene.objects[problem.target]
        assert refers(problem.expression, problem.scene) == (target,)
        assert target.name in problem.text
        assert problem.box == (
            target.x - target.size / 2, target.y - target.size / 2, target.size, target.size,
        )
        # no distractor
        assert sum(thing.name == target.name for thing in problem.scene.objects) >= 2
        noun = (
            problem.expression.a if isinstance(problem.expression, Relation) else problem.expression
        )
        rest = tuple(thing for thing in problem.scene.objects if thing is not target)
        form = There(noun) if noun is problem.expression else problem.expression
        assert holds(form, problem.scene) is True
        assert holds(form, replace(problem.scene, objects=rest)) is False
        is_noun = noun is problem.expression
        kinds[(bool(noun.size), bool(noun.place)) if is_noun else "relation"] += 1
    assert len(kinds) == 4 and min(kinds.values()) > 200


def test_the_picture_does_not_tell_the_target(samples):
    for problem, other in zip(samples["grounding"][::2], samples["grounding"][1::2]):
        assert problem.scene == other.scene
        assert problem.target != other.target
        assert problem.proposals == other.proposals
        assert (
            problem.scene.objects[problem.target].name == problem.scene.objects[other.target].name
        )


# retrieval
def test_pictures_have_several_true_captions(samples):
    for task in ("retrieval", "families"):
        for problem in samples[task]:
            assert len(set(problem.texts)) == len(problem.texts) >= 2
            for form in problem.forms:
                assert holds(form, problem.scene)
    assert {len(problem.scene.objects) for problem in samples["retrieval"]} == {4}
    assert Counter(len(problem.scene.objects) for problem in samples["families"]) == {4: 760, 3: 40}
    assert len({problem.id for problem in samples["retrieval"]}) == 800


def test_captions_of_a_family_are_true_of_one_picture_alone(samples):
    for family in zip(*(samples["families"][i::4] for i in range(4))):
        assert (
            len({frozenset(thing.name for thing in problem.scene.objects) for problem in family})
            == 1
        )
        for problem, other in itertools.permutations(family, 2):
            for form in problem.forms:
                assert holds(form, other.scene) is False
