// Scenes to pixels, as scenes/painting.py paints them with PIL: the model must see here what it saw in training. A
// browser's own resizing differs from PIL's, and from browser to browser.
"use strict";

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
const roundEven = x => Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);      // Python's round

// {width, height, data: RGBA}
const image = (width, height) => ({width, height, data: new Uint8ClampedArray(4 * width * height)});

// Every colour as f(value, opacity, channel), in place.
function recolour(picture, f) {
  const {data} = picture;
  for (let i = 0; i < data.length; i += 4) for (let c = 0; c < 3; c++) data[i + c] = f(data[i + c], data[i + 3], c);
  return picture;
}

// PIL turns and resizes colours that are multiplied by their opacity, and divides them again, rounded as here.
const premultiply = picture => recolour(picture, (value, opacity) => Math.round(value * opacity / 255));
const divide = picture => recolour(picture, (value, opacity) => opacity ? Math.floor(255 * value / opacity) : value);

// The part of a picture in a box, empty where the box sticks out.
function crop(from, left, top, width, height) {
  const to = image(width, height);
  for (let y = Math.max(0, -top); y < Math.min(height, from.height - top); y++) {
    for (let x = Math.max(0, -left); x < Math.min(width, from.width - left); x++) {
      const at = 4 * ((y + top) * from.width + x + left);
      to.data.set(from.data.subarray(at, at + 4), 4 * (y * width + x));
    }
  }
  return to;
}

// PIL's rotate with expand, bicubic: clockwise by degrees, in a frame that holds all corners.
function rotate(from, degrees) {
  const round = value => Math.round(value * 1e15) / 1e15, turn = degrees * Math.PI / 180;
  const [cos, sin] = [round(Math.cos(turn)), round(Math.sin(turn))], {width, height} = from;
  const corners = [[0, 0], [width, 0], [width, height], [0, height]].map(([x, y]) => [x - width / 2, y - height / 2]);
  const span = values => Math.ceil(Math.max(...values)) - Math.floor(Math.min(...values));
  const to = image(span(corners.map(([x, y]) => cos * x + sin * y + width / 2)),
                   span(corners.map(([x, y]) => -sin * x + cos * y + height / 2)));
  const cubic = (a, b, c, d, t) => b + t * (c - a + t * (2 * (a - b) + c - d + t * (b - a + d - c)));
  for (let y = 0; y < to.height; y++) {
    for (let x = 0; x < to.width; x++) {
      const dx = x + 0.5 - to.width / 2, dy = y + 0.5 - to.height / 2;
      const u = cos * dx + sin * dy + width / 2, v = -sin * dx + cos * dy + height / 2;
      if (u < 0 || v < 0 || u >= width || v >= height) continue;
      const left = Math.floor(u - 0.5), top = Math.floor(v - 0.5);
      for (let c = 0; c < 4; c++) {
        const lines = [-1, 0, 1, 2].map(j => {
          const line = clamp(top + j, 0, height - 1) * width;
          const at = [-1, 0, 1, 2].map(i => from.data[4 * (line + clamp(left + i, 0, width - 1)) + c]);
          return cubic(...at, u - 0.5 - left);
        });
        to.data[4 * (y * to.width + x) + c] = Math.trunc(clamp(cubic(...lines, v - 0.5 - top), 0, 255));
      }
    }
  }
  return to;
}

// PIL's bicubic resize: where it shrinks, the filter widens, so that no pixel is skipped. First across, then down.
function resize(from, width, height) {
  const near = x => (1.5 * x - 2.5) * x * x + 1, far = x => ((-0.5 * x + 2.5) * x - 4) * x + 2;
  const filter = x => x < 1 ? near(x) : x < 2 ? far(x) : 0;
  const weigh = (before, after) => Array.from({length: after}, (_, i) => {
    const step = before / after, scale = Math.max(step, 1), centre = (i + 0.5) * step;
    const first = Math.max(0, Math.trunc(centre - 2 * scale + 0.5));
    const last = Math.min(before, Math.trunc(centre + 2 * scale + 0.5));
    const weights = Array.from({length: last - first}, (_, k) => filter(Math.abs(k + first - centre + 0.5) / scale));
    const sum = weights.reduce((a, b) => a + b, 0);
    return {first, weights: weights.map(value => value / sum)};
  });
  const pass = (source, after, along, across, step, gap, to, toStep, toGap) => {
    weigh(along, after).forEach(({first, weights}, i) => {
      for (let j = 0; j < across; j++) {
        for (let c = 0; c < 4; c++) {
          let sum = 0;
          weights.forEach((weight, k) => sum += weight * source.data[4 * ((first + k) * step + j * gap) + c]);
          to.data[4 * (i * toStep + j * toGap) + c] = Math.floor(sum + 0.5);
        }
      }
    });
    return to;
  };
  const wide = pass(from, width, from.width, from.height, 1, from.width, image(width, from.height), 1, width);
  return pass(wide, height, from.height, width, width, 1, image(width, height), width, 1);
}

