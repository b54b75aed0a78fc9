/* A box that scrolls can be reached by the keyboard: a figure that is wider than the screen, a formula, a block of code. */
"use strict";
(() => {
  const boxes = "figure, mjx-container[display='true'], .highlight pre, .cell_output pre, .pst-scrollable-table-container";
  const update = () => {
    for (const box of document.querySelectorAll(boxes)) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else if (box.tabIndex === 0) box.removeAttribute("tabindex");
    }
  };
  window.addEventListener("load", update);
  window.addEventListener("resize", update);
})();
