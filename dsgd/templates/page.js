"use strict";
const shown = cell => cell.dataset.value ?? cell.textContent.trim();
const order = (a, b) => {
  const [x, y] = [Number(a), Number(b)];
  if (a === "" || b === "") return (a === "") - (b === "");
  return isNaN(x) || isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
};
const button = (words, label, act) => {
  const made = document.createElement("button");
  made.type = "button";
  made.append(...words);
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
};
const save = (name, kind, text) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60) + (kind === "text/csv" ? ".csv" : ".svg");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
const quoted = text => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

for (const table of document.querySelectorAll("table")) {
  const rows = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    head.replaceChildren(button([...head.childNodes], "", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const value = row => shown(row.cells[place]);
      const sorted = [...rows.rows].sort((a, b) => {
        const gap = (value(a) === "") - (value(b) === "");
        return gap || (down ? -1 : 1) * order(value(a), value(b));
      });
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      rows.append(...sorted);
    }));
  });
  const name = table.dataset.name;
  const title = document.getElementById(table.getAttribute("aria-labelledby"));
  if (name && title) {
    const csv = () => [table.tHead, rows].flatMap(part => [...part.rows]).map(
      row => [...row.cells].map(cell => quoted(shown(cell))).join(",")).join("\n") + "\n";
    title.append(button(["CSV"], `Save ${name} as CSV`, () => save(name, "text/csv", csv())));
  }
}
for (const figure of document.querySelectorAll("figure")) {
  const drawing = figure.querySelector("svg");
  figure.querySelector("h3").append(button(["SVG"], `Save ${figure.dataset.name} as SVG`, () => {
    const copy = drawing.cloneNode(true);
    const box = drawing.viewBox.baseVal;
    const style = getComputedStyle(document.body);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("width", box.width);
    copy.setAttribute("height", box.height);
    copy.setAttribute("color", style.color);
    copy.setAttribute("style", `background: ${style.backgroundColor}`);
    save(figure.dataset.name, "image/svg+xml", new XMLSerializer().serializeToString(copy));
  }));
}

for (const figure of document.querySelectorAll("figure[data-frames]")) {
  const frames = JSON.parse(figure.dataset.frames);
  const named = name => figure.querySelector(`[id$="-${name}"]`);
  const nodes = [...named("nodes").querySelectorAll("use")];
  const last = frames.names.length - 1;
  if (last < 1 || nodes.length !== frames.colours[last].length) continue;
  const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: last, value: last });
  slider.setAttribute("aria-label", `${figure.dataset.name}, over time`);
  const when = document.createElement("output");
  const said = figure.querySelector("figcaption")?.lastChild;
  const words = said?.data;
  const step = () => {
    const at = Number(slider.value);
    nodes.forEach((node, i) => { node.style.fill = frames.palette[frames.colours[at].charCodeAt(i) - 48]; });
    for (const end of ["least", "greatest"]) named(end).querySelector("text").textContent = frames[end][at];
    when.textContent = frames.names[at];
    if (said) said.data = words.replace(frames.names[last], frames.names[at]);
    slider.setAttribute("aria-valuetext", frames.names[at]);
  };
  slider.addEventListener("input", step);
  const line = document.createElement("div");
  line.className = "time";
  line.append(slider, when);
  figure.querySelector(".scroll").after(line);
  step();
}
