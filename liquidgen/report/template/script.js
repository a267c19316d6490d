"use strict";
// pictures: click to enlarge, arrow keys go from one run to the next in the same place
const dialog = document.querySelector("dialog");
let group = [];
let shown = 0;
function show(number) {
  shown = (number + group.length) % group.length;
  dialog.querySelector("img").src = group[shown].src;
  dialog.querySelector("span").textContent = group[shown].dataset.name;
  if (!dialog.open) dialog.showModal();
}
function open(picture) {
  group = [...document.querySelectorAll(`img[data-group="${picture.dataset.group}"]`)];
  show(group.indexOf(picture));
}
document.querySelectorAll("img.zoom").forEach((picture) => {
  picture.setAttribute("role", "button");
  picture.tabIndex = 0;
  picture.addEventListener("click", () => open(picture));
  picture.addEventListener("keydown", (event) => { if (event.key === "Enter") open(picture); });
});
dialog.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) { event.preventDefault(); show(shown + step); }
});
dialog.addEventListener("click", () => dialog.close());
// the table of runs: click a heading to sort, again to reverse; rows without a value stay last
document.querySelectorAll("th[data-sort]").forEach((heading) => {
  let ascending = false;
  heading.addEventListener("click", () => {
    ascending = !ascending;
    const body = heading.closest("table").tBodies[0];
    const key = (row) => row.cells[heading.cellIndex].dataset.value;
    const rows = [...body.rows].sort((a, b) => {
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      return (ascending ? 1 : -1) * (key(a) - key(b));
    });
    body.append(...rows);
  });
});
