// The panel "Flow": the model as blocks in their order; each opens to its formula and its numbers.
"use strict";

const trace = new Trace(config, trained);
let flowBlock = "patches";

// A number's sign takes as much room as its absence.
const plain = value => value.toFixed(2).replace("-", "−");
const long = vector => Math.sqrt(dot(vector, vector));

// A vector as a strip, blue above zero and orange below, and its numbers.
function vectorShown(title, vector) {
  const strip = make("canvas", {width: vector.length, height: 1, "aria-hidden": "true"});
  const context = strip.getContext("2d"), most = Math.max(...vector.map(Math.abs));
  vector.forEach((value, i) => {
    context.fillStyle = `rgb(${value > 0 ? "0 114 178" : "230 159 0"} / ${Math.abs(value) / most})`;
    context.fillRect(i, 0, 1, 1);
  });
  const said = `${title}: ${vector.length} numbers, length ${plain(long(vector))}`;
  return make("div", {className: "vector"}, make("b", {}, said), strip,
    make("code", {}, [...vector].map(plain).join(" ")));
}

function tableShown(titles, rows) {
  const head = titles.map(title => title ? make("th", {scope: "col"}, title) : make("td"));
  return make("table", {}, make("tr", {}, ...head),
    ...rows.map(([title, ...cells]) => make("tr", {}, make("th", {scope: "row"}, title),
      ...cells.map(cell => typeof cell === "string" ? make("td", {}, cell) : shade(cell)))));
}

const formula = said => make("p", {className: "formula"}, said);

// The lengths of the vectors that each part of a layer adds to one token's. layers: see partsOf
function sumsShown(layers, token) {
  const at = name => plain(long(row(trace.outputs.get(name), token)));
  return tableShown(["layer", ...layers[0].parts.map(([title]) => title)],
    layers.map(({parts}, i) => [`${i + 1}`, ...parts.map(([_, name]) => at(name))]));
}

// -> for each layer the parts that add: title, and name of the weights
function partsOf(depth, prefix, names) {
  return Array.from({length: depth}, (_, i) => ({
    parts: names.map(([title, name]) => [`+ ${title}`, `${prefix}.${i}.${name}`])}));
}

const patchToken = () => Number($("flow-patch").value);
const wordToken = () => Number($("flow-word").value);
const tokenName = () => $("flow-word").selectedOptions[0].textContent;
const patchName = () => $("flow-patch").selectedOptions[0].textContent;

