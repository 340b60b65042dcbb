// The page: its state and its controls. What the reader does changes the scene, the sentence or the chosen word;
// `changed()` then asks the model before the next frame and shows its answers.
"use strict";

const pick = (name, i) => names.includes(name) ? name : names[i % names.length];
const styleOf = (name, style) => vendors[style].missing.includes(name)
  ? styles.find(other => !vendors[other].missing.includes(name)) : style;
const thing = (name, x, y, size = 0.3, angle = 0, style = styles.includes("noto") ? "noto" : styles[0]) =>
  ({name, x, y, size, angle, style: styleOf(name, style)});
const [ONE, OTHER, THIRD] = [pick("apple", 0), pick("cat", 1), pick("rocket", 2)];
const article = name => objects.find(one => one.name === name).article;
const a = name => `${article(name)} ${name}`, plural = name => objects.find(one => one.name === name).plural;

const scene = {objects: [thing(ONE, 0.25, 0.5), thing(OTHER, 0.75, 0.5)], background: "yellow", photo: null};
let chosen = 0, word = -1, layer = Math.min(1, config.fusion_depth - 1), head = 0, which = 0, painter, sheets = {};
let photo = null, answer = null, answers = [], occlusion = null, waiting = 0, idle = 0, times = [];
const SLOW = 300;                                // ms: an answer that takes longer is announced
let pace = 0;                                    // ms of the last answer
const text = () => $("text").value;
const veil = () => document.querySelector("[name=veil]:checked").value;

const round = value => Math.round(value * 1e4) / 1e4;   // what an address holds

// Something changed: answer before the next frame is shown, the slow questions when all is quiet.
// kind: see `remember`
function changed(kind) {
  remember(kind);
  occlusion = null;
  waiting ||= requestAnimationFrame(() => {
    if (pace < SLOW) return update();
    showBusy();
    setTimeout(update);                          // after the sign has been painted
  });
  clearTimeout(idle);
  idle = setTimeout(() => {
    say();
    if (!drag) lastKind = "";
    if (veil() === "occlusion") occlude();
    drawTraining();
    history.replaceState(null, "", `#${shown.said}`);    // browsers refuse it for every frame
  }, 500);
}

// The picture follows the pointer at once; the answer takes its time.
function showBusy() {
  $("time").textContent = "Computing …";
  $("time").classList.add("busy");
  $("numbers").setAttribute("aria-busy", "true");
  showScene();
}

function update() {
  waiting = 0;
  const began = performance.now(), pixels = painter.paint(scene);
  const {words} = tokenizer.encode(text(), config.text_length);
  if (word >= words.length) word = -1;
  askAll(one => {
    const looked = one.look(pixels);
    return {mind: one, looked, sentence: text(), ...words.length ? one.ask(looked, text()) : {}};
  });
  answer = {pixels, words, ...answers[0]};
  showNumbers();
  showWords(words);
  showGuesses();
  showAttention();
  showHeads();
  showFlow();
  showTable();
  showScene();
  showTraining();
  pace = performance.now() - began;
  times.push(pace);
  $("time").classList.remove("busy");
  $("numbers").removeAttribute("aria-busy");
  $("time").textContent = `Answered in ${times.at(-1).toFixed(0)} ms.`;
}

// controls -----------------------------------------------------------------------------------------------------------

for (const name of names) $("kind").append(make("option", {}, name));
for (const colour of Object.keys(values.colours)) $("background").append(make("option", {}, colour));
for (const name of ["x", "y", "size", "angle"]) $(name).oninput = () => alter({[name]: Number($(name).value)});
for (const finish of ["", ...values.finishes]) {
  $("finish").append(make("option", {value: finish}, finish.slice(1) || "plain"));
}
$("finish").parentElement.hidden = !values.finishes.length;
$("style").onchange = $("finish").onchange = () => alter({style: $("style").value + $("finish").value});
$("background").onchange = () => { scene.background = $("background").value; changed(); };
$("remove").onclick = remove;
$("add").onclick = () => {
  const taken = (x, y) => Math.min(1, ...scene.objects.map(one => Math.hypot(x - one.x, y - one.y)));
  const places = [0.2, 0.5, 0.8].flatMap(y => [0.2, 0.5, 0.8].map(x => [x, y]));
  const [x, y] = places.reduce((best, place) => taken(...place) > taken(...best) ? place : best);   // the most room
  chosen = scene.objects.push(thing($("kind").value, x, y)) - 1;
  changed();
};
for (const one of document.querySelectorAll("[name=veil], #pixels")) one.onchange = () => changed();
if (values.start) $("beside").append(make("option", {value: "start"}, "the warm start"));
function setBeside(name) {
  $("beside").value = name;
  $("start-note").hidden = name !== "start";
  $("own-said").hidden = name === "start";
  [which, layer, head] = [0, Math.min(1, config.fusion_depth - 1), 0];
  pace = name ? SLOW : pace;                     // its time isn't known yet
}
$("beside").onchange = () => {
  setBeside($("beside").value);
  if ($("beside").value !== "heads") setSwitches(new Map());   // nothing is switched unseen
  changed();
};
$("own").onchange = () => { if ($("own").files.length) useRun([...$("own").files]); $("own").value = ""; };
$("sentences").oninput = () => changed();

