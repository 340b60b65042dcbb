// What the page asks with: the values that explorer.py wrote, and `Mind`, a model with what it was asked last.
"use strict";

const $ = id => document.getElementById(id);
const values = JSON.parse($("values").textContent), {config} = values, side = config.image_size;
const grid = Math.floor(side / config.patch_size), {vendors} = values.emoji, styles = Object.keys(values.sheets);
const objects = values.emoji.objects.slice(0, config.objects), names = objects.map(thing => thing.name);
const tokenizer = new Tokenizer(values.vocab);
const known = new Set(values.words.flatMap(one => tokenizer.words(one)));
const SCALE = 480 / side;                        // pixels of the stage for one of the model's
const share = value => value > 0.999 ? "> .999" : value < 0.001 ? "< .001" : value.toFixed(3);

// make("td", {className: "value"}, "text", element...) -> an element; text is never read as HTML
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  for (const name in properties) if (/-|role/.test(name)) element.setAttribute(name, properties[name]);
  element.append(...children);
  return element;
}

// A model and what it was asked last: a picture or a text that has not changed is not encoded again.
class Mind {
  constructor(weights, settings, tokenizer, name) {
    Object.assign(this, {model: new ALBEF(settings, weights), tokenizer, name, texts: new Map(), last: null});
  }

  encode(sentence) { return this.tokenizer.encode(sentence, this.model.config.text_length); }

  look(pixels) {
    const same = this.last && pixels.every((value, i) => value === this.last.pixels[i]);
    return this.last = same ? this.last : {pixels, ...this.see(pixels)};
  }

  see(pixels) {
    const image = this.model.encodeImage(pixels);
    return {image, seen: this.model.imageKeysValues(image)};
  }

  read(tokens) {
    const key = tokens.join();
    if (this.texts.size > 200) this.texts.clear();
    if (!this.texts.has(key)) this.texts.set(key, this.model.encodeText(tokens));
    return this.texts.get(key);
  }

  // -> {similarity, odds, match, attention: by layer and head a row of weights for each token}
  ask({image, seen}, sentence) {
    const read = this.read(this.encode(sentence).tokens), attention = [];
    const odds = this.model.matchOdds(this.model.fuse(read, seen, attention));
    return {similarity: this.model.similarity(image, read), odds, match: sigmoid(odds), attention};
  }

  // One word masked: for each of its pieces the likeliest pieces, [piece, probability], and the piece that stood there.
  guess({seen}, sentence, word, top = 5) {
    const {tokens, places} = this.encode(sentence), {mask, pieces} = this.tokenizer;
    const hidden = tokens.map((id, i) => places[word].includes(i) ? mask : id);
    const fused = this.model.fuse(this.read(hidden), seen);
    return places[word].map(place => {
      const likely = [...this.model.wordProbabilities(fused, place)].map((p, id) => [pieces[id], p]);
      return {truth: pieces[tokens[place]], likely: likely.sort((a, b) => b[1] - a[1]).slice(0, top)};
    });
  }
}

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
const minds = () => [mind, ...{start: () => [startMind()], own: () => [own]}[$("beside").value]?.() ?? []];
