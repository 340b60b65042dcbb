// Several pictures by several sentences: what ITC and ITM say of each pair, and what ITC's softmax
// makes of a row or a column at a temperature.
"use strict";

const MOST_KEPT = 5;
const learntTemperature = () => inside.model.weights.temperature[0];
const kept = [];                                 // pictures beside the one of now

const sentencesOf = () => $("sentences").value.split("\n")
  .filter(line => tokenizer.words(line).length).slice(0, 12);

function keepPicture(pixels) {
  const canvas = pixelCanvas(pixels);
  kept.push({canvas, pixels, asked: new Map()});           // what each model was asked about it
  if (kept.length > MOST_KEPT) kept.shift();
}

function askKept({pixels, asked}, sentence) {
  const {name} = inside;                         // which says the training step, too
  if (!asked.has(name)) asked.set(name, {looked: inside.see(pixels), answers: new Map()});
  const {looked, answers} = asked.get(name);
  if (!answers.has(sentence)) answers.set(sentence, inside.ask(looked, sentence));
  return answers.get(sentence);
}

// now: the answers of the model inside for the current picture, one a sentence
function showMatrix(sentences, now) {
  const columns = [now, ...kept.map(one => sentences.map(sentence => askKept(one, sentence)))];
  const kind = $("cell").value, temperature = 10 ** Number($("temperature").value);
  $("temperature").disabled = !/among/.test(kind);
  $("temperature-said").textContent = `${temperature.toFixed(3)} (learnt: ${learntTemperature().toFixed(3)})`;
  const cosines = columns.map(column => column.map(one => one.similarity));
  const softened = list => softmax(Float32Array.from(list, value => value / temperature));
  const rows = sentences.map((_, i) => softened(cosines.map(column => column[i])));
  const shares = cosines.map(softened);
  const cell = {
    match: (i, k) => columns[k][i].match, similarity: (i, k) => cosines[k][i],
    "among sentences": (i, k) => shares[k][i], "among pictures": (i, k) => rows[i][k]}[kind];
  $("matrix").replaceChildren(make("table", {},
    make("tr", {}, make("th", {scope: "col"}, "sentence"),
      ...columns.map((_, k) => pictureHead(k))),
    ...sentences.map((sentence, i) => make("tr", {}, make("th", {scope: "row"}, sentence),
      ...columns.map((_, k) => shade(cell(i, k)))))));
}

function pictureHead(k) {
  const canvas = make("canvas", {width: side, height: side});
  canvas.getContext("2d").drawImage(k ? kept[k - 1].canvas : pixelCanvas(answer.pixels), 0, 0);
  const remove = make("button", {"aria-label": `Remove image ${k + 1}`, onclick: () => {
    kept.splice(k - 1, 1);
    changed();
  }}, "×");
  return make("th", {scope: "col"}, canvas, k ? remove : "current");
}

function shade(value) {
  const cell = make("td", {}, value.toFixed(2));
  cell.style.setProperty("--share", clamp(value, 0, 1));
  return cell;
}

for (const id of ["cell", "temperature"]) $(id).oninput = () => changed();
$("keep").onclick = () => {
  keepPicture(answer.pixels);
  changed();
};
