"""How VQA scores an answer: the official normal form, and agreement with ten annotators.

As in VQA v2's own evaluation.
"""
import re
from collections.abc import Sequence

NUMBERS = {"none": "0"}
for i, word in enumerate("zero one two three four five six seven eight nine ten".split()):
    NUMBERS[word] = str(i)
PUNCTUATION = ";/[]\"{}()=+\\_-><@`,?!"
# VQA's list and nothing else: "lets" stays, and so does a contraction that is a word without its
# apostrophe, such as "well"
FULL_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
    mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll
    you're you've
    """.split()
CONTRACTIONS = {}                                # without one of their apostrophes -> in full
for full in FULL_CONTRACTIONS:
    for i, letter in enumerate(full):
        if letter == "'":
            CONTRACTIONS[full[:i] + full[i + 1:]] = full
CONTRACTIONS["somebody'd"] = "somebodyd"         # VQA's list has it the wrong way round


def strip_punctuation(text: str) -> str:
    """The text without punctuation.

    A mark becomes a space if it always stands between two letters; it is dropped if it stands
    beside a space somewhere, or if the text has a number such as 1,000.
    """
    has_number = re.search(r"\d,\d", text)
    marks: dict[str, str | int | None] = {}
    for mark in PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        marks[mark] = "" if has_number or beside_space else " "
    return re.sub(r"\.(?!\d)", "", text.translate(str.maketrans(marks)))


def tidy(answer: str) -> str:
    """The answer with spaces for tabs and line ends, and without spaces around it."""
    return re.sub(r"[\n\t]", " ", answer).strip()


def normalise(answer: str) -> str:
    """The answer in lower case, without punctuation and articles.

    Numbers up to ten become digits, and contractions get their apostrophe.
    """
    words = []
    for word in strip_punctuation(tidy(answer)).lower().split():
        word = NUMBERS.get(word, word)
        if word not in ("a", "an", "the"):
            words.append(CONTRACTIONS.get(word, word))
    return " ".join(words)


def accuracy(answer: str, annotators: Sequence[str]) -> float:
    """VQA accuracy: min(n / 3, 1) if n annotators agree, averaged over leaving out each in turn.

    annotators: what each of them wrote. Where they differ, all answers are compared in normal form;
        where all wrote the same, the answer must be the same, letter by letter
    VQA's vqaEval.py has done so since March 2021. The older copy in the original's repository
    normalises the prediction alone, and counts "two" wrong where all wrote "two".
    """
    answer = tidy(answer)
    annotators = list(map(tidy, annotators))
    if len(set(annotators)) > 1:
        answer = normalise(answer)
        annotators = list(map(normalise, annotators))
    agree = [annotator == answer for annotator in annotators]
    scores = [min((sum(agree) - excluded) / 3, 1) for excluded in agree]
    return sum(scores) / len(scores)


def by_normal_form(listed: Sequence[str]) -> dict[str, list[str]]:
    """A list of answers by their normal form."""
    forms: dict[str, list[str]] = {}
    for answer in listed:
        forms.setdefault(normalise(answer), []).append(answer)
    return forms


def scoring_answers(forms: dict[str, list[str]], annotators: Sequence[str]) -> list[str]:
    """The answers that may agree with an annotator; all others have accuracy 0.

    forms: of `by_normal_form`
    """
    answers: list[str] = []
    for form in dict.fromkeys(map(normalise, annotators)):
        answers += forms.get(form, [])
    return answers
