"""The page of your pictures: one file without requests, whose search and answers are torch's."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from chromium import explorers
from commands import call
from helpers import disturb
from minalbef import ALBEF, load
from minalbef.data import data_folder
from minalbef.presets import preset
from minalbef.recipes import explore
from minalbef.recipes import search as finder
from minalbef.recipes.explore import write_page
from minalbef.system import checkpoint
from minalbef.system.images import list_images
from minalbef.system.tokenizer import Tokenizer

CLIPART = data_folder() / "clipart" / "images.zip"
DRAWINGS = 60
QUERIES = (
    "apple", "a red apple", "a flag and a tree on the moon",
    "two big dogs left of a zebra's CAFÉ-bar",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Real drawings, some in a subfolder, with a file that is none."""
    folder = tmp_path_factory.mktemp("pictures") / "my drawings"
    with zipfile.ZipFile(CLIPART) as file:
        names = [name for name in file.namelist() if name.startswith("test/")][:DRAWINGS]
        file.extractall(folder, names)
    for name in names[:10]:
        (folder / name).rename(folder / Path(name).name)
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A run of other sizes than tiny's, with its own vocabulary and recorded words, at random weights."""
    with zipfile.ZipFile(CLIPART) as file:
        captions = [Path(name).stem.replace("_", " ") for name in file.namelist()]
    tokenizer = Tokenizer.train([*captions, "the café 東京"], 600)
    config = replace(
        preset("clipart"), stem="patch", fuse_cls=True, image_depth=1, text_depth=2, fusion_depth=3,
        text_heads=4, vocab_size=len(tokenizer), text_length=24,
    )
    folder = tmp_path_factory.mktemp("own")
    checkpoint.save(folder, disturb(ALBEF(config)), tokenizer)
    (folder / checkpoint.WORDS).write_text(json.dumps(["apple", "a", "red"]))
    return folder


@pytest.fixture(scope="module")
def files(folder, own, tmp_path_factory) -> dict[str, Path]:
    """The pages of the shipped model and of one's own."""
    pages = tmp_path_factory.mktemp("pages")
    write_page(load("tiny"), folder, pages / "tiny.html")
    write_page(load(own), folder, pages / "own.html")
    return {"tiny": pages / "tiny.html", "own": pages / "own.html"}


@pytest.fixture(params=["tiny", "own"])
def run_and_file(request, files, own):
    return load({"tiny": "tiny", "own": own}[request.param]), files[request.param]


def paths_of(folder: Path) -> list[Path]:
    """The images that can be read."""
    return [path for path in list_images(folder) if path.name != "broken.png"]


def test_a_command_writes_it_and_counts_what_it_could_not_read(folder, tmp_path):
    out = tmp_path / "page.html"
    outcome = call("explore", "tiny", "--images", folder, "--out", out)
    assert not outcome.failed
    assert f"{DRAWINGS} images, 1 could not be read" in outcome.text
    assert "broken.png cannot be read as an image" in outcome.text
    assert out.exists()


