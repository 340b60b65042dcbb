// The page of your own pictures: search by a sentence, then ask about one picture. Python has encoded the images
// (values.tokens); text encoder, shared space, fusion and heads run here, in explorer_model.js.
"use strict";

// In a sentence [MASK] is a hidden word. Python's `clean` would write it in lower case and cut it at its brackets.
class MaskingTokenizer extends Tokenizer {
  wordIds(word) { return word === "[mask]" ? [this.mask] : super.wordIds(word); }
}

const SHOWN = 32, SIMILAR = 8;                   // pictures of the results at first and at each "more"; like the chosen
const SIDE = 300, NARROW = "(max-width: 820px)"; // pixels of the chosen picture's longer side; a page in one column
const SLOW = 300, BREATH = 100;                  // ms: an answer that takes longer says so; the page breathes so often
const weights = unpackWeights(values.weights), tokenizer = new MaskingTokenizer(values.vocab);
const mind = new Mind(weights, config, tokenizer, "this page's model");
const known = values.words && new Set(values.words.flatMap(one => tokenizer.words(one)));
const {pictures} = values;

// images: each picture's tokens (1 + patches, width), [CLS] first; features: its [CLS] in the shared space
const [, rows, width] = values.tokens.shapes[0][1], {tokens} = unpackWeights(values.tokens);
const images = pictures.map((_, i) => matrix(rows, width, tokens.subarray(i * rows * width, (i + 1) * rows * width)));
const features = images.map(image => mind.model.feature(image, "image"));

let hits = [], shown = SHOWN, chosen = -1, word = -1, answer = null, pace = 0, typing = 0;

// What the model needs of a picture: its tokens, and their keys and values, of which a few pictures' are kept.
const looks = new Map();
function look(i) {
  if (looks.size > 100) looks.clear();
  if (!looks.has(i)) looks.set(i, {image: images[i], seen: mind.model.imageKeysValues(images[i])});
  return looks.get(i);
}

// A question in many steps. The page breathes between them, shows a sign where it takes long, and a newer question
// of the same kind ends an older one.
class Question {
  constructor(sign, area) { Object.assign(this, {sign, area, turn: 0}); }

  // each: called with 0 to steps - 1, about `pace` ms each  ->  false if a newer question has begun
  async run(steps, each) {
    const mine = ++this.turn, began = performance.now();
    let breath = began;
    const say = done => {
      this.sign.textContent = steps > 1 ? `Computing: ${done} of ${steps} …` : "Computing …";
      this.area.setAttribute("aria-busy", "true");
    };
    if (steps * pace > SLOW) {
      say(0);
      await new Promise(done => requestAnimationFrame(() => setTimeout(done)));            // the sign is painted
    }
    for (let i = 0; i < steps && this.turn === mine; i++) {
      each(i);
      const now = performance.now();
      if (now - breath < BREATH) continue;
      if (now - began > SLOW) say(i + 1);
      await new Promise(done => setTimeout(done));
      breath = performance.now();
    }
    if (this.turn !== mine) return false;
    this.sign.textContent = "";
    this.area.removeAttribute("aria-busy");
    return true;
  }
}
const searching = new Question($("search-busy"), $("results")), asking = new Question($("caption-busy"), $("answers"));

// search -------------------------------------------------------------------------------------------------------------

// -> {i, similarity, match, score} of each picture, best first, as `minalbef search` sorts them: the most similar by
// score, ITM's log-odds and similarity together, the others after them by similarity; null if a newer search began
async function search(sentence) {
  const feature = mind.model.feature(mind.read(mind.encode(sentence).tokens), "text");
  const found = features.map((one, i) => ({i, similarity: dot(one, feature)}));
  found.sort((a, b) => b.similarity - a.similarity);
  const best = found.slice(0, values.first);
  const finished = await searching.run(best.length, k => {
    const {odds, match} = mind.ask(look(best[k].i), sentence);
    const score = odds + values.weight * best[k].similarity / weights.temperature[0];
    Object.assign(best[k], {match, score});
  });
  return finished ? [...best.sort((a, b) => b.score - a.score), ...found.slice(values.first)] : null;
}

async function showSearch() {
  const sentence = $("sentence").value, {words} = tokenizer.encode(sentence, config.text_length);
  $("search-note").replaceChildren(...notes(sentence));
  if (!words.length) {
    await searching.run(0);                      // ends a search that goes on
    hits = pictures.map((_, i) => ({i}));
    $("found").textContent = `All ${pictures.length} by name, until you search.`;
  } else {
    const found = await search(sentence);
    if (!found) return;
    hits = found;
    const by = hits.length > values.first
      ? `The ${values.first} most similar have one; after them the others, by similarity.` : "";
    $("caption").value = sentence;
    if (chosen >= 0) ask();
    $("found").textContent = `Sorted by score: the log-odds of match + ${values.weight} × similarity / `
      + `${weights.temperature[0].toFixed(3)}, the temperature. ${by}`;
  }
  shown = SHOWN;
  showResults();
}

