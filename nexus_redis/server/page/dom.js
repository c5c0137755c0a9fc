// Small helpers for the document. Data becomes text nodes and attributes, never markup.

/** Make an element: `el("a", { href: "#/" }, "All budgets")`. Attributes that are null or false are left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Set a text if it is another one. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Have `parent` contain exactly `nodes`, in this order. What stays in place is not touched, and focus is kept. */
export function sync(parent, nodes) {
  const focused = document.activeElement;
  const wanted = new Set(nodes);
  for (const node of [...parent.childNodes]) if (!wanted.has(node)) node.remove();
  let cursor = parent.firstChild;
  for (const node of nodes) {
    if (node === cursor) cursor = cursor.nextSibling;
    else parent.insertBefore(node, cursor);
  }
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}

/** Write a sentence in which `commands` stand between backticks. A command breaks between its words only. */
export function sentence(text) {
  const words = (command) => command.split(/( )/).map((word) => (word === " " ? word : el("span", {}, word)));
  return text.split("`").map((part, i) => (i % 2 ? el("code", {}, ...words(part)) : part));
}

let count = 0;

/** Return an id that no other element has. */
export function newId(what) {
  count += 1;
  return `${what}-${count}`;
}
