/* Part of the page of the search alone; Sphinx puts it behind its own script. */

/* Whoever looks for a word of the package finds it, but after what the chapters say. */
Scorer.score = ([page, , , , score]) => (page === "book/api" ? score - 1000 : score);

/* Sphinx shows the text around a word that was found; formulas in it are TeX until a page has set them. */
const textWithTeX = Search.htmlToText;
Search.htmlToText = (html, anchor) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  for (const formula of page.querySelectorAll("[data-plain]")) formula.textContent = formula.dataset.plain;
  for (const code of page.querySelectorAll(".cell_input, .cell details")) code.remove();
  return textWithTeX(page.documentElement.outerHTML, anchor);
};
