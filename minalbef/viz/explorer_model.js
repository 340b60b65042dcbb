// ALBEF's forward pass in plain JavaScript, one picture and one text at a time, in the order of the chapters: layers,
// 03 tokenizer, 02 image encoder, 03 text encoder, 04 shared space, 06 fusion and ITM, 07 masked words.
//
// A matrix is {rows, width, data}, its rows one after the other in a Float32Array; there is no batch axis, and so no
// padding and no mask. Names of weights are the package's: "fusion.layers.0.cross.q.weight" is the tensor of that name.
"use strict";

const matrix = (rows, width, data = new Float32Array(rows * width)) => ({rows, width, data});
const row = (x, i) => x.data.subarray(i * x.width, (i + 1) * x.width);
const rowsFrom = (x, first) => matrix(x.rows - first, x.width, x.data.subarray(first * x.width));
const add = (a, b) => matrix(a.rows, a.width, a.data.map((value, i) => value + b.data[i]));
const map = (x, f) => matrix(x.rows, x.width, x.data.map(f));
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

// layers ------------------------------------------------------------------------------------------------------------

// x @ weight.T + bias: (n, i), (o, i) -> (n, o). Four rows and two columns at once: eight products for six reads.
// Past the end the last row or column is computed once more, which is simpler than a second loop for the rest.
function linear(x, weight, bias) {
  const width = x.width, out = weight.length / width, y = matrix(x.rows, out), a = x.data;
  for (let i = 0; i < x.rows; i += 4) {
    const rows = [0, 1, 2, 3].map(k => Math.min(i + k, x.rows - 1));
    const [a0, a1, a2, a3] = rows.map(k => k * width), [y0, y1, y2, y3] = rows.map(k => k * out);
    for (let j = 0; j < out; j += 2) {
      const next = Math.min(j + 1, out - 1), w0 = j * width, w1 = next * width;
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
      for (let k = 0; k < width; k++) {
        const u = weight[w0 + k], v = weight[w1 + k];
        const x0 = a[a0 + k], x1 = a[a1 + k], x2 = a[a2 + k], x3 = a[a3 + k];
        s0 += x0 * u; s1 += x1 * u; s2 += x2 * u; s3 += x3 * u;
        t0 += x0 * v; t1 += x1 * v; t2 += x2 * v; t3 += x3 * v;
      }
      const b = bias[j], c = bias[next];
      y.data[y0 + j] = s0 + b; y.data[y1 + j] = s1 + b; y.data[y2 + j] = s2 + b; y.data[y3 + j] = s3 + b;
      y.data[y0 + next] = t0 + c; y.data[y1 + next] = t1 + c; y.data[y2 + next] = t2 + c; y.data[y3 + next] = t3 + c;
    }
  }
  return y;
}

// Each row to mean 0 and variance 1, then scaled and shifted by what was learnt.
function layerNorm(x, scale, shift, eps) {
  const y = matrix(x.rows, x.width), n = x.width;
  for (let i = 0; i < x.rows; i++) {
    const from = row(x, i), to = row(y, i);
    let mean = 0, square = 0;
    for (let k = 0; k < n; k++) mean += from[k] / n;
    for (let k = 0; k < n; k++) square += (from[k] - mean) ** 2 / n;
    const over = 1 / Math.sqrt(square + eps);
    for (let k = 0; k < n; k++) to[k] = (from[k] - mean) * over * scale[k] + shift[k];
  }
  return y;
}

