// The tooltip: one box beside the point of a canvas that a mouse is over or a finger has tapped.
// It knows places; what is said of a point it asks the canvas's own part, anew at every painting.

import { frameOf, setText } from "./dom.js";

/** @typedef {{ x: number, y: number }} Point */
/** @typedef {{ width: number, height: number }} Size */
/** @typedef {(x: number, y: number) => string | null} Describe */
/** @typedef {{ canvas: HTMLElement, describe: Describe } & Point} Asked a point that the box stands beside */
/** @typedef {ReturnType<typeof makeTooltip>} Tooltip */

/**
 * A finger's tap keeps the box until the next one elsewhere; a mouse takes it along.
 * @param {HTMLElement} box
 */
export function makeTooltip(box) {
  /** @type {Asked | null} */
  let asked = null;
  const hide = () => {
    asked = null;
    box.hidden = true;
  };
  const tell = () => {
    const words = asked?.describe(asked.x, asked.y);
    if (!words) return hide();
    setText(box, words);
    box.hidden = false;
  };
  const elsewhere = (/** @type {Event} */ event) => {
    if (asked && !event.composedPath().includes(asked.canvas)) hide();
  };
  document.addEventListener("pointerdown", elsewhere);
  return {
    /** @type {(canvas: HTMLElement, describe: Describe) => void} */
    attach: (canvas, describe) => {
      const show = (/** @type {MouseEvent} */ event) => {
        asked = { canvas, describe, x: event.offsetX, y: event.offsetY };
        tell();
        if (asked) place(box, event);
      };
      canvas.addEventListener("click", show);
      canvas.addEventListener("pointermove", (event) => !isFinger(event) && show(event));
      canvas.addEventListener("pointerleave", (event) => !isFinger(event) && hide());
    },
    refresh: () => asked && tell(),
    destroy: () => document.removeEventListener("pointerdown", elsewhere),
  };
}

/** @type {(event: PointerEvent) => boolean} */
function isFinger({ pointerType }) {
  return pointerType === "touch";
}

/** @type {(tooltip: HTMLElement, event: MouseEvent) => void} */
function place(tooltip, { clientX, clientY }) {
  const frame = frameOf(tooltip).getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = tooltip;
  const pointer = { x: clientX - frame.left, y: clientY - frame.top };
  const below = window.innerHeight - clientY;
  const [left, top] = tooltipPlace(pointer, { width, height }, { width: frame.width, below });
  tooltip.style.transform = `translate(${left}px, ${top}px)`;
}

/**
 * Right below the pointer; kept inside the frame's width, and above where `below` is too little.
 * @type {(pointer: Point, box: Size, room: { width: number, below: number }) => [left: number, top: number]}
 */
export function tooltipPlace({ x, y }, { width, height }, room) {
  const left = Math.max(0, Math.min(x + 14, room.width - width));
  return [left, 26 + height < room.below ? y + 18 : y - 10 - height];
}
