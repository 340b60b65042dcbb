// What both pages have, that of scenes and that of your pictures: the values that Python wrote, `Mind`, a model with
// what it was asked last, and how answers are drawn.
"use strict";

const $ = id => document.getElementById(id);
const values = JSON.parse($("values").textContent), {config} = values;
const grid = Math.floor(config.image_size / config.patch_size);
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
  constructor(weights, settings, tokenizer, name, model = new ALBEF(settings, weights)) {
    Object.assign(this, {model, tokenizer, name});
    this.forget();
  }

  forget() { Object.assign(this, {texts: new Map(), last: null}); }

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

const bar = (from, to, kind = "") => {
  const fill = make("i");
  fill.style.cssText = `left:${100 * Math.min(from, to)}%;width:${100 * Math.abs(to - from)}%`;
  return make("div", {className: `bar ${kind}`}, fill);
};
const cosineBar = (value, kind) => {
  const found = bar(0.5, 0.5 + value / 2, kind);
  found.append(make("u"));
  return found;
};

// Dims what has little, so that it reads on any picture, and rings the most.
function drawVeil(context, heat, width, height = width) {
  const most = Math.max(...heat), [across, down] = [width / grid, height / grid];
  heat.forEach((value, i) => {
    const [x, y] = [i % grid * across, Math.floor(i / grid) * down];
    context.fillStyle = `rgb(10 12 30 / ${0.85 * (1 - value / (most || 1))})`;
    context.fillRect(x, y, across + 0.5, down + 0.5);
    if (value !== most || !most) return;
    context.strokeStyle = "#E69F00";
    context.lineWidth = width / 80;
    context.strokeRect(x + width / 160, y + width / 160, across - width / 80, down - width / 80);
  });
}
