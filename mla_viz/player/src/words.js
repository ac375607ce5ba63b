// Text and numbers as a visitor reads them: token text made visible, bytes, counts, times.
// It knows neither runs nor the page.

const UNSEEN = /[\p{Cc}\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;
/**
 * What rounding may make of equal numbers, as a share of the largest of them.
 * @type {Record<string, number>}
 */
const ROUNDING = { float64: 1e-9, float32: 1e-4, float16: 0.03, bfloat16: 0.2 };
/** @type {Record<string, string>} */
const NAMED = { "\n": "⏎", "\t": "⇥" };

/**
 * Token text with nothing hidden: spaces as ␣, line ends as ⏎, control characters as ‹hex›.
 * @type {(text: string) => string}
 */
export function visibleText(text) {
  if (text === "") return "‹empty›";
  return text.replace(/ /g, "␣").replace(UNSEEN, (character) => {
    const joinsEmoji = character === "\u200d" && text.length > 1;
    return joinsEmoji ? character : (NAMED[character] ?? `‹${hexOf(character)}›`);
  });
}

/** @type {(character: string) => string} */
function hexOf(character) {
  return character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0");
}

/**
 * At most `length` characters, the last of them an ellipsis where some are left out.
 * @type {(text: string, length: number) => string}
 */
export function shortened(text, length) {
  const characters = Array.from(text);
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join("")}…`;
}

/**
 * Text to put into a sentence: a right-to-left token must not turn the words around it.
 * @type {(text: string) => string}
 */
export function isolated(text) {
  return RIGHT_TO_LEFT.test(text) ? `\u2068${text}\u2069` : text;
}

/**
 * Visible text for a sentence, at most `length` characters of it.
 * @type {(text: string, length: number) => string}
 */
export function quoted(text, length) {
  return isolated(shortened(visibleText(text), length));
}

/**
 * ["337.5", "KiB"]: units of 1024.
 * @type {(bytes: number) => [figure: string, unit: string]}
 */
export function bytesParts(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  let amount = bytes;
  while (amount >= 1024 && power < units.length - 1) {
    amount /= 1024;
    power += 1;
  }
  return [power === 0 ? String(Math.round(amount)) : amount.toFixed(1), units[power]];
}

/**
 * "337.5 KiB".
 * @type {(bytes: number) => string}
 */
export function bytesText(bytes) {
  return bytesParts(bytes).join(" ");
}

/**
 * 65536 -> "65.5 k": units of 1000.
 * @type {(count: number) => string}
 */
export function countText(count) {
  const units = ["", " k", " M", " G", " T"];
  let power = 0;
  let amount = count;
  while (amount >= 999.5 && power < units.length - 1) {
    amount /= 1000;
    power += 1;
  }
  const digits = power === 0 || amount >= 99.95 ? 0 : amount >= 9.995 ? 1 : 2;
  return amount.toFixed(digits) + units[power];
}

/**
 * "64 FLOP", "65.5 kFLOP".
 * @type {(flops: number) => string}
 */
export function flopsText(flops) {
  const text = countText(flops);
  return text.includes(" ") ? `${text}FLOP` : `${text} FLOP`;
}

/**
 * "1 token", "2 tokens".
 * @type {(count: number, noun: string) => string}
 */
export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * With its first letter upper-case.
 * @type {(text: string) => string}
 */
export function capitalised(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/**
 * "7.7e-6"; "0" where nothing differs.
 * @type {(value: number) => string}
 */
export function differenceText(value) {
  return value === 0 ? "0" : value.toExponential(1);
}

/**
 * Whether numbers that should be equal differ by more than rounding does; `largest` is the largest of them.
 * @type {(gap: number, largest: number, dtype: string) => boolean}
 */
export function isApart(gap, largest, dtype) {
  return gap > (ROUNDING[dtype] ?? 0) * Math.max(1, largest);
}

/**
 * "0.353"; "0" is never drawn, what is only unlikely is "< 0.001".
 * @type {(probability: number) => string}
 */
export function probabilityText(probability) {
  if (probability === 0) return "0";
  return probability < 0.0005 ? "< 0.001" : probability.toFixed(3);
}

/**
 * "0.50 µs", "12.3 µs", "1.25 ms".
 * @type {(microseconds: number) => string}
 */
export function timeText(microseconds) {
  return microseconds < 1000
    ? `${microseconds.toPrecision(microseconds < 1 ? 2 : 3)} µs`
    : `${(microseconds / 1000).toPrecision(3)} ms`;
}

/**
 * Two digits behind the point, a true minus before.
 * @type {(value: number) => string}
 */
export function signedText(value) {
  return value.toFixed(2).replace("-", "−");
}

/**
 * At most so many digits behind the point, no trailing zeros, a true minus: "1.5", "−0.25", "0".
 * @type {(value: number, digits?: number) => string}
 */
export function cellText(value, digits = 2) {
  return String(Number(value.toFixed(digits)) || 0).replace("-", "−");
}

/**
 * Three digits that count, a true minus before: "0.119", "−1.25", "2.1e-5".
 * @type {(value: number) => string}
 */
export function figureText(value) {
  const small = value !== 0 && Math.abs(value) < 0.001;
  const text = small
    ? value.toExponential(1)
    : Math.abs(value) < 1000
      ? value.toPrecision(3)
      : value.toFixed(0);
  return text.replace(/^-/, "−");
}
