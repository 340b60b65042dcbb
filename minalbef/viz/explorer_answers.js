// The answers on the page: numbers, words, guesses, cross-attention, occlusion, the table of sentences.
"use strict";

const bar = (from, to, kind = "") => {
  const fill = make("i");
  fill.style.cssText = `left:${100 * Math.min(from, to)}%;width:${100 * Math.abs(to - from)}%`;
  return make("div", {className: `bar ${kind}`}, fill);
};
const cosineBar = (value, kind) => {
  const found = bar(0.5, 0.5 + value / 2, kind);
  found.append(make("u"));
  return found;
};

function showNumbers(now, before) {
  $("brief").textContent = now ? `match ${share(now.match)}, similarity ${now.similarity.toFixed(2)}` : "";
  $("numbers").replaceChildren(...!now ? [make("p", {}, "Type a sentence.")] : [
    make("div", {className: "number"}, "Match (ITM)", bar(0, now.match), make("b", {id: "match"}, share(now.match)),
         ...before ? ["warm start", bar(0, before.match, "start"),
                      make("b", {id: "start-match"}, share(before.match))] : [],
         make("small", {}, "the probability that sentence and picture belong together, by fusion")),
    make("div", {className: "number"}, "Similarity (ITC)", cosineBar(now.similarity, "itc"),
         make("b", {id: "similarity"}, now.similarity.toFixed(3)),
         ...before ? ["warm start", cosineBar(before.similarity, "start"),
                      make("b", {id: "start-similarity"}, before.similarity.toFixed(3))] : [],
         make("small", {}, "the cosine of two vectors, one for the picture and one for the sentence, from −1 to 1"))]);
}

function showWords(words) {
  const focus = [...$("words").children].indexOf(document.activeElement);
  $("words").replaceChildren(...words.map((said, i) => make("button", {
    className: known.has(said) ? "" : "strange", "aria-pressed": String(i === word),
    title: known.has(said) ? "mask this word" : "no training caption says this word",
    onclick: () => { word = i === word ? -1 : i; changed(); }}, said)));
  $("words").children[focus]?.focus();
  const strange = [...new Set(words.filter(said => !known.has(said)))];
  $("unknown").textContent = strange.length ? `No training caption says ${strange.map(one => `“${one}”`).join(", ")}: `
    + "the model sees pieces that mean nothing to it, and still answers." : "";
}

function showGuesses(guesses) {
  $("guess-title").textContent = guesses ? `Guesses for the masked “${answer.words[word]}”` : "Guesses";
  $("guesses").replaceChildren(...guesses ? guesses.map(({truth, likely}) => make("div", {className: "guess"},
    ...likely.flatMap(([piece, p]) => [make("span", {className: piece === truth ? "true" : ""}, piece), bar(0, p),
                                       make("span", {}, p.toFixed(2))])))
    : [make("p", {className: "soft"}, "Choose a word above to mask it: the model guesses which word stood there.")]);
}

// The chosen word's weights over the patches; of several pieces the mean. Without a word those of [CLS].
function lookOf(layer, head) {
  const places = word < 0 ? [0] : tokenizer.encode(text(), config.text_length).places[word];
  const found = new Float32Array(grid * grid);
  for (const place of places) {
    answer.attention[layer][head][place].slice(-grid * grid).forEach((value, i) => found[i] += value / places.length);
  }
  return found;
}

