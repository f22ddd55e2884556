// Calls of the server. What is written goes one after the other, in the order of the keys.

export class Refused extends Error {}

async function answered(response) {
  const found = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) throw new Refused(found.error || `${response.status}`);
  return found;
}

async function called(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Error(
      "The server does not answer. Labels that show are on the disk; run the same command again and open the address it prints.",
    );
  }
  return answered(response);
}

export function get(name) {
  return called(`/api/${name}`);
}

export function post(name, values = {}) {
  return called(`/api/${name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Headstart": "1" },
    body: JSON.stringify(values),
  });
}

let last = Promise.resolve();

export function inTurn(name, values) {
  const next = last.then(() => post(name, values));
  last = next.catch(() => {});
  return next;
}

export function image(one, side) {
  return `/image/${one.image}?side=${side}&of=${one.digest}`;
}
