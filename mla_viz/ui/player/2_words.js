// Words and numbers as a visitor reads them: token text made visible, bytes, counts, ratios, sentences.
// It knows the run, and nothing of the page, of colours or of canvases.

const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;
const STEP_TOKEN_LENGTH = 10;
const NAMED = { "\n": "⏎", "\t": "⇥" };

/** Token text with nothing hidden: spaces as ␣, line ends as ⏎, control characters as ‹hex›. */
function visibleText(text) {
  if (text === "") return "‹empty›";
  return text.replace(/ /g, "␣").replace(UNSEEN, (character) => {
    const joinsEmoji = character === "\u200d" && text.length > 1;
    return joinsEmoji ? character : (NAMED[character] ?? `‹${hexOf(character)}›`);
  });
}

function hexOf(character) {
  return character.codePointAt(0).toString(16).toUpperCase().padStart(2, "0");
}

function shortened(text, length) {
  const characters = Array.from(text);
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join("")}…`;
}

/** Text to put into a sentence: a right-to-left token must not turn the words around it. */
function isolated(text) {
  return RIGHT_TO_LEFT.test(text) ? `\u2068${text}\u2069` : text;
}

/** Visible text of one token, at most `length` characters of it. */
function tokenText(run, index, length) {
  return isolated(shortened(visibleText(run.tokens[index].text), length));
}

/** ["337.5", "KiB"]: units of 1024. */
function bytesParts(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  let amount = bytes;
  while (amount >= 1024 && power < units.length - 1) {
    amount /= 1024;
    power += 1;
  }
  return [power === 0 ? String(Math.round(amount)) : amount.toFixed(1), units[power]];
}

function bytesText(bytes) {
  return bytesParts(bytes).join(" ");
}

/** 65536 -> "65.5 k": units of 1000. */
function countText(count) {
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

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function capitalised(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function differenceText(value) {
  return value === 0 ? "0" : value.toExponential(1);
}

function timeText(microseconds) {
  return microseconds < 1000
    ? `${microseconds.toPrecision(microseconds < 1 ? 2 : 3)} µs`
    : `${(microseconds / 1000).toPrecision(3)} ms`;
}

function signedText(value) {
  return value.toFixed(2).replace("-", "−");
}

/** How `bytes` compares with `baseline`: {figure: "8.0×", word: "less than"}. */
function compare(bytes, baseline) {
  if (bytes === baseline) return { figure: "the same", word: "as" };
  if (bytes === 0) return { figure: "no cache", word: "against" };
  if (baseline === 0) return { figure: "all of it", word: "more than" };
  const less = bytes < baseline;
  const ratio = less ? baseline / bytes : bytes / baseline;
  const digits = ratio < 1.095 ? 2 : ratio < 99.95 ? 1 : 0;
  return { figure: `${ratio.toFixed(digits)}×`, word: less ? "less than" : "more than" };
}

/** ", 8.0 times less", for a sentence; nothing where one side has no cache to compare. */
function comparedWords(bytes, baseline) {
  if (bytes === 0 || baseline === 0) return "";
  const { figure, word } = compare(bytes, baseline);
  return bytes === baseline ? `, ${figure}` : `, ${figure.replace("×", " times")} ${word.split(" ")[0]}`;
}

/** The baseline's own words, what it counts in brackets: "plain MHA of the same heads (2 × 8 × 32 values ...)". */
function baselineWords(baseline) {
  const [what, counted] = baseline.detail.replace(/ x /g, "\u00a0×\u00a0").split(/:\s*/);
  return counted ? `${what} (${counted})` : what;
}

/** Two sides named apart, even when both run the same mechanism. */
function shortNames(run) {
  const { left, right } = run;
  return left.short === right.short ? [`left ${left.short}`, `right ${right.short}`] : [left.short, right.short];
}

function stageWords(run, step) {
  return run.tokens[step].source === "prompt" ? "prefill" : "generated";
}

function stepWords(run, step) {
  return `step ${step + 1} of ${run.n_steps} · ${tokenText(run, step, STEP_TOKEN_LENGTH)} · ${stageWords(run, step)}`;
}

function cachedWords(side, step) {
  return side.cache_bytes[step] === 0 ? "nothing" : bytesText(side.cache_bytes[step]);
}

/** One sentence for each thing that happened in this step. */
function narrate(run, step) {
  const { left, right } = run;
  const fed = `Step ${step + 1} of ${run.n_steps}: token ${step} "${tokenText(run, step, 24)}" is fed.`;
  const compared = comparedWords(right.cache_bytes[step], left.cache_bytes[step]);
  const [leftName, rightName] = shortNames(run);
  const caches = `${capitalised(leftName)} caches ${cachedWords(left, step)}, ${rightName} ${cachedWords(right, step)}${compared}.`;
  return `${fed} ${caches} ${likelyWords(run, step)}`;
}

function likelyWords(run, step) {
  const best = (side) => `${isolated(shortened(visibleText(side.top.text[step][0]), 24))} ${Math.round(side.top.probs[step * 8] * 100)} %`;
  const [left, right] = [best(run.left), best(run.right)];
  if (left === right) return `Most likely next: ${left}.`;
  const [leftName, rightName] = shortNames(run);
  return `Most likely next: ${left} (${leftName}), ${right} (${rightName}).`;
}
