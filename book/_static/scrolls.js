/* What is wider than the page can be moved: it is marked on the side where there is more, for a fade to show it. */
const WIDE = "article :is(pre, .pst-scrollable-table-container, .cell_output > div, .cell_output figure, div.math)";

function mark(wide) {
  const room = wide.scrollWidth - wide.clientWidth;
  const moves = room > 1 && ["auto", "scroll"].includes(getComputedStyle(wide).overflowX);
  if (moves) wide.tabIndex = 0; // arrow keys move it
  wide.classList.toggle("more-before", moves && wide.scrollLeft > 1);
  wide.classList.toggle("more-after", moves && wide.scrollLeft < room - 1);
}

document.addEventListener("DOMContentLoaded", () => {
  const all = [...document.querySelectorAll(WIDE)];
  const watcher = new ResizeObserver((seen) => seen.forEach((each) => mark(each.target)));
  for (const wide of all) {
    watcher.observe(wide);
    wide.addEventListener("scroll", () => mark(wide), { passive: true });
  }
  window.addEventListener("load", () => window.MathJax?.startup?.promise?.then(() => all.forEach(mark)));
});
