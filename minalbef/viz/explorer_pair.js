// The two models of the page side by side: what both answer, always in view, and which of them the
// panels show.
"use strict";

let sideBySide = [];                             // answers: the pair's, and of a model beside it

// Asks each model once. ask: a Mind -> its answer
function askAll(ask) {
  answers = minds().map(ask);
  const given = one => answers.find(({mind}) => mind === one) ?? ask(one);
  sideBySide = [...pair.map(given), ...answers.filter(({mind}) => !pair.includes(mind))];
}

// one: of the pair. The panels show it from now on, with the same heads changed.
function setInside(one) {
  if (one === inside) return;
  keepLearnt(() => inside = one);
  for (const model of [changedMind.model, trace]) model.weights = one.model.weights;
  changedMind.tokenizer = one.tokenizer;
  changedMind.forget();
  showInside();
}

// Changes the model inside; the temperature stays the learnt one, if it is.
function keepLearnt(change) {
  const isLearnt = Math.abs($("temperature").value - Math.log10(learntTemperature())) < 1e-6;
  change();
  if (isLearnt) $("temperature").value = Math.log10(learntTemperature());
}

function showInside() {
  pair.forEach((one, i) => {
    const name = pair[1] ? $("names").querySelectorAll("button")[i] : $("names").children[i + 1];
    name.textContent = one.name;
    if (!pair[1]) return;
    name.setAttribute("aria-label", `panels show ${one.name}`);
    name.setAttribute("aria-pressed", String(one === inside));
  });
  for (const place of document.querySelectorAll(".inside-name")) place.textContent = inside.name;
  const option = $("beside").querySelector("[value=pair]");
  if (option) option.textContent = otherMind().name;
}

function beginPair() {
  const head = child => make("th", {scope: "col"}, child);
  const choose = one => make("button", {onclick: () => {
    setInside(one);
    changed();
  }});
  const [_, second] = pair;
  $("names").replaceChildren(make("td", {}, second ? "Panels show" : ""),
    ...pair.map(one => head(second ? choose(one) : "")), head(""));
  $("pair-note").textContent = second
    ? `${second.name}: the paper’s objectives alone, no minimal pairs` : "";
  $("pair-about").hidden = !second;
  if (second) $("beside").options[0].after(make("option", {value: "pair"}));
  showInside();
}

function showNumbers() {
  const asked = sideBySide[0].odds === undefined ? [] : sideBySide;
  $("names").hidden = asked.length < 2;
  $("names").lastChild.hidden = asked.length === pair.length;
  $("names").lastChild.textContent = asked[pair.length]?.mind.name ?? "";
  const id = i => ["", "paper-"].slice(0, pair.length)[i] ?? "other-";
  const line = (title, cell) => make("tr", {}, make("th", {scope: "row"}, title),
    ...asked.map((one, i) => make("td", {}, make("div", {}, ...cell(one, id(i))))));
  const word = match => match > 0.5 ? "yes" : "no";
  $("figures").replaceChildren(...asked.length ? [
    line("Match (ITM)", ({match}, id) => [
      make("b", {id: `${id}match`}, share(match)),
      make("span", {className: word(match)}, word(match)), bar(0, match)]),
    line("Similarity (ITC)", ({similarity}, id) => [
      make("b", {id: `${id}similarity`}, similarity.toFixed(3)), cosineBar(similarity, "itc")]),
  ] : [make("tr", {}, make("td", {}, "Type a sentence."))]);
}

// For a screen reader, when all is quiet.
function say() {
  if (!answer?.words.length) return;
  const name = mind => sideBySide[1] ? `${mind.name}: ` : "";
  $("spoken").textContent = sideBySide.map(({mind, match, similarity}) =>
    `${name(mind)}Match ${share(match)}, similarity ${similarity.toFixed(2)}.`).join(" ");
}
