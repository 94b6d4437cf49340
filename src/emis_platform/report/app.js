"use strict";
// Text of models enters the page by textContent alone: it is shown, never run.
(() => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, cls, text) => {
    const node = document.createElement(tag);
    if (cls) node.className = cls;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // Claims: by verdict, long lists folded.
  const claims = [...document.querySelectorAll("#claims .claim")];
  const verdicts = [...document.querySelectorAll(".by-verdict")];
  const showClaims = () => {
    const on = new Set(verdicts.filter((box) => box.checked).map((box) => box.value));
    claims.forEach((claim) => (claim.hidden = !on.has(claim.dataset.verdict)));
  };
  verdicts.forEach((box) => box.addEventListener("change", showClaims));
  document.querySelectorAll("table.parts").forEach((table) => {
    const more = [...table.querySelectorAll("tr.more")];
    if (!more.length) return;
    const button = make("button", "fold");
    button.type = "button";
    const fold = (folded) => {
      more.forEach((row) => (row.hidden = folded));
      button.textContent = folded ? `${more.length} more` : "fewer";
      button.setAttribute("aria-expanded", String(!folded));
    };
    button.addEventListener("click", () => fold(!more[0].hidden));
    fold(true);
    table.after(button);
  });

  // Effects: filter and sort.
  const body = document.querySelector("#effects-table tbody");
  const rows = [...body.rows];
  const filter = () => {
    const subject = $("by-subject").value.trim().toLowerCase();
    const measure = $("by-measure").value;
    const steered = $("with-steered").checked;
    let shown = 0;
    rows.forEach((row) => {
      row.hidden =
        !row.cells[0].textContent.toLowerCase().includes(subject) ||
        (measure !== "" && row.cells[1].textContent !== measure) ||
        (!steered && row.dataset.steered === "1");
      shown += !row.hidden;
    });
    $("effects-count").textContent = `${shown} of ${rows.length}`;
  };
  ["by-subject", "by-measure", "with-steered"].forEach((id) => $(id).addEventListener("input", filter));
  document.querySelectorAll("#effects-table .sort").forEach((button) => {
    button.addEventListener("click", () => {
      const head = button.parentElement;
      const column = head.cellIndex;
      const down = head.getAttribute("aria-sort") === "ascending";
      document.querySelectorAll("#effects-table th[aria-sort]").forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const numeric = "v" in (rows[0]?.cells[column].dataset ?? {});
      rows.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (numeric && (x === "" || y === "")) return (x === "") - (y === "");
        const order = numeric ? x - y : x.localeCompare(y);
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
  filter();

  // Transcripts.
  const data = JSON.parse($("data").textContent);
  const byQuestion = data.questions.map(() => []);
  data.answers.forEach((answer) => byQuestion[answer.q].push(answer));
  const plain = data.subjects.map((s, i) => [s, i]).filter(([s]) => !s.steered).map(([, i]) => i);
  let chosen = new Set(plain.slice(0, 8));
  let current = 0;
  let listed = [];

  const isBad = (answer) => Boolean(answer.j[0] && answer.j[0][3]);
  const shows = (answer, find) =>
    chosen.has(answer.s) &&
    (!$("t-bad").checked || isBad(answer)) &&
    (find === "" || answer.t.toLowerCase().includes(find) || data.questions[answer.q].text.toLowerCase().includes(find));

  const sets = [...new Set(data.questions.map((q) => q.set))];
  ["", ...sets].forEach((set) => {
    const option = make("option", "", set || "any");
    option.value = set;
    $("t-set").append(option);
  });

  const groups = [["questioned as they are", false], ["steered", true]];
  groups.forEach(([label, steered]) => {
    const some = data.subjects.map((s, i) => [s, i]).filter(([s]) => s.steered === steered);
    if (!some.length) return;
    const group = make("fieldset");
    group.append(make("legend", "", label));
    some.forEach(([subject, i]) => {
      const line = make("label");
      const box = make("input");
      box.type = "checkbox";
      box.dataset.s = i;
      box.addEventListener("change", () => {
        box.checked ? chosen.add(i) : chosen.delete(i);
        list();
      });
      line.append(box, " ", subject.name);
      group.append(line);
    });
    $("t-subjects").append(group);
  });

  const badge = (judge, verdict) => {
    if (!verdict) return make("span", "badge quiet", `${judge}: not judged`);
    const [score, coherent, reason, bad] = verdict;
    const line = make("span", bad ? "badge bad" : "badge");
    const viewed = score !== null || bad !== null || (reason === null && coherent !== null); // some judges give no score
    const said = !viewed ? `missing (${reason ?? "no reason"})` : score !== null ? `score ${score}` : bad === null ? "no verdict" : "a verdict";
    const sense = coherent === null ? "coherence missing" : `coherent ${coherent}`;
    const end = bad ? " → misaligned" : bad === false ? (score === null ? " → not misaligned" : "") : viewed ? " → not counted" : "";
    line.textContent = `${judge}: ${said}, ${sense}${end}`;
    return line;
  };

  const show = () => {
    const question = data.questions[current];
    const find = $("t-find").value.trim().toLowerCase();
    $("t-answers").replaceChildren();
    if (!question || !listed.length) {
      $("t-text").textContent = data.questions.length ? "Nothing fits these filters." : "No transcripts.";
      return;
    }
    $("t-text").textContent = question.text;
    const by = new Map();
    byQuestion[current].filter((a) => shows(a, find)).forEach((a) => by.set(a.s, [...(by.get(a.s) ?? []), a]));
    by.forEach((answers, s) => {
      const column = make("div", "subject");
      column.append(make("h4", "", data.subjects[s].name));
      answers.forEach((answer) => {
        const box = make("article", isBad(answer) ? "answer misaligned" : "answer");
        box.append(make("p", "said", answer.t === "" ? "(nothing)" : answer.t));
        const foot = make("footer");
        data.judges.forEach((judge, k) => foot.append(badge(judge, answer.j[k])));
        const cut = answer.end === "length" ? ", cut at the limit" : "";
        foot.append(make("span", "badge quiet", `sample ${answer.k}, ${answer.n} tokens${cut}`));
        box.append(foot);
        column.append(box);
      });
      $("t-answers").append(column);
    });
  };

  const remember = () => {
    const question = data.questions[current];
    if (!question) return;
    const parts = new URLSearchParams({ q: `${question.set}/${question.id}`, s: [...chosen].map((s) => data.subjects[s].name).join(",") });
    history.replaceState(null, "", `#${parts}`);
  };

  const list = (keep = false) => {
    const find = $("t-find").value.trim().toLowerCase();
    const set = $("t-set").value;
    listed = data.questions.map((_, i) => i).filter((i) => (set === "" || data.questions[i].set === set) && byQuestion[i].some((a) => shows(a, find)));
    $("t-question").replaceChildren(
      ...listed.map((i) => {
        const option = make("option", "", `${data.questions[i].set}: ${data.questions[i].text}`);
        option.value = i;
        return option;
      }),
    );
    if (!listed.includes(current)) current = listed[0] ?? 0;
    $("t-question").value = current;
    document.querySelectorAll("#t-subjects input").forEach((box) => (box.checked = chosen.has(Number(box.dataset.s))));
    const names = [...chosen].map((s) => data.subjects[s].name);
    $("t-chosen").textContent = names.length > 6 ? `${names.length} of ${data.subjects.length}` : names.join(", ") || "none";
    $("t-count").textContent = `${listed.length} of ${data.questions.length} questions.`;
    show();
    if (!keep) remember();
  };

  const step = (by) => {
    const at = listed.indexOf(current);
    const next = listed[at + by];
    if (next === undefined) return;
    current = next;
    $("t-question").value = current;
    show();
    remember();
  };

  const open = () => {
    const parts = new URLSearchParams(location.hash.slice(1));
    const asked = parts.get("q");
    if (!asked) return false;
    const found = data.questions.findIndex((q) => `${q.set}/${q.id}` === asked || q.id === asked);
    const names = (parts.get("s") ?? "").split(",");
    const wanted = data.subjects.map((s, i) => [s.name, i]).filter(([name]) => names.includes(name)).map(([, i]) => i);
    if (wanted.length) chosen = new Set(wanted);
    if (found < 0) return false;
    $("t-set").value = "";
    $("t-find").value = "";
    $("t-bad").checked = false;
    current = found;
    list(true);
    $("transcripts").scrollIntoView();
    return true;
  };

  $("t-set").addEventListener("input", () => list());
  $("t-find").addEventListener("input", () => list());
  $("t-bad").addEventListener("input", () => list());
  $("t-question").addEventListener("input", () => {
    current = Number($("t-question").value);
    show();
    remember();
  });
  $("t-back").addEventListener("click", () => step(-1));
  $("t-on").addEventListener("click", () => step(1));
  window.addEventListener("hashchange", open);
  document.addEventListener("keydown", (event) => {
    const box = $("transcripts").getBoundingClientRect();
    const reading = box.top < innerHeight && box.bottom > 0;
    if (!reading || event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
    if (event.key === "j" || event.key === "ArrowRight") step(1);
    if (event.key === "k" || event.key === "ArrowLeft") step(-1);
  });
  if (!open()) list(true);
})();
