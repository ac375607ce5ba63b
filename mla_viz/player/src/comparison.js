// How one number of bytes compares with another, in a figure and in words.
// It knows bytes and the baselines of a run; it does not know where they are shown.

/** How `bytes` compares with `baseline`: {figure: "8.0×", word: "less than"}. */
export function compare(bytes, baseline) {
  if (bytes === baseline) return { figure: "the same", word: "as" };
  if (bytes === 0) return { figure: "no cache", word: "against" };
  if (baseline === 0) return { figure: "all of it", word: "more than" };
  const less = bytes < baseline;
  const ratio = less ? baseline / bytes : bytes / baseline;
  const digits = ratio < 1.095 ? 2 : ratio < 99.95 ? 1 : 0;
  return { figure: `${ratio.toFixed(digits)}×`, word: less ? "less than" : "more than" };
}

/** ", 8.0 times less", for a sentence; nothing where one side has no cache to compare. */
export function comparedWords(bytes, baseline) {
  if (bytes === 0 || baseline === 0) return "";
  const { figure, word } = compare(bytes, baseline);
  return bytes === baseline ? `, ${figure}` : `, ${figure.replace("×", " times")} ${word.split(" ")[0]}`;
}
