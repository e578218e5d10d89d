// The API of the same origin, with the key that the operator pasted. The key is in this
// module's memory and nowhere else.

import { setClock } from "./dom.js";

let key = "";

export const signedIn = () => key !== "";

export function setKey(text) {
  key = text;
}

// A Problem is what the API, or the way to it, says went wrong.
export class Problem extends Error {
  constructor(status, body) {
    super(sentence(body.detail || body.title || `The server answered ${status}.`));
    this.status = status;
    this.code = body.code ?? "";
    this.requestID = body.request_id ?? "";
  }
}

function sentence(text) {
  const s = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(s) ? s : `${s}.`;
}

// ask sends one request and returns the JSON of the answer, or throws a Problem. params
// that are empty are left out.
export async function ask(method, path, { params = {}, body, signal } = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, v]) => v !== "" && v !== null && v !== undefined)).toString();
  const init = { method, signal, cache: "no-store", credentials: "omit", redirect: "error", headers: { Authorization: `Bearer ${key}` } };
  if (body !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path + (query ? `?${query}` : ""), init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The server does not answer." });
  }
  setClock(answer.headers.get("Date"));
  let data = {};
  try {
    data = await answer.json();
  } catch {
    if (answer.ok) throw new Problem(answer.status, { detail: "The server's answer is not JSON." });
  }
  if (!answer.ok) throw new Problem(answer.status, data);
  return data;
}

export const get = (path, params, signal) => ask("GET", path, { params, signal });
export const post = (path, body = {}) => ask("POST", path, { body });