// The blocks, in order: title, the lists to choose from, and show(found) -> elements. found: what
// Trace.run gives
const BLOCKS = {
  patches: {title: "Image to patches", choices: ["patch"], show: () => [
    formula("xᵢ = stem(pixels around patch i) + pᵢ"),
    make("p", {}, `The image’s ${side} × ${side} pixels become ${grid} × ${grid} patches, each `
      + "one vector; pᵢ is the position’s embedding. [CLS] is a learnt vector that comes first."),
    vectorShown(`x of ${patchName()}`,
                row(trace.inputs.get("image_encoder.blocks.0.norm1"), patchToken()))]},
  image: {title: "Image encoder", choices: ["patch"], show: ({image}) => [
    formula("x ← x + attention(LN(x))\nx ← x + MLP(LN(x))"),
    make("p", {}, "Each layer adds two vectors to each token’s. The table has their lengths."),
    sumsShown(partsOf(config.image_depth, "image_encoder.blocks",
                      [["attention", "attn"], ["MLP", "mlp"]]), patchToken()),
    vectorShown(`After all layers, ${patchName()}`, row(image, patchToken()))]},
  text: {title: "Words to text encoder", choices: ["word"], show: ({text}) => [
    formula("x ← LN(x + attention(x))\nx ← LN(x + MLP(x))"),
    make("p", {}, "A word begins as its embedding plus its position’s. Each layer adds two vectors "
      + "and normalises each sum. The table has the two vectors’ lengths."),
    sumsShown(partsOf(config.text_depth, "text_encoder.layers",
                      [["attention", "attn"], ["MLP", "mlp"]]), wordToken()),
    vectorShown(`After all layers, ${tokenName()}`, row(text, wordToken()))]},
  itc: {title: "ITC: both [CLS] compared", choices: [], show: ({image, text}) => {
    const [v, t] = [trace.feature(image, "image"), trace.feature(text, "text")];
    return [formula(`s = v · t = ${dot(v, t).toFixed(3)}\n`
        + "v = (W[CLS] + b) / ‖W[CLS] + b‖, t likewise"),
      make("p", {}, `Each encoder’s [CLS] is projected to ${v.length} numbers and scaled to length `
        + "1, so the dot product s is a cosine. The loss is a softmax of s / τ over the batch and "
        + `the queue, τ = ${learntTemperature().toFixed(3)}.`),
      vectorShown("v, the image", v), vectorShown("t, the sentence", t)];
  }},
  fusion: {title: "Fusion", choices: ["word", "head"], show: () => {
    const [i, h] = $("flow-head").value.split("_").map(Number);
    const shares = trace.shares.get(`fusion.layers.${i}.cross`)[h][wordToken()].slice(-grid * grid);
    const rows = counted(grid).map(y => [`row ${y}`, ...shares.slice((y - 1) * grid, y * grid)]);
    return [formula("x ← LN(x + self-attention(x))\nx ← LN(x + cross-attention(x, image))\n"
        + "x ← LN(x + MLP(x))"),
      formula("weights = softmax(q · kᵢ / √d): q from the word, kᵢ from patch i"),
      make("p", {}, `The weights of “${tokenName()}” in this head, by row and column of the patch. `
        + "“Cross-attention” above has the maps of all heads."),
      tableShown(["", ...counted(grid).map(String)], rows),
      make("p", {}, "The lengths of what each layer adds:"),
      sumsShown(partsOf(config.fusion_depth, "fusion.layers", [["self-attention", "attn"],
                        ["cross-attention", "cross"], ["MLP", "mlp"]]), wordToken())];
  }},
  itm: {title: "ITM: yes or no", choices: [], show: ({fused}) => {
    const [no, yes] = trace.linear(matrix(1, fused.width, row(fused, 0)), "match_head").data;
    return [formula(`[no, yes] = W[CLS] + b = [${plain(no)}, ${plain(yes)}]\n`
        + `p(yes) = softmax = ${share(sigmoid(yes - no))}`),
      make("p", {}, "A linear layer on fusion’s [CLS] gives two logits."),
      vectorShown("fusion’s [CLS]", row(fused, 0))];
  }},
  mlm: {title: "MLM: masked word", choices: [], show: () => [
    formula("p(word) = softmax(E · LN(GELU(Wx + b)) + c)"),
    make("p", {}, "x is fusion’s vector of [MASK], which stands in the word’s place; E are the "
      + "word embeddings of the text encoder."),
    ...word < 0 ? [make("p", {}, "Choose a word of the sentence to mask it.")]
      : answers[0].guesses.map(({likely}) => tableShown(["piece", "probability"], likely))]},
};

// Fills a list, whose choice stays where it can.
function fill(list, options) {
  const before = list.value;
  list.replaceChildren(...options.map(([value, said]) => make("option", {value}, said)));
  list.value = options.some(([value]) => value === before) ? before : options[0]?.[0] ?? "";
}

function showFlow() {
  for (const button of $("flow-blocks").children) {
    button.setAttribute("aria-pressed", String(button.dataset.block === flowBlock));
  }
  const {choices, show} = BLOCKS[flowBlock], {tokens} = inside.encode(text());
  fill($("flow-word"), tokens.map((id, i) => [String(i), inside.tokenizer.pieces[id]]));
  for (const name of ["patch", "word", "head"]) {
    $(`flow-${name}`).parentElement.hidden = !choices.includes(name);
  }
  if ($("flow").open) $("flow-numbers").replaceChildren(...show(trace.run(answer.pixels, tokens)));
}

for (const [name, {title}] of Object.entries(BLOCKS)) {
  const button = make("button", {className: name, onclick: () => {
    flowBlock = name;
    showFlow();
  }}, title);
  button.dataset.block = name;
  $("flow-blocks").append(button);
}
fill($("flow-patch"), Array.from({length: 1 + grid ** 2}, (_, i) => [String(i), i
  ? `row ${Math.floor((i - 1) / grid) + 1}, column ${(i - 1) % grid + 1}` : "[CLS]"]));
fill($("flow-head"), counted(config.fusion_depth).flatMap(layer =>
  counted(config.text_heads).map(head =>
    [`${layer - 1}_${head - 1}`, `layer ${layer}, head ${head}`])));
$("flow-patch").value = String(1 + grid * Math.floor(grid / 2) + Math.floor(grid / 4));
for (const name of ["patch", "word", "head"]) $(`flow-${name}`).onchange = () => showFlow();
$("flow").ontoggle = () => answer && showFlow();