def test_what_is_no_folder_or_too_much_for_a_page_is_refused(folder, tmp_path, monkeypatch):
    run = load("tiny")
    out = tmp_path / "page.html"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="is no folder; name the one that holds the images"):
        write_page(run, folder / "broken.png", out)
    with pytest.raises(ValueError, match="no image is in .*empty"):
        write_page(run, empty, out)
    (empty / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no image of .*empty can be read, .*a\.png"):
        write_page(run, empty, out)
    monkeypatch.setattr(explore, "MOST_PICTURES", DRAWINGS)
    with pytest.raises(ValueError, match="has 61 images, and a page at most 60; name one of"):
        write_page(run, folder, out)
    monkeypatch.setattr(explore, "MOST_WEIGHTS", 500_000)
    with pytest.raises(ValueError, match="weights besides .*, and a page runs at most"):
        write_page(run, folder, out)
    with pytest.raises(ValueError, match="has no fusion"):
        write_page(replace(run, absent=("fusion",)), folder, out)
    assert not out.exists()


# in a browser

in_browser = pytest.mark.slow  # skipped without Chromium, but for CI: see the fixture `browser`


@pytest.fixture
def open_pictures(browser):
    """open_pictures(file, size="desktop") -> a page of pictures; its errors and requests fail the test."""
    with explorers(browser) as open_explorer:
        yield lambda file, size="desktop": open_explorer(file.as_uri(), size)


def find(page, sentence: str) -> None:
    page.locator("#sentence").fill(sentence)
    page.locator("#sentence").press("Enter")
    page.locator("#found", has_text="Sorted by score").wait_for(timeout=120_000)


def settle(page) -> None:
    """Wait for the answer to what was typed or chosen, and for its picture."""
    page.evaluate("""new Promise(done => {
      const is_busy = () => typing || document.querySelector("[aria-busy=true]");
      const look = () => is_busy() ? setTimeout(look, 10) : done();
      look();
    })""")


@in_browser
def test_search_scores_and_orders_as_torch_does(run_and_file, folder, open_pictures):
    run, file = run_and_file
    page = open_pictures(file)
    paths = paths_of(folder)
    features = run.embed_images(paths)
    for sentence in QUERIES:
        hits = page.evaluate("sentence => explorer.search(sentence)", sentence)
        assert sorted(hit["i"] for hit in hits) == list(range(DRAWINGS))
        scored = hits[: finder.FIRST]
        rest = hits[finder.FIRST :]
        assert all("score" in hit for hit in scored)
        assert not any("score" in hit for hit in rest)
        similarities = [hit["similarity"] for hit in rest]
        assert similarities == sorted(similarities, reverse=True)

        similarity = run.similarity(paths, sentence)[:, 0]
        for hit in hits:
            assert hit["similarity"] == pytest.approx(similarity[hit["i"]].item(), abs=1e-3)
        match = run.match_probability([paths[hit["i"]] for hit in scored], sentence)[:, 0]
        assert [hit["match"] for hit in scored] == pytest.approx(match.tolist(), abs=1e-3)

        by_torch = finder.search_features(run, sentence, paths, features, folder, top=DRAWINGS)
        true_score = {hit.path: hit.score for hit in by_torch}
        last = similarity.sort(descending=True).values[finder.FIRST - 1].item()
        scores = []
        for hit in scored:
            path = paths[hit["i"]]
            if path in true_score:
                assert hit["score"] == pytest.approx(true_score[path], abs=5e-3)
                scores.append(true_score[path])
            else:  # a near tie at ITC's last place may go either way
                assert hit["similarity"] == pytest.approx(last, abs=1e-3)
        for better, worse in zip(scores, scores[1:]):
            assert better > worse - 5e-3, "the order is torch's, but for ties"


READ_MAPS = """([i, place]) => {
  const {mind, look} = explorer, {attention} = mind.ask(look(i), "a red apple");
  return attention.map((_, k) => {
    document.getElementById("layer").selectedIndex = k;
    return [...explorer.lookOf(attention, [place])];
  });
}"""
READ_GUESSES = """i => {
  const {mind, look} = explorer, {tokens, places} = mind.encode("a red [MASK]");
  const fused = mind.model.fuse(mind.read(tokens), look(i).seen);
  return [tokens, [...mind.model.wordProbabilities(fused, places[2][0])]];
}"""


@in_browser
def test_words_attention_and_guesses_are_torchs(run_and_file, folder, open_pictures):
    run, file = run_and_file
    model = run.model
    page = open_pictures(file)
    paths = paths_of(folder)
    features = torch.tensor(page.evaluate("explorer.features.map(feature => [...feature])"))
    assert torch.allclose(features, run.embed_images(paths), atol=1e-3)
    encode = "([text, length]) => explorer.tokenizer.encode(text, length).tokens"
    length = run.config.text_length
    for text in (*QUERIES, "東京 the 2nd café, e.g. in_a [box]"):
        tokens, _ = run.tokenizer.encode([text], length)
        assert page.evaluate(encode, [text, length]) == tokens[0].tolist()
    tokens, mask = run.tokenizer.encode(["a red apple"], length)
    place = 3  # of “apple”, which is one piece
    tokens[0, place] = run.tokenizer.mask
    for i in (0, 7, 30):
        maps = run.attention(paths[i], "a red apple")  # (layers, heads, pieces, g, g)
        on_page = torch.tensor(page.evaluate(READ_MAPS, [i, place]))
        assert torch.allclose(on_page, maps.mean(1)[:, place].flatten(1), atol=1e-3)
        with torch.no_grad():
            image = model.encode_image(run.transform(paths[i])[None])
            fused = model.fuse(model.encode_text(tokens, mask), mask, image)
            likely = model.word_logits(fused[0, place]).softmax(-1)
        our_tokens, our_likely = page.evaluate(READ_GUESSES, i)
        assert our_tokens == tokens[0].tolist()
        assert torch.allclose(torch.tensor(our_likely), likely, atol=1e-3)


@in_browser
def test_a_chosen_picture_answers_as_torch_does_and_a_word_is_looked_for_and_masked(
    folder, files, open_pictures
):
    run = load("tiny")
    page = open_pictures(files["tiny"])
    paths = paths_of(folder)
    find(page, "a red apple")
    button = page.locator("#results button").nth(2)
    i = int(button.get_attribute("data-picture"))
    button.click()
    settle(page)
    assert page.locator("#chosen-title").inner_text() == paths[i].relative_to(folder).as_posix()
    similarity = run.similarity(paths[i], "a red apple").item()
    assert page.locator("#similarity").inner_text() == f"{similarity:.3f}"
    word = "yes" if run.match_probability(paths[i], "a red apple").item() > 0.5 else "no"
    assert page.locator("#numbers").inner_text().startswith(f"Match: {word}")

    picture = "document.getElementById('picture').toDataURL()"
    plain = page.evaluate(picture)
    page.locator("#words button", has_text="apple").click()
    settle(page)
    assert page.evaluate(picture) != plain
    page.locator("#mask").click()
    settle(page)
    assert page.locator("#caption").input_value() == "a red [MASK]"
    assert page.locator("#guesses .guess").count() == 1

    cosines = run.embed_images(paths) @ run.embed_images(paths[i])[0]
    cosines[i] = -1
    read_pictures = "all => all.map(button => Number(button.dataset.picture))"
    alike = page.locator("#similar button").evaluate_all(read_pictures)
    assert cosines[alike].tolist() == pytest.approx(cosines.topk(8).values.tolist(), abs=1e-3)