// A button for a picture, with lines of text below it.
const pictureButton = (i, ...lines) => make("li", {}, make("button", {
  type: "button", "data-picture": String(i), "aria-pressed": String(i === chosen), title: pictures[i].name,
  onclick: () => choose(i)},
  make("img", {src: source(i), alt: "", width: pictures[i].width, height: pictures[i].height}),
  ...lines.map(line => make("span", {}, line)), make("span", {className: "name"}, pictures[i].name)));
const source = i => `data:image/webp;base64,${pictures[i].data}`;

function showResults(focus = false) {
  const before = $("results").children.length;
  $("results").replaceChildren(...hits.slice(0, shown).map(({i, similarity, match, score}) => pictureButton(i,
    ...score === undefined ? [] : [`score ${score.toFixed(2)}`, `match ${share(match)}`],
    ...similarity === undefined ? [] : [`similarity ${similarity.toFixed(2)}`])));
  const rest = hits.length - shown;
  $("more").hidden = rest <= 0;
  $("more").textContent = `Show ${Math.min(SHOWN, rest)} more of ${rest}`;
  if (focus) $("results").children[before]?.firstChild.focus();
}

// What to say of a sentence: words that no training caption says, and an end that the model doesn't read.
function notes(sentence) {
  const {words, places} = tokenizer.encode(sentence, config.text_length), found = [];
  const strange = known ? [...new Set(words.filter(said => said !== "[mask]" && !known.has(said)))] : [];
  if (strange.length) {
    found.push(make("p", {}, `No training caption says ${strange.map(one => `“${one}”`).join(", ")}: the model sees `
      + "pieces that mean nothing to it, and still answers."));
  }
  const cut = words.findIndex((said, i) => places[i].length < tokenizer.wordIds(said).length);
  const most = cut < 0 && sentence.split(/\s+/).filter(Boolean).length > 30 ? 30 : cut;
  if (most >= 0) found.push(make("p", {}, `It is too long: the model reads the first ${most} words.`));
  return found;
}

// one picture --------------------------------------------------------------------------------------------------------

function choose(i) {
  chosen = i;
  $("chosen-title").textContent = pictures[i].name;
  $("nothing").hidden = true;
  $("chosen").hidden = false;
  for (const button of $("results").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.picture === String(i)));
  }
  const near = features.map((feature, k) => [k, dot(feature, features[i])]).filter(([k]) => k !== i);
  near.sort((a, b) => b[1] - a[1]);
  $("similar").replaceChildren(...near.slice(0, SIMILAR).map(([k, cosine]) =>
    pictureButton(k, `similarity ${cosine.toFixed(2)}`)));
  $("similar").previousElementSibling.hidden = !near.length;
  ask();
  $("chosen").parentElement.scrollTop = 0;       // where it stands beside the results and scrolls by itself
  $("chosen-title").focus({preventScroll: true});
  if (matchMedia(NARROW).matches) $("chosen-title").scrollIntoView();
}

// Another picture or another sentence: no word is chosen yet.
function ask() {
  word = -1;
  typing = 0;
  showAnswer();
}

async function showAnswer() {
  const sentence = $("caption").value, i = chosen, {words, places} = tokenizer.encode(sentence, config.text_length);
  const masked = values.guesses ? words.flatMap((said, k) => said === "[mask]" ? [k] : []) : [];
  $("caption-note").replaceChildren(...notes(sentence));
  let asked = {}, guesses = [];
  const finished = await asking.run(words.length ? 1 : 0, () => {
    asked = mind.ask(look(i), sentence);
    guesses = masked.map(k => mind.guess(look(i), sentence, k)[0]).filter(Boolean);
  });
  if (!finished) return;
  answer = {i, words, places, ...asked};
  showNumbers();
  showWords();
  showGuesses(guesses);
  showPicture();
}

function showNumbers() {
  const asked = answer.odds !== undefined, says = answer.odds > 0 ? "yes" : "no";
  $("numbers").replaceChildren(...!asked ? [make("p", {className: "soft"}, "Type a sentence.")] : [
    make("div", {className: "number"}, `Match: ${says}`, bar(0, answer.match),
         make("b", {id: "match"}, share(answer.match))),
    make("div", {className: "number"}, "Similarity", cosineBar(answer.similarity, "itc"),
         make("b", {id: "similarity"}, answer.similarity.toFixed(3)))]);
  $("numbers-note").hidden = !asked;
  $("spoken").textContent = asked ? `Match ${says}, ${share(answer.match)}; similarity `
    + `${answer.similarity.toFixed(2)}.` : "";
}

