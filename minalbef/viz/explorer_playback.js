// Training played back: the same scene and sentence, answered by the first model as it was at some
// steps of its training. Its checkpoints are in a script beside this page, which playback.py wrote
// and which the page loads when its reader asks for it.
"use strict";

const {training} = values;                       // {file, digest, bytes, steps}; null without them
const END = training?.steps.at(-1) ?? 0;         // the last step, whose weights the page itself has
const checkpoints = new Map();                   // by step, the model as it was; empty until loaded
let shownStep = END;
let loading = null;                              // a promise
let receiveTraining = null;                      // the script calls it with what it holds
let played = null;                               // the last question, asked of every checkpoint

const thousands = number => number.toLocaleString("en");
const nameAt = step => step === END ? values.name : `${values.name}, step\u00a0${thousands(step)}`;

// "570" -> 570, or null for a step that this page hasn't
const stepOf = said => training?.steps.find(one => String(one) === said) ?? null;

// to load the checkpoints -------------------------------------------------------------------------

function loadScript() {
  return new Promise((done, fail) => {
    receiveTraining = done;                      // what comes after it changes nothing
    const lack = () => fail(new Misfit(`${training.file} isn't beside this page, or is damaged; `
      + "copy it again"));
    document.head.append(make("script", {src: training.file, onload: lack, onerror: lack}));
  });
}

// The differences are added up from the end on, to whole multiples of `grid`: see playback.py.
async function readCheckpoints() {
  const {digest, grid, differences} = await loadScript(), {shapes} = values.weights;
  refuse(digest !== training.digest, `${training.file} belongs to another page; copy its own`);
  const found = [{...trained}];
  const flat = shapes.flatMap(([name]) => [...trained[name]]);
  const numbers = Int32Array.from(flat, value => Math.floor(value / grid + 0.5));
  for (const data of differences.reverse()) {
    const changes = await inflateNumbers(data);
    changes.forEach((one, i) => numbers[i] += one >> 1 ^ -(one & 1));   // the lowest bit: the sign
    found.unshift(splitWeights(shapes, Float32Array.from(numbers, one => one * grid)));
  }
  training.steps.forEach((step, i) =>
    checkpoints.set(step, new Mind(found[i], config, tokenizer, nameAt(step))));
}

// -> "" once the checkpoints are here, else why they aren't
async function loadTraining() {
  const [button, said] = [$("load-training"), $("playback-said")];
  let problem = "";
  button.disabled = true;
  said.textContent = "Loading the checkpoints …";
  try {
    await (loading ??= readCheckpoints());
    said.textContent = "Drag “Training step”, below the image and its answers, or press its "
      + "arrow keys.";
  } catch (error) {
    if (!(error instanceof Misfit)) throw error;
    said.textContent = problem = `The checkpoints can't be loaded: ${error.message}.`;
    loading = null;                              // one may try again
  }
  button.disabled = false;
  button.hidden = !problem;
  $("step-line").hidden = Boolean(problem);
  if (!problem) drawTraining();
  return problem;
}

// the step that answers ---------------------------------------------------------------------------

// The first model's weights become those of a step, wherever they are used.
function setStep(step) {
  if (step === shownStep) return;
  shownStep = step;
  keepLearnt(() => Object.assign(trained, checkpoints.get(step).model.weights));
  mind.name = nameAt(step);
  mind.forget();
  changedMind.forget();
  showInside();
  markStep();
}

function markStep() {
  const said = `${thousands(shownStep)} of ${thousands(END)}`;
  $("step").value = training.steps.indexOf(shownStep);
  $("step").setAttribute("aria-valuetext", said);
  $("step-said").textContent = said;
}

function beginPlayback() {
  $("playback").hidden = !training;
  if (!training) return;
  $("load-training").textContent = `Load ${training.steps.length} checkpoints `
    + `(${(training.bytes / 1e6).toFixed(1)} MB)`;
  $("step").max = training.steps.length - 1;
  markStep();
}

$("load-training").onclick = async () => {
  if (await loadTraining() === "") $("step").focus();
};
$("step").oninput = () => {
  setInside(mind);                               // the other model's training isn't here
  setStep(training.steps[$("step").value]);
  changed("step");
};

// the curve through training ----------------------------------------------------------------------

const playedQuestion = () => `${sceneAddress()} ${scene.photo ?? ""}`;

// Asks every checkpoint what is asked now, when all is quiet.
async function drawTraining() {
  const asked = playedQuestion(), sentences = [...new Set([text(), opposite(text())])];
  if (!checkpoints.size || played?.asked === asked || !tokenizer.words(text()).length) return;
  const mine = played = {asked, sentences, lines: sentences.map(() => []), isDone: false};
  const pixels = painter.paint(scene);
  for (const [step, one] of checkpoints) {
    const looked = one.see(pixels), where = step / END;
    sentences.forEach((sentence, k) => mine.lines[k].push({where, ...one.ask(looked, sentence)}));
    await new Promise(done => setTimeout(done));           // let the page breathe
    if (played !== mine) return;                           // the question has changed
  }
  mine.isDone = true;
  showTraining();
}

// The dotted line follows the step; a curve of another question is pale until this one's is there.
function showTraining() {
  if (!played) return;
  const isFresh = played.isDone && played.asked === playedQuestion();
  $("training-curve").setAttribute("aria-busy", String(!isFresh));
  if (!isFresh) return;
  const {lines, sentences} = played, at = shownStep / END, place = "training step";
  const tick = value => thousands(Math.round(value * END));
  $("training-curve").replaceChildren(
    ...charts({name: values.name, lines, sentences, place, at, tick}));
}
