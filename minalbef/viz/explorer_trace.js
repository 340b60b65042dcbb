// A forward pass that keeps what its layers compute, by the names of their weights.
"use strict";

class Trace extends ALBEF {
  inputs = new Map();                            // name of a LayerNorm -> its input, (n, d)
  outputs = new Map();                           // name of an attention or MLP -> its output (n, d)
  shares = new Map();                            // name of an attention -> by head its weights

  norm(x, name, eps) {
    this.inputs.set(name, x);
    return super.norm(x, name, eps);
  }

  attention(x, seen, name, heads, record = []) {
    const output = super.attention(x, seen, name, heads, record);
    this.outputs.set(name, output);
    this.shares.set(name, record);
    return output;
  }

  mlp(x, name) {
    const output = super.mlp(x, name);
    this.outputs.set(name, output);
    return output;
  }

  // -> {image, text, fused}: the tokens of each encoder; tokens: ids
  run(pixels, tokens) {
    const image = this.encodeImage(pixels), text = this.encodeText(tokens);
    return {image, text, fused: this.fuse(text, this.imageKeysValues(image))};
  }
}
