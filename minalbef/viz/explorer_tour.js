// The guided tour: eight steps, each with a prediction to make before the model answers. What is right is asked of the
// model there and then, so that the tour is true of any run; what is said afterwards is true of how they are trained.
// Figures of the shipped model are those of notebooks/experiments/stress.json.
"use strict";

const FOURTH = pick("dog", 3);
const pairOf = background => () => ({objects: [thing(ONE, 0.25, 0.5), thing(OTHER, 0.75, 0.5)], background});
const matchOf = sentence => mind.ask(mind.look(painter.paint(scene)), sentence);

// A step: title, scene() and sentence to begin with, text, question, options, and answer(): which of the options is
// right, and what there is to learn. word: one to mask with the answer
const STEPS = [{
  title: "Which of the two numbers reads “left”?",
  scene: pairOf("yellow"), sentence: `${a(ONE)} left of ${a(OTHER)}`,
  text: "This sentence is true of the image. Match and similarity are high.",
  question: "Now “left” becomes “right”, and the sentence is false. What falls below half of what it was?",
  options: ["both", "only match", "only similarity", "neither"],
  answer() {
    const [before, after] = [matchOf(text()), matchOf(opposite(text()))];
    const falls = kind => after[kind] < before[kind] / 2;
    setText(opposite(text()));
    return [falls("match") ? falls("similarity") ? 0 : 1 : falls("similarity") ? 2 : 3,
            `Match goes from ${share(before.match)} to ${share(after.match)}, similarity from `
            + `${before.similarity.toFixed(2)} to ${after.similarity.toFixed(2)}. Similarity compares two vectors, `
            + "made without a look at each other: the same objects are in both sentences, and that is nearly all it "
            + "tells. Fusion reads word by word with the image in sight."];
  },
}, {
  title: "Where does it change its mind?",
  scene: () => ({objects: [thing(ONE, 0.2, 0.25, 0.25), thing(OTHER, 0.5, 0.72, 0.25)], background: "white"}),
  sentence: `${a(ONE)} left of ${a(OTHER)}`,
  text: `The ${ONE} will move from left to right, above the ${OTHER}, which stands in the middle.`,
  question: "Where does the match of “left of” fall below one half?",
  options: ["clearly before the middle", "in the middle (0.45 to 0.55)", "clearly after it", "never"],
  async answer() {
    const [line] = await drawCurve(25);
    const where = line.find((one, i) => one.match < 0.5 && i)?.where ?? 1;
    return [where === 1 ? 3 : where < 0.45 ? 0 : where <= 0.55 ? 1 : 2,
            (where === 1 ? "It never does. " : `At ${where.toFixed(2)} of the width. `)
            + "The curve is below. No label ever said what left means: the model has seen images with sentences that "
            + "are true or false of them. Move the chosen object up or to another place and draw the curve again."];
  },
}, {
  title: "True, but not the whole truth",
  scene: pairOf("yellow"), sentence: a(ONE),
  text: `The sentence is “${a(ONE)}”, and there is one.`,
  question: "How sure is the model that sentence and image belong together?",
  options: ["over 0.9", "between 0.5 and 0.9", "below 0.5"],
  answer() {
    const {match} = matchOf(text()), whole = matchOf(`${a(ONE)} and ${a(OTHER)}`).match;
    return [match > 0.9 ? 0 : match >= 0.5 ? 1 : 2,
            `${share(match)}; for “${a(ONE)} and ${a(OTHER)}” it is ${share(whole)}. The question was never “is it `
            + "true?” but “does it belong to this image?”, and captions seldom leave an object out. A probability "
            + "means what training made it mean."];
  },
}, {
  title: "Whose colour is it?",
  scene: pairOf("blue"), sentence: `a blue ${OTHER} and ${a(ONE)}`,
  text: `The background is blue, the ${OTHER} is not. The sentence says “a blue ${OTHER}”.`,
  question: "Does the model accept it (match over one half)?",
  options: ["yes", "no"],
  answer() {
    const {match} = matchOf(text()), red = matchOf(`a red ${OTHER} and ${a(ONE)}`).match;
    return [match > 0.5 ? 0 : 1,
            `${share(match)}; with “red” in place of “blue” ${share(red)}. Its captions name the colour of `
            + "the background; that objects have colours, too, it saw in minimal pairs alone, late in training. The "
            + "shipped model accepts such a sentence in 20 of 500 drawn scenes, and one with a colour that is nowhere "
            + "in 17."];
  },
}, {
  title: "Something that looks alike",
  scene: pairOf("green"), sentence: `${a(ONE)} left of ${a(FOURTH)}`,
  text: `There is no ${FOURTH}, there is ${a(OTHER)}. The sentence says “${FOURTH}”.`,
  question: "Does the model notice (match below one half)?",
  options: ["yes", "no"],
  answer() {
    const {match} = matchOf(text()), alone = matchOf(a(FOURTH)).match;
    return [match < 0.5 ? 0 : 1,
            `${share(match)}; for “${a(FOURTH)}” alone it is ${share(alone)}. So what it takes for ${a(FOURTH)} hangs `
            + "on the rest of the sentence, too. Change the background, the style and the animal, and look for the "
            + "pattern. In 500 drawn scenes of an apple left of a cat, the shipped model accepts “an apple left of a "
            + "dog” in 217, and “an apple left of a rocket” in 4."];
  },
}, {
  title: "How many?",
  scene: () => ({objects: [thing(ONE, 0.2, 0.3), thing(ONE, 0.5, 0.7), thing(ONE, 0.8, 0.3)], background: "white"}),
  sentence: `three ${plural(ONE)}`,
  text: `You see three ${plural(ONE)}.`,
  question: "Which sentence does the model prefer?",
  options: [`one ${ONE}`, `two ${plural(ONE)}`, `three ${plural(ONE)}`],
  answer() {
    const found = this.options.map(sentence => matchOf(sentence).match);
    return [found.indexOf(Math.max(...found)),
            `${this.options.map((sentence, i) => `${sentence}: ${share(found[i])}`).join("; ")}. Three of a kind `
            + "and nothing else are rare in its training, but for minimal pairs towards its end. Add a fourth one, or "
            + "one of another kind, and count again. In 500 drawn scenes of three alike, the shipped model prefers "
            + "“two” to “three” in 267."];
  },
}, {
  title: "Upside down",
  scene: () => ({objects: [thing(OTHER, 0.5, 0.5, 0.4, 180)], background: "white"}),
  sentence: a(OTHER),
  text: `In training no drawing was turned by more than 14 degrees. This ${OTHER} stands on its head.`,
  question: "Does the model still know it (match over one half)?",
  options: ["yes", "no"],
  async answer() {
    const {match} = matchOf(text()), some = names.slice(0, 20);
    const accepted = async angle => {
      let count = 0;
      for (const name of some) {
        const pixels = painter.paint({objects: [thing(name, 0.5, 0.5, 0.4, angle)], background: "white"});
        count += mind.ask(mind.see(pixels), a(name)).match > 0.5;
        await new Promise(done => setTimeout(done));
      }
      return count;
    };
    return [match > 0.5 ? 0 : 1, `${share(match)}. Of ${some.length} kinds it accepts ${await accepted(0)} upright and `
            + `${await accepted(180)} on their heads. For some, what turns with them, such as their colours, seems `
            + "to be enough. Choose other objects and turn them by the handle."];
  },
}, {
  title: "One model, two opinions",
  scene: pairOf("yellow"), sentence: `${a(ONE)} left of ${a(OTHER)}`, word: 2,
  text: "In the first step, match knew left from right. Now “left” is masked, and the model guesses which word it was.",
  question: "How much does it give to “left”?",
  options: ["over 0.9", "between 0.6 and 0.9", "below 0.6"],
  answer() {
    const [{likely}] = mind.guess(mind.look(painter.paint(scene)), text(), 2), match = matchOf(text()).match;
    const p = likely.find(([piece]) => piece === "left")?.[1] ?? 0;
    return [p > 0.9 ? 0 : p >= 0.6 ? 1 : 2,
            `${p.toFixed(2)}, though the match of the sentence is ${share(match)}. The same layers serve both, but `
            + "each has a head and a loss of its own, and the extra loss on minimal pairs, which teaches relations, is "
            + "one of match alone. What a model knows depends on how you ask."];
  },
}];

