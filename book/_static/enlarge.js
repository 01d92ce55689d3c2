/* A click on a figure shows it as large as the window; on a phone the wide one, to be moved about. */
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.enlarge");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", "The figure, enlarged");
  const picture = Object.assign(new Image(), { src: link.href, alt: link.querySelector("img").alt });
  const close = Object.assign(document.createElement("button"), { textContent: "Close", autofocus: true });
  dialog.append(close, picture);
  for (const part of [close, dialog])
    part.addEventListener("click", (e) => e.target !== picture && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
});