// How else a drawing may be made to look: painting.py's FINISHES, which training gives to a share of the drawings.
const INK = [18, 18, 18], flat = value => Math.min(255, (value + 32) >> 6 << 6);
const FINISH = {
  flat: picture => recolour(picture, flat),
  outlined(picture) {                            // ink behind each pixel that is next to the drawing
    const {width, height, data} = picture, to = image(width, height), around = [-1, 0, 1];
    const opacity = (x, y) => data[4 * (clamp(y, 0, height - 1) * width + clamp(x, 0, width - 1)) + 3];
    for (let i = 0; i < width * height; i++) {
      const [x, y] = [i % width, Math.floor(i / width)], front = opacity(x, y);
      const ink = Math.max(...around.flatMap(dy => around.map(dx => opacity(x + dx, y + dy))));
      const behind = ink * (255 - front) / 255, all = front + behind;
      const mixed = INK.map((value, c) => all && Math.round((data[4 * i + c] * front + value * behind) / all));
      to.data.set([...mixed, Math.round(all)], 4 * i);
    }
    return to;
  },
};

class Painter {
  // sheets: {style: RGBA image of its drawings}; cell, columns, objects: of data/emoji/objects.json
  constructor(sheets, {cell, columns, objects}, colours, size) {
    Object.assign(this, {sheets, cell, colours, size, sprites: new Map()});
    const place = i => [i % columns * cell, Math.floor(i / columns) * cell];
    this.places = new Map(objects.map((thing, i) => [thing.name, place(i)]));
  }

  // The turned drawing and half the side of the middle square that holds all of it.
  turned(name, style, angle) {
    const from = crop(this.sheets[style], ...this.places.get(name), this.cell, this.cell);
    const picture = angle % 360 ? divide(rotate(premultiply(from), angle)) : from;
    const x = picture.width / 2, y = picture.height / 2;
    let half = this.cell / 2;
    for (let i = 3; i < picture.data.length; i += 4) {
      if (!picture.data[i]) continue;
      const u = (i >> 2) % picture.width, v = Math.floor((i >> 2) / picture.width);
      half = Math.max(half, x - u, u + 1 - x, y - v, v + 1 - y);
    }
    return {picture, half};
  }

  // A drawing at its size in pixels, with its finish, and half the side of its square before. style: "noto+outlined"
  sprite({name, style, angle}, pixels) {
    const key = [name, style, angle, pixels].join();
    if (!this.sprites.has(key)) {
      const [vendor, finish] = style.split("+");
      const {picture, half} = this.turned(name, vendor, angle), x = picture.width / 2, y = picture.height / 2;
      const left = roundEven(x - half), top = roundEven(y - half);
      const whole = crop(picture, left, top, roundEven(x + half) - left, roundEven(y + half) - top);
      const small = divide(resize(premultiply(whole), pixels, pixels));
      if (this.sprites.size > 5000) this.sprites.clear();
      this.sprites.set(key, {picture: (finish ? FINISH[finish] : same => same)(small), half});
    }
    return this.sprites.get(key);
  }

  // Where an object's square begins, in pixels, and its side.
  square({x, y, size}) {
    const pixels = Math.max(1, roundEven(size * this.size));
    const [left, top] = [x, y].map(at => clamp(roundEven(at * this.size - pixels / 2), 0, this.size - pixels));
    return {left, top, pixels};
  }

  // The scene {objects, background, photo} as the model reads it: Uint8Clamped (size, size, 3). photo: pixels as ground
  paint({objects, background, photo}) {
    const size = this.size, shade = this.colours[background];
    const pixels = photo ? photo.slice() : Uint8ClampedArray.from({length: 3 * size * size}, (_, i) => shade[i % 3]);
    for (const thing of objects) {
      const {left, top, pixels: side} = this.square(thing), {data} = this.sprite(thing, side).picture;
      for (let i = 0; i < side * side; i++) {
        const at = 3 * ((top + Math.floor(i / side)) * size + left + i % side);
        const through = 256 - (data[4 * i + 3] * 257 >> 8);
        for (let c = 0; c < 3; c++) {
          pixels[at + c] = (pixels[at + c] * through >> 8) + Math.floor(data[4 * i + c] * data[4 * i + 3] / 255);
        }
      }
    }
    return pixels;
  }
}
