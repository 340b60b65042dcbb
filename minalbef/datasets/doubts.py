"""What a set of your own makes one doubt: its captions, and what train and test share."""
import re
from collections import Counter
from statistics import median

import numpy as np

from minalbef.data import Record
from minalbef.datasets.looks import find_alike, small_copy
from minalbef.datasets.pairs import SPLITS, quote
from minalbef.datasets.readers import stable_hash
from minalbef.system.tokenizer import clean

# so many captions per image, or an image with so many times the median
MANY = 10
TIMES_MEDIAN = 5
KEYED = re.compile(r"\s*[\w.-]+=")    # a line of a settings file rather than a caption


class Doubts:
    """Counts a set's captions, and compares its splits."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()                # of an image's captions
        self.keyed: list[str] = []
        self.images: dict[int, int] = {}                     # the first of each caption
        self.shared: set[int] = set()                        # captions of several images
        self.texts: dict[str, list[int]] = {split: [] for split in SPLITS}
        self.copies: dict[str, dict[int, np.ndarray]] = {split: {} for split in SPLITS}

    def add(self, record: Record, split: str) -> None:
        """Count a record."""
        self.counts[record.id] += 1
        if KEYED.match(record.text):
            self.keyed.append(record.text)
        if record.match is None:                             # a label is meant to be shared
            text = stable_hash(clean(record.text))
            self.texts[split].append(text)
            if self.images.setdefault(text, record.id) != record.id:
                self.shared.add(text)
        if record.id not in self.copies[split]:
            copy = small_copy(record.image)
            if copy is not None:
                self.copies[split][record.id] = copy

    def describe(self) -> list[str]:
        """Lines to print."""
        if not self.counts:
            return []
        usual = median(self.counts.values())
        most = max(self.counts.values())
        lines = [f"captions per image: {usual:g} (median), from {min(self.counts.values())} to "
                 f"{most}"]
        if self.keyed:
            lines.append(f"doubtful: {len(self.keyed):,} captions look like key=value, such as "
                         f"{quote(self.keyed[0])}: are these captions?")
        if len(self.shared) > len(self.images) / 2:
            lines.append(f"doubtful: {len(self.shared):,} of {len(self.images):,} captions are of "
                         "several images, and recall counts one image of each as right: if they "
                         "are labels, call their column label")
        if usual > MANY or most > MANY and most > TIMES_MEDIAN * usual:
            lines.append("doubtful: so many captions per image, or such different numbers of "
                         "them, are rarely meant: does every line describe its image?")
        trained = set(self.texts["train"])
        for split in SPLITS[:0:-1]:
            texts = self.texts[split]
            if count := sum(text in trained for text in texts):
                lines.append(f"doubtful: {count:,} of {len(texts):,} captions of {split} stand "
                             "word for word in train, so its figures are too good; "
                             "--group-column keeps rows of one origin in one split")
            if alike := find_alike(self.copies["train"], self.copies[split]):
                lines.append(f"doubtful: {len(alike):,} images of {split} look like one of train "
                             "and differ in bytes only, as a PNG and a JPEG of one picture do")
        return lines
