// Whom the page asks: its pair of models, the warm start, or one out of the reader's files; and the world they know.
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

const trained = {}, mind = new Mind(trained, config, tokenizer, values.name);    // its weights come with readWeights
const pair = [mind];                             // and the second model, where the page has it
let inside = mind;                               // the one of the pair that the panels show
let learnt, start = null, own = null;            // the warm start's weights; made when first wanted; the reader's
const startMind = () => start ??= new Mind(startWeights(trained, learnt), config, tokenizer, "warm start");
const otherMind = () => pair.find(one => one !== inside);

// The models that answer in the panels: the one inside, and the one beside it.
const BESIDE = {pair: () => [otherMind()], start: () => [startMind()], own: () => [own], heads: () => [changedMind]};
const minds = () => [inside, ...BESIDE[$("beside").value]?.() ?? []];

async function readWeights() {
  Object.assign(trained, await inflateWeights(values.weights));
  if (values.start) learnt = await inflateWeights(values.start);
  if (!values.paper) return;
  const {weights, settings, vocab, name} = values.paper;
  pair.push(new Mind(await inflateWeights(weights), settings, new Tokenizer(vocab), name));
}
