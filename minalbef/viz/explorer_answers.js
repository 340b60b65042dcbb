// The answers in the panels: words, guesses, cross-attention, occlusion, the table of sentences.
"use strict";

function showWords(words) {
  const focus = [...$("words").children].indexOf(document.activeElement);
  glance = -1;                                   // what it pointed to is replaced
  $("words").replaceChildren(...words.map((said, i) => make("button", {
    className: known.has(said) ? "" : "strange", "aria-pressed": String(i === word),
    title: known.has(said) ? "mask this word" : "no training caption says this word",
    onclick: () => { word = i === word ? -1 : i; changed(); },
    onpointerenter: event => { if (event.pointerType === "mouse") lightPatches(i); },
    onpointerleave: () => lightPatches(-1),
    onfocus: event => { if (event.target.matches(":focus-visible")) lightPatches(i); },
    onblur: () => lightPatches(-1)}, said)));
  $("words").children[focus]?.focus();
  const strange = [...new Set(words.filter(said => !known.has(said)))];
  $("unknown").textContent = strange.length ? `No training caption says ${strange.map(one => `“${one}”`).join(", ")}: `
    + "the model sees pieces that mean nothing to it, and still answers." : "";
}

const nameOf = mind => make("p", {className: "soft whole"}, mind.name);

function showGuesses() {
  const asked = word >= 0;
  for (const one of answers) one.guesses = asked ? one.mind.guess(one.looked, text(), word) : null;
  $("guess-title").textContent = asked ? `Guesses for the masked “${answer.words[word]}”` : "Guesses";
  const show = ({truth, likely}) => make("div", {className: "guess"}, ...likely.flatMap(([piece, p]) => [
    make("span", {className: piece === truth ? "true" : ""}, piece), bar(0, p), make("span", {}, p.toFixed(2))]));
  $("guesses").replaceChildren(...asked
    ? answers.flatMap(({mind, guesses}) => [nameOf(mind), ...guesses.map(show)])
    : [make("p", {className: "soft"}, "Choose a word of the sentence to mask it: the model "
      + "guesses which word stood there.")]);
}

// A word's weights over the patches; of several pieces the mean. Without a word those of [CLS].
// sentence: the one that was answered, which may no longer be the one in the box
function lookOf({mind, attention, sentence}, layer, head, word = asked()) {
  const places = mind.encode(sentence).places[word] ?? [0];
  const found = new Float32Array(grid * grid);
  for (const place of places) {
    attention[layer][head][place].slice(-grid * grid).forEach((value, i) => found[i] += value / places.length);
  }
  return found;
}

function showAttention() {
  const of = asked() < 0 ? "[CLS]" : `“${answer.words[asked()]}”`;
  $("attention-title").textContent = `Cross-attention of ${of}`;
  const sides = answer.attention ? answers : [];
  const maps = sides.flatMap(({attention}, i) => attention.flatMap((heads, j) => heads.map((_, k) => [i, j, k])));
  makeMaps(sides, maps);
  $("attention").querySelectorAll("button").forEach((button, n) => {
    const [i, ...at] = maps[n], {mind} = sides[i], name = mapHead(at);
    const heat = lookOf(sides[i], ...at), state = switches.get(name);
    drawMap(button.firstChild, heat);
    const said = mind === changedMind && {off: "switched off", mirror: "from the mirror image"}[state];
    button.classList.toggle("unused", Boolean(said));      // its weights weigh nothing
    button.lastChild.textContent = said || objectsUnder(heat);
    if (canSwitch(mind)) button.setAttribute("aria-pressed", String(switches.has(name)));
    else button.setAttribute("aria-disabled", "true");
  });
}

const mapHead = ([layer, head]) => `cross_${layer + 1}_${head + 1}`;
const canSwitch = mind => [inside, changedMind].includes(mind);

// A side of maps for each model. One that stays is left alone, with the focus that it may have; where a side with the
// focus goes, the same map of the first takes it before.
function makeMaps(sides, maps) {
  const box = $("attention"), key = ({mind, attention}) => [mind.name, attention.length, attention[0].length].join();
  const gone = [...box.children].slice(Math.max(1, sides.length)).find(one => one.contains(document.activeElement));
  if (gone) {
    const at = [...gone.querySelectorAll("button")].indexOf(document.activeElement);
    box.firstChild.querySelectorAll("button")[at]?.focus();
  }
  sides.forEach((side, i) => {
    const old = box.children[i];
    if (old?.dataset.key === key(side)) return;
    const made = makeSide(side, maps.filter(one => one[0] === i));
    made.dataset.key = key(side);
    if (old) old.replaceWith(made);
    else box.append(made);
  });
  while (box.children.length > sides.length) box.lastChild.remove();
  const listed = maps.map(([i, j, k]) => [`${i}_${j}_${k}`,
    `${sides[1] ? `${sides[i].mind.name}, ` : ""}layer ${j + 1}, head ${k + 1}`]);
  if (box.dataset.listed !== listed.join()) fill($("veil-map"), listed);
  box.dataset.listed = listed.join();
  $("veil-map").value = [which, layer, head].join("_");
}

