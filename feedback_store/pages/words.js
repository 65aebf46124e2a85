// Texts of ours in the reader's language: the page's element carries those that scripts show, as English → translation.

const messages = JSON.parse(document.documentElement.dataset.messages || "{}");

/** Translate `text`, and fill in its %(name)s. English is its own key: what has no translation is shown as it is. */
export function say(text, values = {}) {
  return (messages[text] ?? text).replace(/%\((\w+)\)s/g, (whole, name) => String(values[name] ?? whole));
}
