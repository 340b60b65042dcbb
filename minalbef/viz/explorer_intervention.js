// Interventions in the model, the formulas: a head's output set to zero (ablation), or replaced by
// what the plain model computes for the mirror image (activation patching). The panel of both:
// explorer_heads.js.
"use strict";

// The model's attention layers by part: their weights' names, and how many layers and heads.
const PARTS = {
  image: {title: "Image encoder", depth: config.image_depth, heads: config.image_heads,
          weights: layer => `image_encoder.blocks.${layer}.attn`},
  text: {title: "Text encoder", depth: config.text_depth, heads: config.text_heads,
         weights: layer => `text_encoder.layers.${layer}.attn`},
  self: {title: "Fusion: self-attention", depth: config.fusion_depth, heads: config.text_heads,
         weights: layer => `fusion.layers.${layer}.attn`},
  cross: {title: "Fusion: cross-attention", depth: config.fusion_depth, heads: config.text_heads,
          weights: layer => `fusion.layers.${layer}.cross`},
};

// Left and right exchanged. pixels: Uint8 (side, side, 3)
function mirrorImage(pixels) {
  const mirrored = pixels.slice();
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const from = 3 * (y * side + x);
      mirrored.set(pixels.subarray(from, from + 3), 3 * (y * side + side - 1 - x));
    }
  }
  return mirrored;
}

// The model with some heads changed. Each pass that patches is two: first the plain model's for the
// mirror image, whose heads' outputs are recorded, then the one with the changes.
class Intervention extends ALBEF {
  states = new Map();                            // name of an attention -> its heads' states
  outputs = new Map();                           // name of an attention -> the mirror image's
  recording = false;

  // switches: "cross_1_2" -> "off" or "mirror", layer and head counted from 1; other heads stay on
  set(switches) {
    this.states.clear();
    for (const [name, state] of switches) {
      const [part, layer, head] = name.split("_"), {weights, heads} = PARTS[part];
      const attention = weights(layer - 1);
      if (!this.states.has(attention)) this.states.set(attention, new Array(heads).fill("on"));
      this.states.get(attention)[head - 1] = state;
    }
    this.patches = [...switches.values()].includes("mirror");
  }

  joinHeads(outputs, name) {
    if (this.recording) this.outputs.set(name, outputs);
    else this.changeHeads(outputs, name);
    return super.joinHeads(outputs, name);
  }

  // outputs: (n, h * d), a head's in columns of its own
  changeHeads(outputs, name) {
    const states = this.states.get(name) ?? [], wide = outputs.width / states.length;
    for (let i = 0; i < outputs.rows; i++) {
      states.forEach((state, head) => {
        const [first, end] = [head * wide, (head + 1) * wide], to = row(outputs, i);
        if (state === "off") to.fill(0, first, end);
        if (state === "mirror") to.set(row(this.outputs.get(name), i).subarray(first, end), first);
      });
    }
  }

  // The plain model's pass, whose heads' outputs are kept to patch with.
  record(pass) {
    this.recording = true;
    const found = pass();
    this.recording = false;
    return found;
  }

  encodeImage(pixels) {
    if (!this.patches) return super.encodeImage(pixels);
    const mirror = this.record(() => super.encodeImage(mirrorImage(pixels)));
    return {...super.encodeImage(pixels), mirror};
  }

  // A text has no mirror image: here patching changes nothing.
  encodeText(ids) {
    if (!this.patches) return super.encodeText(ids);
    const mirror = this.record(() => super.encodeText(ids));
    return {...super.encodeText(ids), mirror};
  }

  imageKeysValues(image) {
    const layers = super.imageKeysValues(image);
    if (this.patches) layers.mirror = super.imageKeysValues(image.mirror);
    return layers;
  }

  fuse(text, seen, record) {
    if (this.patches) this.record(() => super.fuse(text.mirror, seen.mirror));
    return super.fuse(text, seen, record);
  }
}
