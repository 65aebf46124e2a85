// The admin routes of /v1. The token lives in this tab (sessionStorage) and goes out as a Bearer header, never in a URL.

const KEY = "thumbwise.admin";

export class AdminError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

let remembered = null;

export function token() {
  try {
    return sessionStorage.getItem(KEY) ?? remembered;
  } catch {
    return remembered;
  }
}

export function setToken(value) {
  remembered = value;
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // storage is off: the token lasts as long as the page
  }
}

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method, credentials: "omit", cache: "no-store",
      headers: { Authorization: `Bearer ${token()}`, ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body ? JSON.stringify(body) : undefined,
    });
  } catch {
    throw new AdminError("The server cannot be reached.", 0);
  }
  if (response.ok) return response.json();
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // not JSON: the status is all we know
  }
  throw new AdminError(message, response.status);
}

export const get = (path) => call("GET", path);
export const post = (path, body = {}) => call("POST", path, body);
