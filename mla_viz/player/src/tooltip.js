// The tooltip: one box beside the point of a canvas that a mouse is over, a finger has tapped or a key has
// gone to. It knows places; what is said of a point it asks the canvas's own part, anew at every painting.

import { frameOf, setText } from "./dom.js";

/** @typedef {{ x: number, y: number }} Point */
/** @typedef {{ width: number, height: number }} Size */
/** @typedef {(x: number, y: number) => string | null} Describe */
/** @typedef {{ describe: Describe, choose: (x: number, y: number) => void }} Pointed */
/** @typedef {{ canvas: HTMLElement, describe: Describe } & Point} Asked a point that the box stands beside */
/** @typedef {ReturnType<typeof makeTooltip>} Tooltip */

const FINGER = 12;

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
  const show = (/** @type {Asked} */ one, /** @type {Point} */ client) => {
    asked = one;
    tell();
    if (asked) place(box, client);
  };
  const elsewhere = (/** @type {Event} */ event) => {
    if (asked && !event.composedPath().includes(asked.canvas)) hide();
  };
  document.addEventListener("pointerdown", elsewhere);
  return {
    /**
     * Tell what lies under the pointer; a click chooses it, and so does a finger's second tap on what is told.
     * @type {(canvas: HTMLElement, pointed: Pointed) => void}
     */
    attach: (canvas, { describe, choose }) => {
      const follow = (/** @type {MouseEvent} */ event) => {
        const { offsetX: x, offsetY: y, clientX, clientY } = event;
        show({ canvas, describe, x, y }, { x: clientX, y: clientY });
      };
      canvas.addEventListener("click", (event) => {
        const told = asked?.canvas === canvas && isNear(asked, event) ? asked : null;
        const finger = isFinger(event);
        if (!finger || !told) follow(event);
        if (!finger) choose(event.offsetX, event.offsetY);
        else if (told) choose(told.x, told.y);
      });
      canvas.addEventListener("pointermove", (event) => !isFinger(event) && follow(event));
      canvas.addEventListener("pointerleave", (event) => !isFinger(event) && hide());
    },
    /**
     * Stand beside a point of a canvas without a pointer, until it is dropped.
     * @type {(canvas: HTMLElement, describe: Describe, point: Point) => void}
     */
    hold: (canvas, describe, { x, y }) => {
      const { left, top } = canvas.getBoundingClientRect();
      show({ canvas, describe, x, y }, { x: left + x, y: top + y });
    },
    drop: hide,
    refresh: () => asked && tell(),
    destroy: () => document.removeEventListener("pointerdown", elsewhere),
  };
}

/** @type {(event: MouseEvent) => boolean} */
function isFinger(event) {
  return "pointerType" in event && event.pointerType === "touch";
}

/**
 * Whether a finger that means a point may have touched another.
 * @type {(asked: Point, event: MouseEvent) => boolean}
 */
function isNear({ x, y }, { offsetX, offsetY }) {
  return Math.hypot(offsetX - x, offsetY - y) <= FINGER;
}

/** @type {(tooltip: HTMLElement, client: Point) => void} */
function place(tooltip, client) {
  const frame = frameOf(tooltip).getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = tooltip;
  const pointer = { x: client.x - frame.left, y: client.y - frame.top };
  const below = window.innerHeight - client.y;
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
