"use strict";
// Text of models enters the page by textContent alone: it is shown, never run.
(async () => {
  const $ = (id) => document.getElementById(id);
  const numbers = [$("aligned"), $("coherent")];
  const { answers, letters, guideline, progress } = await (await fetch("pile")).json();
  for (const answer of answers) answer.draft = [...answer.mine];
  let place = answers.findIndex((answer) => !answer.mine.length);
  if (place < 0) place = answers.length;

  const radios = Object.entries(letters).map(([letter, kind]) => {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    const key = document.createElement("kbd");
    radio.type = "radio";
    radio.name = "category";
    radio.value = kind;
    key.textContent = letter;
    label.append(radio, key, ` ${kind}`);
    $("categories").append(label);
    return radio;
  });
  const category = () => radios.find((radio) => radio.checked)?.value ?? "";
  const sound = (input) => /^\d{1,3}$/.test(input.value) && Number(input.value) <= 100;
  const wanting = () => numbers.find((input) => !sound(input));

  const keepDraft = () => {
    if (place < answers.length) answers[place].draft = [...numbers.map((input) => input.value), category()];
  };
  const go = (to, fault = "") => {
    place = Math.max(0, Math.min(answers.length, to));
    const answer = answers[place];
    $("card").hidden = $("reading").hidden = $("save").hidden = $("forward").hidden = !answer;
    $("end").hidden = Boolean(answer);
    $("fault").textContent = fault;
    if (!answer) {
      const left = answers.filter((one) => !one.mine.length).length;
      $("end").textContent = left ? `The end. ${left} unread: ← goes back to them.` : "The end. All are read and saved.";
      return;
    }
    $("prompt").textContent = answer.prompt;
    $("text").textContent = answer.text;
    numbers.forEach((input, k) => (input.value = answer.draft[k] ?? ""));
    radios.forEach((radio) => (radio.checked = radio.value === answer.draft[2]));
    numbers[0].focus();
    numbers[0].select();
    scrollTo(0, 0);
  };
  const move = (by) => {
    keepDraft();
    go(place + by);
  };

  let saving = Promise.resolve(); // one after another, in the order of reading
  const save = () => {
    const input = wanting();
    if (input || !category()) {
      $("fault").textContent = input ? `${input.id}: a whole number from 0 to 100 is needed` : "category: press its letter";
      (input ?? radios[0]).focus();
      return;
    }
    keepDraft();
    const at = place;
    const [aligned, coherent, kind] = answers[at].draft;
    saving = saving.then(async () => {
      try {
        const reply = await fetch("reading", {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ place: at, aligned, coherent, category: kind }),
        });
        const said = await reply.json();
        if (!reply.ok) throw new Error(said.error);
        answers[at].mine = [aligned, coherent, kind];
        $("progress").textContent = said.progress;
        if (place === answers.length) go(place);
      } catch (error) {
        keepDraft();
        go(at, `not saved: ${error instanceof TypeError ? "the tool has ended" : error.message}`);
      }
    });
    go(place + 1);
  };

  const onEnter = (target) => {
    if (target === numbers[0] || (target === numbers[1] && !category())) {
      const next = target === numbers[0] ? numbers[1] : radios[0];
      next.focus();
    } else save();
  };
  const press = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || $("guide").open) return;
    const { key, target } = event;
    const answer = place < answers.length;
    if (key === "ArrowLeft") move(-1);
    else if (key === "ArrowRight") move(1);
    else if (key === "?") $("guide").showModal();
    else if (answer && key in letters) {
      radios.find((radio) => radio.value === letters[key]).checked = true;
      save();
    } else if (answer && key === "Enter" && target.tagName !== "BUTTON") onEnter(target);
    else if (/^\d$/.test(key) && answer && !numbers.includes(target)) {
      (wanting() ?? numbers[0]).focus(); // the digit itself lands there
      return;
    } else return;
    event.preventDefault();
  };
  document.addEventListener("keydown", press);
  $("reading").addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  $("back").addEventListener("click", () => move(-1));
  $("forward").addEventListener("click", () => move(1));
  $("open-guide").addEventListener("click", () => $("guide").showModal());
  $("guideline").textContent = guideline.replace(/([^\n|])\n(?=[^\n|])/g, "$1 "); // a paragraph is one line, a table's row stays one
  $("progress").textContent = progress;
  go(place);
})();
