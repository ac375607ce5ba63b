// What the browser keeps: of this tab, or of all visits. A browser without storage forgets, and nothing else is lost.

/** @typedef {"sessionStorage" | "localStorage"} Storage */

/** @type {(storage: Storage, name: string) => string | null} */
export function recall(storage, name) {
  try {
    return window[storage].getItem(name);
  } catch {
    return null;
  }
}

/** @type {(storage: Storage, name: string, words: string) => void} */
export function remember(storage, name, words) {
  try {
    window[storage].setItem(name, words);
  } catch {
    // forgotten
  }
}
