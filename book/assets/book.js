/* Small helps that pages can do without: text, equations, figures and colours need no script. */
(() => {
  /* what scrolls sideways can be reached and moved by keyboard, and says that it scrolls */
  const boxes = [...document.querySelectorAll(
    ".bd-article :is(div.math, .table-scroll, .pst-scrollable-table-container, div.highlight > pre)"
    + ", .bd-article div.cell_output .text_html, .bd-article div.output pre")]
    /* listings that are laid out late break their lines instead */
    .filter(box => !box.closest(".claim-rule + div"));
  const inline = [...document.querySelectorAll(".bd-article mjx-container:not([display])")];
  const name = box => box.matches("div.math, mjx-container") ? "Equation"
    : box.matches("pre, .highlight") ? "Code" : "Table";
  /* a formula in a line that is wider than the page becomes a box; all are measured, then changed */
  const widen = () => inline
    .filter(one => one.getBoundingClientRect().width > one.closest(".bd-article").clientWidth
      || one.getBoundingClientRect().right > innerWidth)
    .forEach(one => { one.classList.add("wide"); boxes.push(one); });
  const mark = () => boxes.forEach((box, number) => {
    const scrolls = box.scrollWidth > box.clientWidth + 1;
    if (scrolls === box.classList.contains("scrolls")) return;
    box.classList.toggle("scrolls", scrolls);
    if (scrolls) {
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", `${name(box)} ${number + 1}, scrolls sideways`);
    } else for (const key of ["tabindex", "role", "aria-label"]) box.removeAttribute(key);
  });
  widen();
  mark();
  addEventListener("load", mark);
  addEventListener("resize", mark);
  document.addEventListener("toggle", mark, true);
  /* paper has no bars to click: code stays folded, everything else opens */
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open]):not(.above-input)")];
    opened.forEach(one => { one.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach(one => { one.open = false; }));
})();
