// Cross-attention under the pointer: a word lights its patches, a patch lights the words.
"use strict";

// The word under the pointer or with the focus, else -1: it comes before the masked one.
let glance = -1;
const asked = () => glance >= 0 && glance < (answer?.words.length ?? 0) ? glance : word;

function lightPatches(i) {
  if (i === glance) return;
  glance = i;
  if (!answer?.attention) return;
  showAttention();
  showScene();
}

// Averages a function of (layer, head) over the layers and heads of the page's model.
function meanOf(look) {
  const all = answers[0].attention.flatMap((heads, i) => heads.map((_, k) => look(i, k)));
  return all[0].map((_, n) => all.reduce((sum, one) => sum + one[n], 0) / all.length);
}
const isLit = () => veil() === "none" && glance >= 0 && glance === asked();
const meanLook = () => meanOf((i, k) => lookOf(answers[0], i, k));

// Marks each word by how much of its attention a patch gets, beside the word that gives it most; an
// even share of all patches marks none more than in part. at: [model, layer, head] of a map, or
// null for the average; patch: -1 for none, once what lit them is left
let litFrom = null;
function lightWords(patch, at = null) {
  const buttons = [...$("words").children];
  if (patch < 0 && at !== litFrom) return;       // keys light a map while the pointer leaves another
  litFrom = at;
  if (!answer?.attention || patch < 0) {
    for (const button of buttons) button.style.removeProperty("--lit");
    return;
  }
  const side = answers[at?.[0] ?? 0], {places} = side.mind.encode(side.sentence);
  const look = n => at ? lookOf(side, at[1], at[2], n) : meanOf((i, k) => lookOf(side, i, k, n));
  const looks = places.slice(0, buttons.length).map((_, n) => look(n));
  const most = Math.max(2 / grid ** 2, ...looks.map(heat => heat[patch]));
  looks.forEach((heat, n) => buttons[n].style.setProperty("--lit", round(heat[patch] / most)));
}

// Which patch is at a point of a canvas.
function patchAt(canvas, event) {
  const box = canvas.getBoundingClientRect();
  const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  const inside = x >= 0 && x < 1 && y >= 0 && y < 1;
  return inside ? Math.floor(y * grid) * grid + Math.floor(x * grid) : -1;
}

stage.addEventListener("pointermove", event => {
  if (!drag && event.pointerType === "mouse") lightWords(patchAt(stage, event));
});
stage.addEventListener("pointerleave", () => lightWords(-1));

// The map under the pointer or with the focus, [model, layer, head]: it lies over the picture.
let pointed = null;
const pointedMap = () => answers[pointed?.[0]]?.attention ? pointed : null;

function layOver(at) {
  pointed = at;
  if (answer) showScene();
}

// A map's patches, by pointer, or by arrow keys from the heaviest on.
function lightFrom(button, at) {
  const canvas = button.firstChild;
  let patch = -1;
  button.addEventListener("pointerenter", event => event.pointerType === "mouse" && layOver(at));
  button.addEventListener("pointerleave", () => layOver(null));
  button.addEventListener("focus", () => button.matches(":focus-visible") && layOver(at));
  button.addEventListener("blur", () => layOver(null));
  button.addEventListener("pointermove", event => lightWords(patchAt(canvas, event), at));
  button.addEventListener("pointerleave", () => lightWords(-1, at));
  button.addEventListener("blur", () => {
    patch = -1;
    lightWords(-1, at);
    if (answer?.attention) showAttention();
  });
  button.addEventListener("keydown", event => {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
    if (!step[event.key] || !answer?.attention) return;
    event.preventDefault();
    const heat = lookOf(answers[at[0]], at[1], at[2]);
    if (patch < 0) patch = heat.indexOf(Math.max(...heat));
    else {
      const [x, y] = [patch % grid, Math.floor(patch / grid)].map((value, i) =>
        clamp(value + step[event.key][i], 0, grid - 1));
      patch = y * grid + x;
    }
    showAttention();
    markPatch(canvas, patch);
    lightWords(patch, at);
  });
}

function markPatch(canvas, patch) {
  const context = canvas.getContext("2d"), wide = canvas.width / grid;
  context.strokeStyle = "#ffffff";
  context.lineWidth = 4;
  const [x, y] = [patch % grid * wide, Math.floor(patch / grid) * wide];
  context.strokeRect(x + 2, y + 2, wide - 4, wide - 4);
}
