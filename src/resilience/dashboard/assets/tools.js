// The document, made without ever parsing text: what comes from the process can only become text.

const SVG = "http://www.w3.org/2000/svg";

const get = (id) => document.getElementById(id);

/** An element with attributes; `class`, `text` and listeners (`onclick`) are understood. */
function el(name, given = {}, ...children) {
  return fill(document.createElement(name), given, children);
}

/** The same for a picture. */
function svg(name, given = {}, ...children) {
  return fill(document.createElementNS(SVG, name), given, children);
}

function fill(node, given, children) {
  for (const [key, value] of Object.entries(given)) {
    if (key === "text") node.textContent = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** Change the text of a node only if it is another, so that a quiet page makes no work. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function set(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

function show(node, wanted) {
  if (node.hidden === wanted) node.hidden = !wanted;
}

const stored = {
  read(key) {
    try {
      return localStorage.getItem(`resilience.${key}`);
    } catch {
      return null;
    }
  },
  write(key, value) {
    try {
      localStorage.setItem(`resilience.${key}`, value);
    } catch { /* a browser that keeps nothing: the choice holds until the page is left */ }
  },
};