let at_step = 0;

function setText(sentence) {
  $("text").value = sentence;
  changed();
}

function showStep() {
  const step = STEPS[at_step];
  Object.assign(scene, {photo: null}, step.scene());
  photo = null;
  setInside(mind);                               // it is about the first model, at its end
  setStep(END);
  setSwitches(new Map());
  chosen = 0;
  word = -1;
  document.querySelector("[name=veil][value=none]").checked = true;
  setText(step.sentence);
  $("tour").hidden = false;
  $("tour-title").textContent = `${at_step + 1} of ${STEPS.length}: ${step.title}`;
  $("tour-text").textContent = step.text;
  $("tour-question").textContent = step.question;
  $("tour-answer").textContent = $("curve-note").textContent = "";
  $("curve").replaceChildren();
  $("tour-options").replaceChildren(...step.options.map((option, i) =>
    make("button", {onclick: () => predict(i)}, option)));
  $("tour-back").disabled = !at_step;
  $("tour-next").disabled = true;                // first the prediction
  $("tour-next").textContent = at_step === STEPS.length - 1 ? "Finish" : "Next";
  document.documentElement.classList.toggle("guessing", true);
  $("tour-title").focus();
}

async function predict(i) {
  const step = STEPS[at_step], buttons = [...$("tour-options").children];
  buttons.forEach((button, k) => { button.disabled = true; button.setAttribute("aria-pressed", String(k === i)); });
  document.documentElement.classList.remove("guessing");
  $("tour-answer").textContent = "Asking the model …";
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));      // it is painted
  const [right, said] = await step.answer();
  if (step !== STEPS[at_step]) return;
  if (step.word !== undefined) { word = step.word; changed(); }
  $("tour-answer").textContent = (i === right ? "As you said. " : `You said “${step.options[i]}”; it is `
    + `“${step.options[right]}”. `) + said;
  $("tour-next").disabled = false;
  $("tour-next").scrollIntoView({block: "nearest"});
}

function endTour() {
  $("tour").hidden = true;
  document.documentElement.classList.remove("guessing");
  $("tour-start").focus();
}

function beginTour() {
  $("tour-start").onclick = () => { at_step = 0; showStep(); };
  $("tour-back").onclick = () => { at_step--; showStep(); };
  $("tour-next").onclick = () => { if (++at_step < STEPS.length) showStep(); else endTour(); };
  $("tour-end").onclick = endTour;
}