function makeSide({mind, attention}, maps) {
  const side = make("div", {className: "maps"}, nameOf(mind), ...maps.map(one => {
    const button = make("button", {onclick: () => canSwitch(mind) && choose([mapHead(one.slice(1))])},
      make("canvas", {width: 192, height: 192}), `layer\u00a0${one[1] + 1}, head\u00a0${one[2] + 1}`, make("small"));
    lightFrom(button, one);
    return button;
  }));
  side.style.setProperty("--heads", attention[0].length);
  return side;
}

$("veil-map").onchange = () => {
  [which, layer, head] = $("veil-map").value.split("_").map(Number);
  document.querySelector("[name=veil][value=attention]").checked = true;
  changed();
};

// What a map shows, in words: the two objects with the largest shares of its weight, or, without
// objects, its heaviest patch.
function objectsUnder(heat) {
  const owner = new Array(side * side).fill(null), shares = new Map();
  for (const one of scene.objects) {
    const {left, top, pixels} = painter.square(one);
    for (let y = top; y < top + pixels; y++) {
      owner.fill(one.name, y * side + left, y * side + left + pixels);
    }
  }
  owner.forEach((name, i) => {
    const patch = Math.floor(i / side / config.patch_size) * grid
      + Math.floor(i % side / config.patch_size);
    if (name) shares.set(name, (shares.get(name) ?? 0) + heat[patch] / config.patch_size ** 2);
  });
  const most = [...shares].sort((one, other) => other[1] - one[1]).slice(0, 2);
  if (most.length) return most.map(([name, part]) => `${percent(part)} ${name}`).join(", ");
  const patch = heat.indexOf(Math.max(...heat));
  return `${percent(heat[patch])} row ${Math.floor(patch / grid) + 1}, column ${patch % grid + 1}`;
}
const percent = part => `${Math.round(100 * part)}%`;

function drawMap(canvas, heat) {
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(pixelCanvas(answer.pixels), 0, 0, canvas.width, canvas.height);
  drawVeil(context, heat, canvas.width);
}

// Each patch blanked in turn, with the background's colour or a photo's mean: how much does the match change?
async function occlude() {
  if (!answer?.words.length) return;
  const before = answers, mine = occlusion = {changes: before.map(() => new Float32Array(grid * grid)), done: false};
  const asked = text(), {pixels} = answer, patch = config.patch_size;
  const mean = [0, 1, 2].map(c => pixels.reduce((sum, value, i) => i % 3 === c ? sum + value : sum, 0) / (side * side));
  const blank = scene.photo ? mean : values.colours[scene.background], after = before.map(() => []);
  for (let i = 0; i < grid * grid; i++) {
    const changed = pixels.slice();
    for (let k = 0; k < patch * patch; k++) {
      const [x, y] = [i % grid * patch + k % patch, Math.floor(i / grid) * patch + Math.floor(k / patch)];
      changed.set(blank, 3 * (y * side + x));
    }
    before.forEach(({mind, odds}, k) => {
      after[k].push(mind.ask(mind.see(changed), asked).odds);
      mine.changes[k][i] = Math.abs(after[k][i] - odds);
    });
    await new Promise(done => setTimeout(done));                                // let the page breathe
    if (occlusion !== mine) return;                                             // the question has changed
  }
  mine.done = true;
  $("occlusion").replaceChildren(...before.map(({mind, odds}, k) => {
    const heat = mine.changes[k], most = heat.indexOf(Math.max(...heat));
    const canvas = make("canvas", {width: 96, height: 96});
    drawMap(canvas, heat);
    return make("span", {}, ...before[1] ? [canvas, `${mind.name}: `] : [], `Blanking the patch in row `
      + `${Math.floor(most / grid) + 1}, column ${most % grid + 1} changes the match most: from `
      + `${share(sigmoid(odds))} to ${share(sigmoid(after[k][most]))}.`);
  }));
  showScene();
}

function showTable() {
  const sentences = sentencesOf();
  const sides = answers.map(({mind, looked}) => sentences.map(sentence => mind.ask(looked, sentence)));
  const cell = (side, i, kind, said) => make("td", {
    className: `value ${side[i][kind] === Math.max(...side.map(one => one[kind])) ? "best" : ""}`}, said);
  const line = (i, k, first) => {
    const one = sides[k][i], kind = k ? "other" : "";
    return make("tr", {}, make("td", {className: k ? "soft" : ""}, first), cell(sides[k], i, "match", share(one.match)),
                make("td", {}, bar(0, one.match, kind)), cell(sides[k], i, "similarity", one.similarity.toFixed(2)),
                make("td", {}, cosineBar(one.similarity, kind || "itc")));
  };
  const titles = ["sentence", "match (ITM)", "0 to 1", "similarity (ITC)", "−1 to 1"]
    .map(title => make("th", {scope: "col"}, title));
  $("table").replaceChildren(make("table", {}, make("tr", {}, ...titles), ...sentences.flatMap((sentence, i) =>
    sides.map((_, k) => line(i, k, k ? answers[k].mind.name : sentence)))));
  showMatrix(sentences, sides[0]);
}
