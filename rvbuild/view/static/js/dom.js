// Small helpers: asking the server, and making elements. Texts become text nodes: nothing from files is read as HTML.

export const byId = (id) => document.getElementById(id);

export async function ask(address, options = {}) {
  const answer = await fetch(address, options);
  const text = await answer.text();
  let content;
  try {
    content = text ? JSON.parse(text) : {};
  } catch {
    throw new Error(text || `${answer.status}`);
  }
  if (!answer.ok) throw new Error(content.error || `${answer.status}`);
  return content;
}

export function element(tag, attributes = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) found.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(found.style, value);
    else if (name in found && typeof value !== "string") found[name] = value;
    else found.setAttribute(name, value === true ? "" : value);
  }
  found.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return found;
}

export function query(values) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== null && value !== undefined) found.set(name, value);
  return found.toString();
}

export const percent = (value) => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;

export const figure = (value) => (value === null || value === undefined ? "–" : Number(value).toFixed(3));

export const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

export function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 90) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  return value < 5400 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;
}
