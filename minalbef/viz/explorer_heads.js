// The panel "Inside": switches heads off, or patches them from the mirror image. The model inside
// with these changes answers beside it. Its formulas: explorer_intervention.js.
"use strict";

const switches = new Map();                      // "cross_1_2" -> "off" or "mirror"; others are on
const changedMind = new Mind(trained, config, tokenizer, "heads changed",
                             new Intervention(config, trained));
const headButtons = new Map();                   // "cross_1_2" -> its button
let trial = null;                                // the match with each head alone changed

const mode = () => document.querySelector("[name=mode]:checked").value;
const counted = count => Array.from({length: count}, (_, i) => i + 1);
const headsOf = (part, layer) => counted(PARTS[part].heads).map(head => `${part}_${layer}_${head}`);
const HEADS = Object.entries(PARTS).flatMap(([part, {depth}]) =>
  counted(depth).flatMap(layer => headsOf(part, layer)));

// "cross_1_2" -> "Fusion: cross-attention, layer 1, head 2"
function headName(name) {
  const [part, layer, head] = name.split("_");
  return `${PARTS[part].title}, layer ${layer}, head ${head}`;
}

// next: as `switches`
function setSwitches(next) {
  const entries = [...next];
  switches.clear();
  for (const [name, state] of entries) switches.set(name, state);
  changedMind.model.set(switches);
  changedMind.forget();
  const option = $("beside").querySelector("[value=heads]");
  if (switches.size && !option) {
    $("beside").append(make("option", {value: "heads"}, "this model, heads changed"));
    setBeside("heads");
  }
  if (!switches.size && option) {
    const isBeside = $("beside").value === "heads";
    option.remove();
    if (isBeside) setBeside("");
  }
}

// Heads that are all in the state of the mode go on again, else all take that state.
function choose(heads) {
  const next = new Map(switches), areSet = heads.every(name => switches.get(name) === mode());
  for (const name of heads) {
    if (areSet) next.delete(name);
    else next.set(name, mode());
  }
  setSwitches(next);
  changed();
}

for (const [part, {title, depth}] of Object.entries(PARTS)) {
  const box = make("div", {className: "heads", role: "group", "aria-label": title});
  box.style.setProperty("--heads", PARTS[part].heads);
  for (const layer of counted(depth)) {
    box.append(make("button", {onclick: () => choose(headsOf(part, layer)),
                               "aria-label": `layer ${layer}, all heads`}, `layer ${layer}`));
    for (const name of headsOf(part, layer)) {
      const button = make("button", {onclick: () => choose([name])},
        make("span", {className: "hidden"}, `layer ${layer}, `), `head ${name.split("_")[2]}: `,
        make("b"), make("small"));
      headButtons.set(name, button);
      box.append(button);
    }
  }
  $("heads").append(make("div", {}, make("h3", {}, title), box));
}

function showHeads() {
  const isFresh = trial?.asked === question();
  for (const [name, button] of headButtons) {
    const state = switches.get(name) ?? "on", [said, alone] = button.querySelectorAll("b, small");
    said.textContent = state;
    button.setAttribute("aria-pressed", String(state !== "on"));
    alone.textContent = isFresh && trial.matches.has(name) ? share(trial.matches.get(name)) : "";
  }
  $("heads-reset").disabled = !switches.size;
  if (!isFresh) $("trial-said").textContent = "";
  $("try-heads").disabled = !answer.words.length;
  if ($("inside").open) showEffect();
}

// A table: what the model answers unchanged, with the changes, and for the mirror image.
function showEffect() {
  const sides = [["unchanged", answers[0]]];
  if (!answers[0].attention) return $("effect").replaceChildren();
  if ($("beside").value === "heads") sides.push(["heads changed", answers[1]]);
  const looked = inside.see(mirrorImage(answer.pixels));
  const guesses = word >= 0 ? inside.guess(looked, text(), word) : null;
  sides.push(["mirror image", {...inside.ask(looked, text()), guesses}]);
  const line = (title, say) => make("tr", {}, make("th", {scope: "row"}, title),
                                    ...sides.map(([_, one]) => make("td", {}, say(one))));
  const best = one => one.guesses.flatMap(({likely}) => likely.slice(0, 2))
    .map(([piece, p]) => `${piece} ${share(p)}`).join(", ");
  $("effect").replaceChildren(make("table", {},
    make("tr", {}, make("td"), ...sides.map(([title]) => make("th", {scope: "col"}, title))),
    line("Match (ITM)", one => share(one.match)),
    line("Similarity (ITC)", one => one.similarity.toFixed(3)),
    ...word >= 0 ? [line(`Masked “${answer.words[word]}”`, best)] : []));
}

// What was asked of which model in which mode, whatever is switched.
const question = () => `${sceneAddress()} ${inside.name} ${mode()} ${scene.photo ?? ""}`;

// One head after the other is changed alone, the others on: what does it do to the match?
async function tryHeads() {
  const mine = trial = {asked: question(), matches: new Map()};
  const {pixels} = answer, sentence = text(), before = inside.ask(inside.look(pixels), sentence).odds;
  const {weights} = inside.model, model = new Intervention(config, weights);
  const lone = new Mind(weights, config, inside.tokenizer, "one head changed", model), odds = [];
  for (const [i, name] of HEADS.entries()) {
    model.set(new Map([[name, mode()]]));
    lone.forget();
    odds.push(lone.ask(lone.see(pixels), sentence).odds);
    mine.matches.set(name, sigmoid(odds[i]));
    $("trial-said").textContent = `${i + 1} of ${HEADS.length} heads`;
    showHeads();
    await new Promise(done => setTimeout(done));
    if (trial !== mine || mine.asked !== question()) return;
  }
  const changes = odds.map(one => Math.abs(one - before));
  const most = changes.indexOf(Math.max(...changes));
  $("trial-said").textContent = "Below each head stands the match if it alone is changed. "
    + `The largest change: ${headName(HEADS[most])}, from ${share(sigmoid(before))} to `
    + `${share(sigmoid(odds[most]))}.`;
}

$("try-heads").onclick = tryHeads;
$("heads-reset").onclick = () => {
  setSwitches(new Map());
  changed();
};
$("inside").ontoggle = () => answer && showHeads();
for (const one of document.querySelectorAll("[name=mode]")) one.onchange = () => showHeads();

// in the address ----------------------------------------------------------------------------------

// "off=cross_1_2&mirror=self_1_3", layers and heads counted from 1
function writeSwitches(parts) {
  for (const [name, state] of switches) parts.append(state, name);
}

// -> as `switches`, or null for a head that this model hasn't
function readSwitches(parts) {
  const found = new Map();
  for (const state of ["off", "mirror"]) {
    for (const name of parts.getAll(state)) {
      if (!headButtons.has(name)) return null;
      found.set(name, state);
    }
  }
  return found;
}
