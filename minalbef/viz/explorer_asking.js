// Whom the page asks: its own model, the warm start, or one out of the reader's files; and the world they know.
"use strict";

const side = config.image_size, {vendors} = values.emoji, styles = Object.keys(values.sheets);
const objects = values.emoji.objects.slice(0, config.objects), names = objects.map(thing => thing.name);
const tokenizer = new Tokenizer(values.vocab);
const known = new Set(values.words.flatMap(one => tokenizer.words(one)));
const SCALE = 480 / side;                        // pixels of the stage for one of the model's

// What the warm start has not learnt is drawn anew, as the package draws it: normal, biases 0, norms 1.
function startWeights(trained, learnt) {
  let state = 1;                                 // a generator with a fixed seed: the same start at each visit
  const random = () => (state = state * 48271 % 2147483647) / 2147483647;
  const normal = () => Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
  const weights = {};
  for (const [name, value] of Object.entries(trained)) {
    const fresh = () => name.endsWith("bias") ? 0 : name.includes("norm") ? 1 : config.init_std * normal();
    weights[name] = learnt[name.replace("image_encoder.", "")] || value.map(fresh);
  }
  return weights;
}

const trained = unpackWeights(values.weights), mind = new Mind(trained, config, tokenizer, "this page's model");
let start = null, own = null;                    // made when first wanted; out of the reader's files
const startMind = () => start ??= new Mind(startWeights(trained, unpackWeights(values.start)), config, tokenizer,
                                           "warm start");
// The models that answer: the page's, and the one beside it.
const BESIDE = {start: () => [startMind()], own: () => [own], heads: () => [changedMind]};
const minds = () => [mind, ...BESIDE[$("beside").value]?.() ?? []];
