// The stage: draws the scene, and lets pointer and keys change it.
"use strict";

const stage = $("stage"), drawing = stage.getContext("2d");

function pixelCanvas(pixels) {
  const canvas = make("canvas", {width: side, height: side}), shown = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) shown.data.set([...pixels.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  canvas.getContext("2d").putImageData(shown, 0, 0);
  return canvas;
}

function showScene() {
  drawing.imageSmoothingEnabled = !$("pixels").checked;
  if ($("pixels").checked) {
    drawing.drawImage(pixelCanvas(answer.pixels), 0, 0, 480, 480);
  } else {
    drawing.fillStyle = `rgb(${values.colours[scene.background].join()})`;
    drawing.fillRect(0, 0, 480, 480);
    if (photo) drawing.drawImage(photo, 0, 0, 480, 480);
    for (const one of scene.objects) {
      const {left, top, pixels} = painter.square(one), {half} = painter.sprite(one, pixels), cell = values.emoji.cell;
      const wide = pixels * SCALE * cell / (2 * half), place = painter.places.get(one.name);
      const put = (sheet, dx, dy) => {
        drawing.save();
        drawing.beginPath();
        drawing.rect(left * SCALE, top * SCALE, pixels * SCALE, pixels * SCALE);
        drawing.clip();
        drawing.translate((left + pixels / 2 + dx) * SCALE, (top + pixels / 2 + dy) * SCALE);
        drawing.rotate(one.angle * Math.PI / 180);
        drawing.drawImage(sheet, ...place, cell, cell, -wide / 2, -wide / 2, wide, wide);
        drawing.restore();
      };
      const [vendor, finish] = one.style.split("+"), around = finish === "outlined" ? [-1, -0.5, 0, 0.5, 1] : [];
      for (const dy of around) for (const dx of around) put(sheets[one.style], dx, dy);    // a pixel of ink
      put(sheets[finish === "flat" ? one.style : vendor], 0, 0);
    }
  }
  const chosenMap = veil() === "attention" && answer.attention ? [which, layer, head] : null;
  const over = pointedMap() ?? chosenMap;
  if (over) drawVeil(drawing, lookOf(answers[over[0]], over[1], over[2]), 480);
  else if (isLit() && answer.attention) drawVeil(drawing, meanLook(), 480);
  if (veil() === "occlusion" && occlusion?.done) drawVeil(drawing, occlusion.changes[0], 480);
  const busy = veil() === "occlusion" ? "Blanking one patch after the other …" : "";
  if (!occlusion?.done) $("occlusion").textContent = busy;
  showChosen();
}

const handles = ({left, top, pixels}) => ({resize: [(left + pixels) * SCALE, (top + pixels) * SCALE],
                                           turn: [(left + pixels / 2) * SCALE, Math.max(14, top * SCALE - 22)]});

function showChosen() {
  const one = scene.objects[chosen];
  if (one && veil() === "none" && !isLit() && !pointedMap()) {
    const square = painter.square(one), wide = square.pixels * SCALE;
    for (const [colour, width] of [["#ffffff", 4], ["#0072b2", 2]]) {          // two colours read on any background
      drawing.strokeStyle = colour;
      drawing.lineWidth = width;
      drawing.strokeRect(square.left * SCALE, square.top * SCALE, wide, wide);
      for (const [x, y] of Object.values(handles(square))) {
        drawing.beginPath();
        drawing.arc(x, y, 8, 0, 7);
        drawing.fillStyle = "#ffffff";
        if (width === 2) drawing.fill();
        drawing.stroke();
      }
    }
  }
  const band = (at, low, high, between) => at < 0.4 ? low : at > 0.6 ? high : between;
  const place = ({x, y}) => band(y, "top ", "bottom ", "") + band(x, "left", "right", "middle");
  stage.setAttribute("aria-label", `the image: ${scene.objects.map(one => `${one.name}, ${place(one)}`).join("; ")
    || "no object"}; ${scene.photo ? "your own image" : scene.background} behind`);
  const focus = [...$("things").children].indexOf(document.activeElement);
  $("things").replaceChildren(...scene.objects.map((one, i) => make("button", {
    "aria-pressed": String(i === chosen), onclick: () => { chosen = i; showScene(); }}, one.name)));
  $("things").children[focus]?.focus();
  $("chosen").disabled = $("draw-curve").disabled = !one;
  for (const name of ["x", "y", "size", "angle"]) $(name).value = one ? one[name] : 0;
  $("style").replaceChildren(...styles.filter(style => one && !vendors[style].missing.includes(one.name))
    .map(style => make("option", {selected: style === one.style.split("+")[0]}, style)));
  $("finish").value = one?.style.match(/[+].*/)?.[0] ?? "";
  $("background").value = scene.background;
  $("photo-off").hidden = !scene.photo;
}

// Changes the chosen object, held inside the picture.
function alter(changes) {
  const one = Object.assign(scene.objects[chosen] ?? {}, changes);
  one.size = clamp(one.size, 0.1, 0.7);
  for (const axis of ["x", "y"]) one[axis] = clamp(one[axis], one.size / 2, 1 - one.size / 2);
  one.angle = Math.round((one.angle + 540) % 360 - 180);
  for (const name of ["x", "y", "size"]) one[name] = round(one[name]);
  changed(`${chosen} ${Object.keys(changes)}`);
}

function remove() {
  scene.objects.splice(chosen, 1);
  chosen = Math.max(0, chosen - 1);
  changed();
}

let drag = null;
const at = event => {
  const box = stage.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
};
stage.addEventListener("pointerdown", event => {
  const [x, y] = at(event), one = scene.objects[chosen];
  const finger = 22 / stage.getBoundingClientRect().width;       // half of 44 pixels
  const away = ([u, v]) => Math.hypot(x - u / 480, y - v / 480);
  const near = one && Object.entries(handles(painter.square(one))).find(([_, place]) =>
    away(place) < Math.min(finger, away([480 * one.x, 480 * one.y])));
  const under = scene.objects.findLastIndex(one =>
    Math.max(Math.abs(x - one.x), Math.abs(y - one.y)) < Math.max(finger, one.size / 2));
  if (near) drag = {way: near[0]};
  else if (under >= 0) {
    chosen = under;
    drag = {way: "move", dx: scene.objects[under].x - x, dy: scene.objects[under].y - y};
  }
  lastKind = "";
  if (drag) stage.setPointerCapture(event.pointerId);
  showScene();
});
stage.addEventListener("pointermove", event => {
  if (!drag) return;
  const [x, y] = at(event), one = scene.objects[chosen];
  if (drag.way === "move") alter({x: x + drag.dx, y: y + drag.dy});
  else if (drag.way === "resize") alter({size: 2 * Math.max(x - one.x, y - one.y)});
  else alter({angle: Math.atan2(x - one.x, one.y - y) * 180 / Math.PI});
});
for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => drag = null);

stage.addEventListener("keydown", event => {
  const one = scene.objects[chosen], step = (event.shiftKey ? 4 : 1) / side;
  if (!one || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    ArrowLeft: () => alter({x: one.x - step}), ArrowRight: () => alter({x: one.x + step}),
    ArrowUp: () => alter({y: one.y - step}), ArrowDown: () => alter({y: one.y + step}),
    "+": () => alter({size: one.size + 1 / side}), "=": () => alter({size: one.size + 1 / side}),
    "-": () => alter({size: one.size - 1 / side}),
    "[": () => alter({angle: one.angle - 5}), "]": () => alter({angle: one.angle + 5}),
    n: () => { chosen = (chosen + 1) % scene.objects.length; showScene(); }, Delete: remove, Backspace: remove};
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
