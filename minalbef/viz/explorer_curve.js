// The curve: match and similarity of a sentence and its opposite while one object is on its way.
"use strict";

const OPPOSITE = {left: "right", above: "below", over: "under"};
for (const [one, other] of Object.entries(OPPOSITE)) OPPOSITE[other] = one;
const RELATION = /\b(left|right|above|below|over|under)\b/gi;
const opposite = sentence => sentence.replace(RELATION, one => OPPOSITE[one.toLowerCase()]);

async function drawCurve(steps = 25) {
  const one = scene.objects[chosen], axis = /\b(above|below|over|under)\b/i.test(text()) ? "y" : "x";
  const sentences = [...new Set([text(), opposite(text())])].filter(line => tokenizer.words(line).length);
  if (!one || !sentences.length) return;
  const low = one.size / 2, index = chosen, found = minds().map(mind => ({mind, lines: sentences.map(() => [])}));
  const asked = {...scene, objects: [...scene.objects]};
  for (let i = 0; i < steps; i++) {
    const where = low + (1 - 2 * low) * i / (steps - 1);
    asked.objects[index] = {...one, [axis]: where};
    const pixels = painter.paint(asked);
    for (const {mind, lines} of found) {
      const looked = mind.see(pixels);
      sentences.forEach((sentence, k) => lines[k].push({where, ...mind.ask(looked, sentence)}));
    }
    $("curve-note").textContent = `${i + 1} of ${steps} places`;
    await new Promise(done => setTimeout(done));
  }
  const way = axis === "x" ? "from left to right" : "from top to bottom";
  $("curve-note").textContent = `${one.name} ${way}; the dotted line is where it stands now`;
  const [from, to] = axis === "x" ? ["left", "right"] : ["top", "bottom"];
  const place = `where the ${one.name} stands, from ${from} (0) to ${to} (1)`;
  $("curve").replaceChildren(...found.flatMap(({mind, lines}) =>
    charts({name: mind.name, lines, sentences, place, at: one[axis]})));
  return found[0].lines;
}

// A chart of match and one of similarity. lines: for each sentence its answers, with `where` from 0
// to 1 in each; place: what `where` is; at: where the dotted line is; tick: what is written at 0, a
// half and 1
const charts = given => [["match", 0], ["similarity", -0.5]].map(([kind, low]) => chart(kind, low, given));

function chart(kind, low, {name, lines, sentences, place, at, tick = String}) {
  const svg = (tag, properties, said = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
    element.textContent = said;
    return element;
  };
  const x = value => 40 + 350 * value, y = value => 30 + 170 * (1 - value) / (1 - low);
  const title = `${name}: ${kind}`, every = lines[0].length > 10 ? 6 : 1;
  const some = line => line.filter((_, i) => i % every === 0).map(one => one[kind].toFixed(2)).join(", ");
  const said = `${title} on the way: ${lines.map((line, k) => `“${sentences[k]}” ${some(line)}`).join("; ")}`;
  const box = svg("svg", {viewBox: "0 0 400 300", role: "img", "aria-label": said});
  const unit = kind === "match" ? "a probability" : "a cosine";
  box.append(svg("text", {x: 6, y: 16}, `${title}, ${unit}`), svg("text", {x: 40, y: 236}, place));
  for (const value of [0, 0.5, 1]) {
    box.append(svg("text", {x: x(value), y: 217, "text-anchor": "middle"}, tick(value)));
  }
  for (const value of [low, (low + 1) / 2, 1]) {
    box.append(svg("line", {x1: 40, x2: 390, y1: y(value), y2: y(value), stroke: "var(--line)"}),
               svg("text", {x: 34, y: y(value) + 4, "text-anchor": "end"}, String(value)));
  }
  box.append(svg("line", {x1: x(at), x2: x(at), y1: 30, y2: 200,
                           stroke: "var(--soft)", "stroke-dasharray": "2 4"}));
  lines.forEach((line, k) => {
    const stroke = ["var(--blue)", "var(--red)"][k], dash = k ? "7 4" : "none";
    const points = line.map(one => `${x(one.where).toFixed(1)},${y(one[kind]).toFixed(1)}`).join(" ");
    box.append(svg("polyline", {points, fill: "none", stroke, "stroke-width": 2.5, "stroke-dasharray": dash}),
               svg("line", {x1: 40, x2: 64, y1: 260 + 22 * k, y2: 260 + 22 * k, stroke,
                            "stroke-width": 2.5, "stroke-dasharray": dash}),
               svg("text", {x: 72, y: 264 + 22 * k}, sentences[k]));
  });
  return box;
}
$("draw-curve").onclick = () => drawCurve();