// A file -> the picture that the model reads, resized as PIL does it, and the one that is shown.
async function usePhoto(file) {
  let found;
  $("photo-said").textContent = "";
  try {
    found = await createImageBitmap(file);
  } catch {
    $("photo-said").textContent = `${file.name || "the file"} is no image that this browser `
      + "can read.";
    return;
  }
  const scale = Math.min(1, 1024 / Math.max(found.width, found.height));         // a camera's would take seconds
  const [width, height] = [found.width, found.height].map(length => Math.max(1, Math.round(length * scale)));
  const canvas = make("canvas", {width, height}), context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";                                               // behind what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(found, 0, 0, width, height);
  const small = resize(context.getImageData(0, 0, width, height), side, side).data;
  scene.photo = Uint8ClampedArray.from({length: 3 * side * side}, (_, i) => small[4 * Math.floor(i / 3) + i % 3]);
  photo = canvas;
  scene.objects = [];
  changed();
}
$("photo").onchange = () => { if ($("photo").files[0]) usePhoto($("photo").files[0]); $("photo").value = ""; };
$("photo-off").onclick = () => { scene.photo = photo = null; changed(); };
document.addEventListener("dragover", event => event.preventDefault());
document.addEventListener("drop", event => {
  event.preventDefault();
  const files = [...event.dataTransfer.files];
  if (files.some(file => /\.(safetensors|json)$/.test(file.name))) useRun(files);
  else if (files.length) usePhoto(files[0]);
});

// to begin -----------------------------------------------------------------------------------------------------------

async function begin() {
  const pixels = {};
  if (!window.DecompressionStream) {
    $("time").textContent = "This browser is too old to read this page's models.";
    return;
  }
  await readWeights();
  beginPair();
  beginPlayback();
  for (const style of styles) {
    const picture = make("img", {src: `data:image/webp;base64,${values.sheets[style]}`});
    await picture.decode();
    const {width, height} = picture, sheet = name => sheets[name] = make("canvas", {width, height});
    const context = sheet(style).getContext("2d");
    context.drawImage(picture, 0, 0);
    pixels[style] = context.getImageData(0, 0, width, height);
    for (const [finish, f] of [["flat", flat], ["outlined", (_, opacity, c) => INK[c]]]) {     // ink alone, behind
      const finished = recolour(new ImageData(pixels[style].data.slice(), width, height), f);
      sheet(`${style}+${finish}`).getContext("2d").putImageData(finished, 0, 0);
    }
    $("licences").append(`${vendors[style].attribution} (${vendors[style].licence}). `);
  }
  painter = new Painter(pixels, values.emoji, values.colours, side);
  $("known").textContent = `${known.size} words, ${names.length} kinds of emoji`;
  const count = Object.values(trained).reduce((sum, one) => sum + one.length, 0);
  $("about").textContent = `Preset ${config.name}: ${count.toLocaleString("en")} weights of ${values.bits} `
    + "bits, with a scale a row. That moves the match of tiny and of tiny-paper by less than 0.002, and their similarity "
    + "by less than 0.001 (200 test scenes, against fp32). Layers and heads are counted from 1 here, and from 0 in the "
    + "package's code."
    + (values.alone ? ` One model answers here: ${values.alone}.` : "");
  $("patches").textContent = `${grid} × ${grid}`;
  $("temperature").value = Math.log10(learntTemperature());
  $("kind").value = THIRD;
  $("text").value = `${a(ONE)} left of ${a(OTHER)}`;
  const others = [`${a(OTHER)} left of ${a(ONE)}`, `a big ${ONE} and a small ${OTHER}`, `two ${plural(OTHER)}`];
  $("sentences").value = [text(), opposite(text()), ...others, a(THIRD)].join("\n");
  keepPicture(painter.paint({...scene, objects: [thing(ONE, 0.75, 0.5), thing(OTHER, 0.25, 0.5)]}));
  keepPicture(painter.paint({...scene, objects: [0.25, 0.75].map(x => thing(OTHER, x, 0.5))}));
  remember();
  await followAddress();
  mind.see(painter.paint(scene));                // so that the browser has compiled the loops when the reader begins
  update();
  say();
  beginTour();
  window.addEventListener("hashchange", followAddress);
  // what is focused on a phone must not end up under what stays at the top
  new ResizeObserver(() => {
    const above = matchMedia("(max-width: 700px) and (min-height: 600px)").matches;
    const height = above ? $("view").offsetHeight + 8 : 0;
    document.documentElement.style.scrollPaddingTop = `${height}px`;
  }).observe($("view"));
  window.explorer = {mind, pair, setInside, startMind, scene, painter, tokenizer, times, changed, update, occlude, minds, drawCurve,
                     changedMind, switches, tryHeads, checkpoints, played: () => played};
  document.documentElement.dataset.ready = "true";                            // tests wait for it
}
