// The scene, the sentence, the model inside and its switched heads in the page's address, so that a link shows what
// its sender saw; the way back over the last changes; and scenes drawn at random.
"use strict";

const LONGEST = 4000;                            // characters of an address that the page reads

// "sentence=a+cat&background=blue&object=cat_0.5_0.5_0.3_0_noto": name, x, y, size, angle, style
function sceneAddress() {
  const parts = new URLSearchParams({sentence: text(), background: scene.background});
  for (const {name, x, y, size, angle, style} of scene.objects) {
    parts.append("object", [name, x, y, size, angle, style].join("_"));
  }
  if (scene.photo) parts.append("picture", "own");
  return parts;
}

// The scene's, which model of the pair the panels show, the training step, and which heads are
// switched.
function address() {
  const parts = sceneAddress();
  if (inside !== mind) parts.append("model", inside.name);
  if (shownStep !== END) parts.append("step", shownStep);
  writeSwitches(parts);
  return parts.toString();
}

// -> {sentence, background, objects, switches, model: of the pair, step: of its training, own:
// whether its image was the sender's own, lacks: the model or the training step that it names and
// this page hasn't, or ""}, or null for what is no scene of this page
function readAddress(said) {
  const parts = new URLSearchParams(said), [sentence, background] = ["sentence", "background"]
    .map(name => parts.get(name));
  const objects = parts.getAll("object").map(readObject);
  if (sentence === null || !Object.hasOwn(values.colours, background)) return null;
  const switches = readSwitches(parts);
  if (objects.includes(null) || !switches) return null;
  const name = parts.get("model") ?? mind.name, model = pair.find(one => one.name === name);
  const step = parts.has("step") ? stepOf(parts.get("step")) : END;
  const lacks = !model ? "model" : step === null ? "training step" : "";
  return {sentence, background, objects, switches, model: model ?? mind, step: step ?? END,
          own: parts.has("picture"), lacks};
}

function readObject(said) {
  const [name, x, y, size, angle, style, ...more] = said.split("_"), one = {name, style};
  const limits = {x: [x, 0, 1], y: [y, 0, 1], size: [size, 0.1, 0.7], angle: [angle, -180, 180]};
  for (const [key, [number, low, high]] of Object.entries(limits)) {
    if (!/^-?\d+(\.\d+)?$/.test(number) || number < low || number > high) return null;
    one[key] = Number(number);
  }
  const [vendor, ...finish] = (style ?? "").split("+");
  const exists = names.includes(name) && styles.includes(vendor)
    && !vendors[vendor].missing.includes(name)
    && ["", ...values.finishes].includes(finish.map(one => `+${one}`).join(""));
  return exists && !more.length ? one : null;
}

// switches, model, step: without them the heads, the model inside, and its training step, stay as
// they are
function show({sentence, background, objects, switches, model, step}, pixels = null, picture = null) {
  Object.assign(scene, {objects, background, photo: pixels});
  photo = picture;
  chosen = Math.max(0, Math.min(chosen, objects.length - 1));
  word = -1;
  $("text").value = sentence;
  if (model) setInside(model);
  if (step) setStep(step);
  if (switches) setSwitches(switches);
}

// Shows the scene of the window's address. What is no scene leaves the page as it is.
async function followAddress() {
  const said = location.hash.slice(1);
  const found = said.length <= LONGEST ? readAddress(said) : null;
  let note = "";
  if (found && found.step !== END) {
    note = await loadTraining();
    if (note) found.step = END;
  }
  if (found) {
    show(found);
    changed();
  }
  if (said && !found) {
    note = "The address names no scene that this page can show, so it shows its own.";
  }
  if (found?.own) note = "The image behind was its sender's own; an address can't hold it.";
  if (found?.lacks) {
    note = `The address names a ${found.lacks} that this page hasn't; the panels show ${mind.name}.`;
  }
  $("address-note").textContent = note;
}

// the way back ------------------------------------------------------------------------------------

const past = [];
let shown = null, lastKind = "";

// After each change. kind: changes of one kind, as in a drag, are one step until all is quiet; ""
// is always a step of its own.
function remember(kind = "") {
  const now = {said: address(), pixels: scene.photo, photo};
  if (shown && (now.said !== shown.said || now.pixels !== shown.pixels)) {
    if (!kind || kind !== lastKind) past.push(shown);
    lastKind = kind;
    $("address-note").textContent = "";
  }
  shown = now;
  $("undo").disabled = !past.length;
}

function undo() {
  shown = past.pop();
  lastKind = "";
  show(readAddress(shown.said), shown.pixels, shown.photo);
  changed();
}

// scenes at random --------------------------------------------------------------------------------

const anyOf = list => list[Math.floor(Math.random() * list.length)];
const between = (low, high) => round(low + (high - low) * Math.random());

// One to three kinds of objects that don't overlap, and a sentence that is true of them.
function drawScene() {
  const found = [], count = Math.min(anyOf([1, 2, 2, 2, 3]), names.length);
  while (found.length < count) {
    const size = between(0.2, 0.36), [x, y] = [0, 1].map(() => between(size / 2, 1 - size / 2));
    const one = thing(anyOf(names), x, y, size, 0, anyOf(styles));
    const apart = other => other.name !== one.name
      && Math.max(Math.abs(x - other.x), Math.abs(y - other.y)) > (size + other.size) / 2;
    if (found.every(apart)) found.push(one);
  }
  const [first, ...others] = found.map(one => a(one.name));
  const sentence = found.length === 2 ? `${first} ${relation(...found)} ${others[0]}`
    : [first, ...others].join(", ").replace(/, ([^,]*)$/, " and $1");
  show({sentence, background: anyOf(Object.keys(values.colours)), objects: found});
  chosen = 0;
  changed();
}

// The relation that reads off more clearly.
function relation(one, other) {
  const [dx, dy] = [other.x - one.x, other.y - one.y];
  if (Math.abs(dx) > Math.abs(dy)) return dx > 0 ? "left of" : "right of";
  return dy > 0 ? "above" : "below";
}

$("undo").onclick = undo;
$("draw-scene").onclick = drawScene;