function showAttention() {
  const of = word < 0 ? "[CLS] looks, from which ITM reads," : `“${answer.words[word]}” looks,`;
  $("attention-note").textContent = `Where ${of} by layer and head of fusion: bright is much, and the most has a ring. `
    + "Choose one to lay it over the picture.";
  if (!answer.attention) return $("attention").replaceChildren();
  const box = $("attention"), heads = config.text_heads;
  if (!box.children.length) {
    box.style.setProperty("--heads", heads);
    for (let i = 0; i < config.fusion_depth * heads; i++) {
      const choose = () => {
        [layer, head] = [Math.floor(i / heads), i % heads];
        document.querySelector("[name=veil][value=attention]").checked = true;
        showAttention();
        showScene();
      };
      box.append(make("button", {onclick: choose}, make("canvas", {width: 96, height: 96}),
                      `layer\u00a0${Math.floor(i / heads)}, head\u00a0${i % heads}`));
    }
  }
  [...box.children].forEach((button, i) => {
    const at = [Math.floor(i / heads), i % heads], context = button.firstChild.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(pixelCanvas(answer.pixels), 0, 0, 96, 96);
    drawVeil(context, lookOf(...at), 96);
    button.setAttribute("aria-pressed", String(veil() === "attention" && at[0] === layer && at[1] === head));
  });
}

// Dims what has little, so that it reads on any picture, and rings the most.
function drawVeil(context, heat, width) {
  const most = Math.max(...heat), cell = width / grid;
  heat.forEach((value, i) => {
    const [x, y] = [i % grid * cell, Math.floor(i / grid) * cell];
    context.fillStyle = `rgb(10 12 30 / ${0.85 * (1 - value / (most || 1))})`;
    context.fillRect(x, y, cell + 0.5, cell + 0.5);
    if (value !== most || !most) return;
    context.strokeStyle = "#E69F00";
    context.lineWidth = width / 80;
    context.strokeRect(x + width / 160, y + width / 160, cell - width / 80, cell - width / 80);
  });
}

// Each patch blanked in turn, with the background's colour or a photo's mean: how much does the match change?
async function occlude() {
  if (!answer?.words.length) return;
  const mine = occlusion = {change: new Float32Array(grid * grid), done: false};
  const asked = text(), {pixels, odds} = answer;
  const mean = [0, 1, 2].map(c => pixels.reduce((sum, value, i) => i % 3 === c ? sum + value : sum, 0) / (side * side));
  const blank = scene.photo ? mean : values.colours[scene.background], patch = config.patch_size;
  for (let i = 0; i < grid * grid; i++) {
    const changed = pixels.slice();
    for (let k = 0; k < patch * patch; k++) {
      const [x, y] = [i % grid * patch + k % patch, Math.floor(i / grid) * patch + Math.floor(k / patch)];
      changed.set(blank, 3 * (y * side + x));
    }
    mine.change[i] = mind.ask(mind.see(changed), asked).odds - odds;
    await new Promise(done => setTimeout(done));                                // let the page breathe
    if (occlusion !== mine) return;                                             // the question has changed
  }
  const most = mine.change.reduce((best, value, i) => Math.abs(value) > Math.abs(mine.change[best]) ? i : best, 0);
  mine.done = true;
  const [line, column] = [Math.floor(most / grid) + 1, most % grid + 1];
  $("occlusion").textContent = `Blanking the patch in row ${line}, column ${column} changes the match most: from `
    + `${share(sigmoid(odds))} to ${share(sigmoid(odds + mine.change[most]))}.`;
  showScene();
}

// For a screen reader, when all is quiet.
function say() {
  if (answer?.words.length) $("spoken").textContent =
    `Match ${share(answer.match)}, similarity ${answer.similarity.toFixed(2)}.`;
}

function showTable(looked) {
  const sentences = $("sentences").value.split("\n").filter(line => tokenizer.words(line).length).slice(0, 12);
  const found = sentences.map(sentence => ({sentence, ...mind.ask(looked, sentence)}));
  const best = kind => Math.max(...found.map(one => one[kind]));
  const cell = (one, kind, said) => make("td", {className: `value ${one[kind] === best(kind) ? "best" : ""}`}, said);
  $("table").replaceChildren(make("table", {}, make("tr", {}, ...["sentence", "match", "", "similarity", ""].map(
    title => make("th", {scope: "col"}, title))), ...found.map(one => make("tr", {}, make("td", {}, one.sentence),
    cell(one, "match", share(one.match)), make("td", {}, bar(0, one.match)),
    cell(one, "similarity", one.similarity.toFixed(2)), make("td", {}, cosineBar(one.similarity, "itc"))))));
}
