// The tooltip: one box that follows the pointer over any canvas that has something to say.
// It knows places; what is said of a point it asks the canvas's own part.

import { frameOf, setText } from "./dom.js";

/** @typedef {{ x: number, y: number }} Point */
/** @typedef {{ width: number, height: number }} Size */

/**
 * Show what `describe(x, y)` says of the point under the pointer, while there is something to say.
 * @param {HTMLElement} tooltip
 * @param {HTMLElement} canvas
 * @param {(x: number, y: number) => string | null} describe
 */
export function attachTooltip(tooltip, canvas, describe) {
  const hide = () => {
    tooltip.hidden = true;
  };
  canvas.addEventListener("pointermove", (event) => {
    const words = describe(event.offsetX, event.offsetY);
    if (!words) return hide();
    setText(tooltip, words);
    tooltip.hidden = false;
    place(tooltip, event);
  });
  canvas.addEventListener("pointerleave", hide);
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
