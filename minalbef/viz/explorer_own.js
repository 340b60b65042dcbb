// A model of your own, out of its run folder: model.safetensors, and config.json and tokenizer.json where they differ
// from the page's. The files are read here and go nowhere. What does not fit is refused, by name.
"use strict";

class Misfit extends Error {}                    // a message for the reader
const refuse = (wrong, said) => { if (wrong) throw new Misfit(said); };
const FILES = {weights: /\.safetensors$/, settings: /^config.*\.json$/, words: /^tokenizer.*\.json$/};
const EQUAL = ["image_size", "patch_size", "stem", "image_width", "image_mlp_ratio", "text_width", "text_mlp_ratio",
               "positions", "embed_dim"];        // settings that must be the page's; depths, heads and words may differ

// Eight bytes with the header's length, the header in JSON, then the tensors -> {name: {shape, data: Float32Array}}
function readSafetensors(buffer) {
  const first = 8 + Number(new DataView(buffer).getBigUint64(0, true)), tensors = {};
  const {__metadata__, ...header} = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, first - 8)));
  for (const [name, {dtype, shape, data_offsets: [from, to]}] of Object.entries(header)) {
    refuse(!["F32", "F16"].includes(dtype), `${name} is stored as ${dtype}, and this page reads F32 and F16`);
    const bytes = buffer.slice(first + from, first + to);
    const data = dtype === "F32" ? new Float32Array(bytes) : Float32Array.from(new Uint16Array(bytes), fromHalf);
    refuse(data.length !== shape.reduce((a, b) => a * b, 1), `${name} is cut off; copy the file again`);
    refuse(!data.every(Number.isFinite), `${name} has values that are not finite; train the run again`);
    tensors[name] = {shape, data};
  }
  return tensors;
}

// Name and shape of each weight that a config needs: those of the page's model, with other depths and word pieces.
function shapesOf({image_depth, text_depth, fusion_depth, vocab_size}) {
  const depths = {image_encoder: image_depth, text_encoder: text_depth, fusion: fusion_depth}, shapes = {};
  for (const [name, shape] of values.weights.shapes) {
    const layer = name.match(/(?:blocks|layers)\.(\d+)/)?.[1], depth = layer ? depths[name.split(".")[0]] : 1;
    const wanted = /word_embed|word_head\.bias/.test(name) ? [vocab_size, ...shape.slice(1)] : shape;
    for (let i = 0; i < depth && !Number(layer ?? 0); i++) shapes[name.replace(/(s\.)0/, `$1${i}`)] = wanted;
  }
  return shapes;
}

// Files -> {mind, said: what to say of it}. Throws a Misfit that names what doesn't fit, and the way out.
async function readRun(files) {
  const found = {}, parse = buffer => JSON.parse(new TextDecoder().decode(buffer)) ?? {};
  for (const file of files) {
    const kind = Object.keys(FILES).find(one => FILES[one].test(file.name));
    refuse(!kind || found[kind], `${file.name} is ${kind ? "a second file of its kind" : "no part of a model"}; choose `
      + "one model.safetensors, and with it config.json and tokenizer.json");
    try {
      found[kind] = (kind === "weights" ? readSafetensors : parse)(await file.arrayBuffer());
    } catch (error) {
      refuse(true, `${file.name}: ${error instanceof Misfit ? error.message : "it is something else, or damaged"}`);
    }
  }
  const {weights, settings = config, words} = found;
  const lent = [...found.settings ? [] : ["config.json"], ...words ? [] : ["tokenizer.json"]].join(" and ");
  const way = lent && `; choose the run's ${lent} with it`;
  refuse(!weights, "there are no weights; choose the run's model.safetensors, too");
  refuse((settings.task ?? "pretrain") !== "pretrain", `it was tuned for ${settings.task}; choose a pretrained run`);
  const other = EQUAL.find(name => settings[name] !== config[name]);
  refuse(other, `its ${other} is ${settings[other] ?? "not given"}, and this page's ${config[other]}; `
    + "`minalbef explore` writes a page for it alone");
  const wanted = shapesOf(settings), size = shape => shape ? shape.join(" x ") || "a number" : "not there";
  for (const name of new Set([...Object.keys(wanted), ...Object.keys(weights)])) {
    const [is, should] = [size(weights[name]?.shape), size(wanted[name])];
    refuse(is !== should, `${name} is ${is} in the file, and ${should} by the settings${way}`);
  }
  const vocab = words ? words.model?.vocab ?? {} : values.vocab, pieces = Object.keys(vocab).length;
  refuse(pieces !== settings.vocab_size, `the tokenizer has ${pieces} word pieces, and the settings say `
    + `${settings.vocab_size}${way}`);
  const tensors = Object.fromEntries(Object.entries(weights).map(([name, {data}]) => [name, data]));
  return {mind: new Mind(tensors, settings, new Tokenizer(vocab), "your model"),
          said: `Loaded: a run of ${settings.name}, seed ${settings.seed}` + (lent && `, with this page's ${lent}`)};
}

async function useRun(files) {
  try {
    const {mind, said} = await readRun(files);
    own = mind;
    if (!$("beside").querySelector("[value=own]")) $("beside").append(make("option", {value: "own"}, own.name));
    $("beside").value = "own";
    $("beside").onchange();
    $("own-said").textContent = `${said}.`;
  } catch (error) {
    if (!(error instanceof Misfit)) throw error;
    $("own-said").textContent = `Not loaded: ${error.message}.`;
  }
}
