/* Part of the page of the search alone; Sphinx puts it behind its own script. */

/* Whoever looks for a word of the package finds it, but after what the chapters say. */
Scorer.score = ([page, , , , score]) => (page.startsWith("book/api") ? score - 1000 : score);

/* Sphinx shows the text around a word that was found; formulas in it are TeX until a page has set them. */
const textWithTeX = Search.htmlToText;
Search.htmlToText = (html, anchor) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  for (const formula of page.querySelectorAll("[data-plain]")) formula.textContent = formula.dataset.plain;
  // nor is it about code, or the contents that only print
  for (const other of page.querySelectorAll("pre, .cell details, #jb-print-docs-body")) other.remove();
  return textWithTeX(page.documentElement.outerHTML, anchor);
};