function showWords() {
  const focus = [...$("words").children].indexOf(document.activeElement), {words} = answer;
  $("words").replaceChildren(...words.map((said, k) => make("button", {
    type: "button", "aria-pressed": String(k === word),
    className: !known || known.has(said) || said === "[mask]" ? "" : "strange",
    onclick: () => { word = k === word ? -1 : k; showWords(); showPicture(); }}, said === "[mask]" ? "[MASK]" : said)));
  $("words").children[focus]?.focus();
  $("looking").hidden = word < 0;
  $("mask").hidden = !values.guesses || words[word] === "[mask]";
}

function showGuesses(guesses) {
  $("guess-title").hidden = !guesses.length;
  $("guesses").replaceChildren(...guesses.map(({likely}) => make("div", {className: "guess"},
    ...likely.flatMap(([piece, p]) => [make("span", {}, piece), bar(0, p), make("span", {}, p.toFixed(2))]))));
}

// The weights of a word over the patches: the mean of a layer's heads, and of its pieces.
function lookOf(attention, places) {
  const found = new Float32Array(grid * grid), heads = attention[$("layer").selectedIndex];
  for (const head of heads) {
    for (const place of places) {
      head[place].slice(-grid * grid).forEach((value, k) => found[k] += value / heads.length / places.length);
    }
  }
  return found;
}

async function showPicture() {
  const asked = answer, {i, words, places, attention} = answer;
  const canvas = $("picture"), image = make("img", {src: source(i)});
  canvas.setAttribute("aria-busy", "true");
  await image.decode();
  if (answer !== asked) return;                  // what is asked now draws its own
  canvas.removeAttribute("aria-busy");
  const sides = [image.naturalWidth, image.naturalHeight], scale = SIDE / Math.max(...sides);
  const [across, down] = sides.map(length => Math.max(1, Math.round(length * scale)));
  Object.assign(canvas, {width: across, height: down});
  canvas.getContext("2d").drawImage(image, 0, 0, across, down);
  const lit = word >= 0 && places[word].length > 0;
  if (lit) drawVeil(canvas.getContext("2d"), lookOf(attention, places[word]), across, down);
  canvas.setAttribute("aria-label", pictures[i].name + (lit ? `, lit where “${words[word]}” looks` : ""));
  if (lit) {
    $("look-note").textContent = `Cross-attention of “${words[word]}”, mean of the layer’s heads: bright is much, and `
      + "the most has a ring.";
  } else {
    $("look-note").textContent = words.length ? "Choose a word, and the image shows its cross-attention." : "";
  }
}

// controls -----------------------------------------------------------------------------------------------------------

$("search").onsubmit = event => { event.preventDefault(); showSearch(); };
$("more").onclick = () => { shown += SHOWN; showResults(true); };
$("caption").oninput = () => { clearTimeout(typing); typing = setTimeout(ask, pace > SLOW ? 500 : 50); };
$("layer").onchange = showPicture;
$("back").onclick = () => ($("results").querySelector("[aria-pressed=true]") ?? $("sentence")).focus();
$("mask").onclick = () => {
  const words = [...answer.words];
  words[word] = "[MASK]";
  $("caption").value = words.join(" ").replaceAll("[mask]", "[MASK]");
  ask();
  $("caption").focus();
};

for (let i = 0; i < config.fusion_depth; i++) $("layer").append(make("option", {}, String(i + 1)));
$("layer").selectedIndex = Math.min(1, config.fusion_depth - 1);
$("about-pictures").textContent = `${pictures.length} ${pictures.length === 1 ? "image" : "images"} `
  + `from the folder “${values.folder}”`;
$("about").textContent = `Preset ${config.name}: weights in fp32, the images’ tokens in fp16. `
  + (known ? `Its training captions say ${known.size.toLocaleString("en")} words. ` : "")
  + (values.unread ? `${values.unread} of the folder’s images could not be read. ` : "")
  + "What you see are small copies; the model read the originals.";
for (let i = 0; i < 2; i++) {                    // the second time the browser has compiled the loops
  const began = performance.now();
  mind.ask(look(0), "a picture of a thing");
  pace = performance.now() - began;
}
showSearch();
window.explorer = {mind, tokenizer, look, search, lookOf, features};
document.documentElement.dataset.ready = "true";                              // tests wait for it
