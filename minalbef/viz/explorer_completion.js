// The sentence box: completes the word at the cursor from the words that the model knows.
"use strict";

let offered = [], current = 0;
function offer() {
  const input = $("text"), before = input.value.slice(0, input.selectionStart), begun = before.match(/[a-z]+$/i)?.[0];
  const lower = begun?.toLowerCase();
  // a whole word is left alone: Tab after "cat" must not make it "cats"
  offered = begun && !known.has(lower) ? [...known].filter(one => one.startsWith(lower)).slice(0, 6) : [];
  current = 0;
  showOffer();
}
function showOffer() {
  $("completions").hidden = !offered.length;
  $("text").setAttribute("aria-expanded", String(offered.length > 0));
  $("text").setAttribute("aria-activedescendant", offered.length ? `completion-${current}` : "");
  $("completions").replaceChildren(...offered.map((one, i) => make("li", {
    id: `completion-${i}`, role: "option", "aria-selected": String(i === current),
    onpointerdown: event => { event.preventDefault(); current = i; complete(); }}, one)));
}
function complete() {
  const input = $("text"), end = input.selectionStart;
  const before = input.value.slice(0, end).replace(/[a-z]+$/i, offered[current]);
  input.value = before + input.value.slice(end);
  input.setSelectionRange(before.length, before.length);
  offered = [];
  showOffer();
  changed();
}
$("text").oninput = () => { offer(); changed("text"); };
$("text").onblur = () => { offered = []; showOffer(); };
$("text").onkeydown = event => {
  if (!offered.length) return;
  const keys = {ArrowDown: () => current = (current + 1) % offered.length, Enter: complete, Tab: complete,
                ArrowUp: () => current = (current + offered.length - 1) % offered.length, Escape: () => offered = []};
  if (!keys[event.key] || event.key === "Tab" && event.shiftKey) return;
  event.preventDefault();
  keys[event.key]();
  showOffer();
};
