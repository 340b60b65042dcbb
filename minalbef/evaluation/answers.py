"""How VQA scores an answer: the official normal form, and agreement with ten annotators (VQA v2's own evaluation)."""
import re
from collections.abc import Sequence

NUMBERS = {"none": "0"} | {word: str(i) for i, word in enumerate(
    "zero one two three four five six seven eight nine ten".split())}
PUNCTUATION = ";/[]\"{}()=+\\_-><@`,?!"
# VQA's list, no other: "lets" stays, and so does what is a word without its apostrophe, such as "well"
CONTRACTIONS = {full[:i] + full[i + 1:]: full for full in """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
    """.split() for i, letter in enumerate(full) if letter == "'"}
CONTRACTIONS["somebody'd"] = "somebodyd"         # theirs, the wrong way round


def strip_punctuation(text: str) -> str:
    """Marks fall away where one stands beside a space, or the text has a number such as 1,000; else they part words."""
    number = re.search(r"\d,\d", text)
    marks: dict[str, str | int | None] = {
        mark: "" if number or f"{mark} " in text or f" {mark}" in text else " " for mark in PUNCTUATION}
    return re.sub(r"\.(?!\d)", "", text.translate(str.maketrans(marks)))


def tidy(answer: str) -> str:
    """Spaces for tabs and line ends, and none around it."""
    return re.sub(r"[\n\t]", " ", answer).strip()


def normalise(answer: str) -> str:
    """Lower case, no punctuation, no articles, numbers up to ten as digits, contractions with their apostrophe."""
    words = strip_punctuation(tidy(answer)).lower().split()
    words = [NUMBERS.get(word, word) for word in words]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ("a", "an", "the"))


def accuracy(answer: str, annotators: Sequence[str]) -> float:
    """Right if three annotators agree, a third for each: min(n / 3, 1), the mean over leaving out
    one of them in turn.

    annotators: what each of them wrote. Where they differ, all answers are compared in normal form;
        where all wrote the same, this answer must be it, letter by letter
    So does VQA's vqaEval.py since March 2021. The older copy beside the original's code normalises
    the prediction alone, and counts "two" wrong where all wrote "two".
    """
    answer = tidy(answer)
    annotators = list(map(tidy, annotators))
    if len(set(annotators)) > 1:
        answer = normalise(answer)
        annotators = list(map(normalise, annotators))
    agree = [written == answer for written in annotators]
    return sum(min((sum(agree) - left_out) / 3, 1) for left_out in agree) / len(agree)


def by_normal_form(listed: Sequence[str]) -> dict[str, list[str]]:
    """A list of answers, those of one normal form together."""
    forms: dict[str, list[str]] = {}
    for answer in listed:
        forms.setdefault(normalise(answer), []).append(answer)
    return forms


def scoring_answers(forms: dict[str, list[str]], annotators: Sequence[str]) -> list[str]:
    """Of a list by normal form, the answers that may agree with an annotator; others have accuracy 0."""
    said = dict.fromkeys(map(normalise, annotators))
    return [answer for form in said for answer in forms.get(form, ())]