function softmax(values) {
  const most = Math.max(...values), powers = values.map(value => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map(value => value / sum);
}

// erf after Abramowitz and Stegun, 7.1.26: off by 1.5e-7 at most, about the rounding of a Float32Array.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}
const gelu = x => x * 0.5 * (1 + erf(x / Math.SQRT2));
const relu = x => Math.max(x, 0);
const sigmoid = x => 1 / (1 + Math.exp(-x));

// A convolution is a matrix product: every window of the picture, laid out as a row, times the kernels.
// x: (side * side, channels), the pixels row by row -> (new side squared, kernels)
function conv(x, weight, bias, kernel, stride, padding) {
  const side = Math.sqrt(x.rows), channels = x.width, square = kernel * kernel;
  const newSide = Math.floor((side + 2 * padding - kernel) / stride) + 1;
  const windows = matrix(newSide * newSide, channels * square);
  for (let i = 0; i < windows.rows; i++) {
    const window = row(windows, i);
    const top = Math.floor(i / newSide) * stride - padding, left = (i % newSide) * stride - padding;
    for (let k = 0; k < square; k++) {
      const v = top + Math.floor(k / kernel), u = left + k % kernel;
      if (v < 0 || v >= side || u < 0 || u >= side) continue;                  // padding is zero
      const pixel = (v * side + u) * channels;
      for (let c = 0; c < channels; c++) window[c * square + k] = x.data[pixel + c];
    }
  }
  return linear(windows, weight, bias);
}

// tokenizer ---------------------------------------------------------------------------------------------------------

// What stands alone within a word: marks, and Chinese characters, by BERT's ranges.
const ALONE = new RegExp("([\\p{P}$+<=>^`|]|[\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff"
  + "\\u{20000}-\\u{2a6df}\\u{2a700}-\\u{2ceaf}\\u{2f800}-\\u{2fa1f}])", "u");

// WordPiece as BERT has it: each word is cut into the longest pieces of the vocabulary, from its beginning on.
class Tokenizer {
  // vocab: {piece: its id}, as tokenizer.json has it
  constructor(vocab) {
    this.ids = new Map(Object.entries(vocab));
    this.pieces = Object.keys(vocab).sort((a, b) => vocab[a] - vocab[b]);
    [this.unk, this.cls, this.mask] = ["[UNK]", "[CLS]", "[MASK]"].map(piece => this.ids.get(piece));
  }

  // The words of a text, in lower case and without marks, cut after 30: tokenizer.py's `clean`.
  words(text) {
    text = text.toLowerCase().replace(/[,.'!?"()*#:;~]/g, "").replace(/[-/]/g, " ").replaceAll("<person>", "person");
    return text.split(/\s+/).filter(Boolean).slice(0, 30);
  }

  // The ids of one word's pieces; [UNK] where a letter is in no piece.
  wordIds(word) {
    const plain = word.normalize("NFD").replace(/[\p{Mn}\p{Cc}\p{Cf}]/gu, "");                // without accents
    const ids = [];
    for (const part of plain.split(ALONE).filter(Boolean)) {
      const found = [];
      for (let start = 0, end; start < part.length; start = end) {
        for (end = part.length; end > start; end--) {
          if (this.ids.has((start ? "##" : "") + part.slice(start, end))) break;
        }
        if (end === start || part.length > 100) { found.splice(0, Infinity, this.unk); break; }
        found.push(this.ids.get((start ? "##" : "") + part.slice(start, end)));
      }
      ids.push(...found);
    }
    return ids;
  }

  // -> {words, tokens: ids with [CLS] first, places: for each word where its tokens stand}
  encode(text, length) {
    const words = this.words(text), tokens = [this.cls], places = [];
    for (const word of words) {
      const ids = this.wordIds(word).slice(0, length - tokens.length);
      places.push(ids.map((_, i) => tokens.length + i));
      tokens.push(...ids);
    }
    return {words, tokens, places};
  }
}

// the model ---------------------------------------------------------------------------------------------------------

// A number of fp16: a sign, five bits of exponent, ten of fraction; the last exponent is that of infinity and nan.
function fromHalf(half) {
  const sign = half >> 15 ? -1 : 1, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent === 31) return NaN;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * fraction / 1024);
}

// fp16 or fp32 in base64 -> {name: Float32Array}; shapes: pairs of name and shape, in the order of the data
function unpackWeights({shapes, bits, data}) {
  const {buffer} = fromBase64(data);
  return splitWeights(shapes, bits === 32 ? new Float32Array(buffer)
    : Float32Array.from(new Uint16Array(buffer), fromHalf));
}

const fromBase64 = data => Uint8Array.from(atob(data), letter => letter.charCodeAt(0));

// All numbers, one after the other -> {name: its own}; shapes: pairs of name and shape, in their order
function splitWeights(shapes, numbers) {
  const weights = {};
  let first = 0;
  for (const [name, shape] of shapes) {
    const size = shape.reduce((a, b) => a * b, 1);
    weights[name] = numbers.subarray(first, first + size);
    first += size;
  }
  return weights;
}

// Numbers of 16 bits, deflated in base64: first the low bytes of all, then their high ones -> Uint16Array
async function inflateNumbers(data) {
  const stream = new Blob([fromBase64(data)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer()), numbers = new Uint16Array(bytes.length / 2);
  for (let i = 0; i < numbers.length; i++) numbers[i] = bytes[i] | bytes[numbers.length + i] << 8;
  return numbers;
}

// Quantised weights: a number each, and a scale a row.
async function inflateWeights({shapes, scales, data}) {
  const weights = splitWeights(shapes, new Int16Array((await inflateNumbers(data)).buffer));
  const scale = new Float32Array(fromBase64(scales).buffer);
  let rowsBefore = 0;
  for (const [name, shape] of shapes) {
    const rows = shape.length > 1 ? shape[0] : 1, numbers = weights[name], width = numbers.length / rows;
    weights[name] = Float32Array.from(numbers, (one, i) => one * scale[rowsBefore + Math.floor(i / width)]);
    rowsBefore += rows;
  }
  return weights;
}

const IMAGE_EPS = 1e-6, TEXT_EPS = 1e-12;        // of LayerNorm: timm's for ViT, and BERT's
const MEAN = [0.48145466, 0.4578275, 0.40821073], STD = [0.26862954, 0.26130258, 0.27577711];   // CLIP's, of pixels

class ALBEF {
  constructor(config, weights) {
    this.config = config;
    this.weights = weights;
  }

  linear(x, name) { return linear(x, this.weights[name + ".weight"], this.weights[name + ".bias"]); }
  norm(x, name, eps) { return layerNorm(x, this.weights[name + ".weight"], this.weights[name + ".bias"], eps); }
  mlp(x, name) { return this.linear(map(this.linear(x, name + ".fc1"), gelu), name + ".fc2"); }

  conv(x, name, kernel, stride, padding) {
    return conv(x, this.weights[name + ".weight"], this.weights[name + ".bias"], kernel, stride, padding);
  }

  // What the source offers to one layer's attention.
  keysValues(source, name) {
    return {keys: this.linear(source, name + ".k"), values: this.linear(source, name + ".v")};
  }

  // Each row of x asks, each row of the source answers: (n, d) -> (n, d). record: takes every head's weights (n, k)
  attention(x, {keys, values}, name, heads, record) {
    const queries = this.linear(x, name + ".q"), y = matrix(x.rows, queries.width), d = y.width / heads;
    for (let h = 0; h < heads; h++) {
      const weights = [];
      for (let i = 0; i < x.rows; i++) {
        const query = row(queries, i).subarray(h * d, (h + 1) * d), scores = new Float32Array(keys.rows);
        for (let k = 0; k < keys.rows; k++) {
          const key = k * keys.width + h * d;
          let score = 0;
          for (let c = 0; c < d; c++) score += query[c] * keys.data[key + c];
          scores[k] = score / Math.sqrt(d);
        }
        const share = softmax(scores), out = row(y, i);
        for (let k = 0; k < keys.rows; k++) {
          const value = k * values.width + h * d;
          for (let c = 0; c < d; c++) out[h * d + c] += share[k] * values.data[value + c];
        }
        weights.push(share);
      }
      if (record) record.push(weights);
    }
    return this.joinHeads(y, name);
  }

  // The heads' outputs, side by side in a row, to what the layer adds: (n, h * d) -> (n, d)
  joinHeads(outputs, name) { return this.linear(outputs, name + ".proj"); }

  // 02: pixels, Uint8 (side, side, 3) -> tokens (1 + n, d), the first of them [CLS].
  encodeImage(pixels) {
    const {image_depth, image_heads} = this.config, encoder = "image_encoder";
    const colours = Float32Array.from(pixels, (value, i) => (value / 255 - MEAN[i % 3]) / STD[i % 3]);
    const patches = this.patchEmbed(matrix(pixels.length / 3, 3, colours), encoder + ".patch_embed");
    let tokens = matrix(1 + patches.rows, patches.width);
    tokens.data.set(this.weights[encoder + ".cls_token"]);
    tokens.data.set(patches.data, patches.width);
    tokens = map(tokens, (value, i) => value + this.weights[encoder + ".pos_embed"][i]);
    for (let i = 0; i < image_depth; i++) {      // pre-norm: attention and MLP each add to what they read
      const block = `${encoder}.blocks.${i}`, normed = this.norm(tokens, block + ".norm1", IMAGE_EPS);
      const seen = this.keysValues(normed, block + ".attn");
      tokens = add(tokens, this.attention(normed, seen, block + ".attn", image_heads));
      tokens = add(tokens, this.mlp(this.norm(tokens, block + ".norm2", IMAGE_EPS), block + ".mlp"));
    }
    return this.norm(tokens, encoder + ".norm", IMAGE_EPS);
  }

  // One big convolution, as the paper has it, or the conv stem: small ones that halve the side, then a residual block.
  patchEmbed(x, name) {
    const {stem, patch_size} = this.config;
    if (stem === "patch") return this.conv(x, name + ".proj", patch_size, patch_size, 0);
    for (let i = 0; 2 ** i < patch_size; i++) x = map(this.conv(x, `${name}.down.${i}.0`, 3, 2, 1), relu);
    const inner = map(this.conv(x, name + ".same.0.0", 3, 1, 1), relu);
    x = map(add(x, this.conv(inner, name + ".same.1.0", 3, 1, 1)), relu);
    return this.norm(x, name + ".norm", IMAGE_EPS);
  }

  // 03: ids -> tokens (l, d), the first of them [CLS].
  encodeText(ids) {
    const {text_width, text_depth, text_heads} = this.config, name = "text_encoder.embeddings";
    const [word, place, type] = ["word", "pos", "type"].map(kind => this.weights[`${name}.${kind}_embed.weight`]);
    let x = matrix(ids.length, text_width);
    x = map(x, (_, i) => {
      const at = Math.floor(i / text_width), k = i % text_width;
      return word[ids[at] * text_width + k] + place[i] + type[k];
    });
    x = this.norm(x, name + ".norm", TEXT_EPS);
    for (let i = 0; i < text_depth; i++) {       // post-norm: the norm comes after each sum
      const layer = `text_encoder.layers.${i}`, seen = this.keysValues(x, layer + ".attn");
      x = this.norm(add(x, this.attention(x, seen, layer + ".attn", text_heads)), layer + ".norm1", TEXT_EPS);
      x = this.norm(add(x, this.mlp(x, layer + ".mlp")), layer + ".norm2", TEXT_EPS);
    }
    return x;
  }

  // 04: [CLS] in the shared space, of unit length. side: "image" or "text"
  feature(tokens, side) {
    const x = this.linear(matrix(1, tokens.width, row(tokens, 0)), side + "_proj").data, length = Math.sqrt(dot(x, x));
    return x.map(value => value / length);
  }

  similarity(imageTokens, textTokens) {
    return dot(this.feature(imageTokens, "image"), this.feature(textTokens, "text"));
  }

  // 06: what the picture offers to every layer of fusion; it is computed once, however many texts are asked.
  imageKeysValues(imageTokens) {
    const patches = rowsFrom(imageTokens, this.config.fuse_cls ? 0 : 1);
    const layers = Array.from({length: this.config.fusion_depth}, (_, i) => `fusion.layers.${i}.cross`);
    return layers.map(layer => this.keysValues(patches, layer));
  }

  // 06: words attend to words, then to the picture: (l, d) -> (l, d). record: takes the cross-attention, layer by layer
  fuse(textTokens, seen, record) {
    const heads = this.config.text_heads;
    let x = textTokens;
    for (let i = 0; i < seen.length; i++) {
      const layer = `fusion.layers.${i}`, read = this.keysValues(x, layer + ".attn"), weights = [];
      x = this.norm(add(x, this.attention(x, read, layer + ".attn", heads)), layer + ".norm1", TEXT_EPS);
      const looked = this.attention(x, seen[i], layer + ".cross", heads, weights);
      x = this.norm(add(x, looked), layer + ".norm_cross", TEXT_EPS);
      x = this.norm(add(x, this.mlp(x, layer + ".mlp")), layer + ".norm2", TEXT_EPS);
      if (record) record.push(weights);
    }
    return x;
  }

  // 06: ITM's log-odds that text and picture belong together; above 0 is a match.
  matchOdds(fused) {
    const [no, yes] = this.linear(matrix(1, fused.width, row(fused, 0)), "match_head").data;
    return yes - no;
  }

  // 07: the probability of every word piece at one place, whose word was masked.
  wordProbabilities(fused, place) {
    const x = map(this.linear(matrix(1, fused.width, row(fused, place)), "word_head.dense"), gelu);
    const table = this.weights["text_encoder.embeddings.word_embed.weight"];     // the word embeddings, once more
    return softmax(linear(this.norm(x, "word_head.norm", TEXT_EPS), table, this.weights["word_head.bias"]).data);
  }
}
