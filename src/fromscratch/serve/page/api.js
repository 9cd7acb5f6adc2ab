// The server's API: one request at a time is streamed, and can be stopped.

const base = new URL('..', import.meta.url);
const key = 'fromscratch.token';

export class ApiError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

let token = null;
try { token = sessionStorage.getItem(key); } catch { /* storage is switched off */ }

export function setToken(value) {
  token = value;
  try { sessionStorage.setItem(key, value); } catch { /* kept in memory only */ }
}

function ask(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(new URL(path, base), { ...options, headers });
}

async function failure(answer) {
  let said = '';
  try { said = (await answer.json()).error.message; } catch { /* no JSON */ }
  return new ApiError(answer.status, said || `The server answered ${answer.status}.`);
}

export async function model() {
  const answer = await ask('v1/models');
  if (!answer.ok) throw await failure(answer);
  return (await answer.json()).data[0];
}

// Pieces that have arrived are read without a pause in between. A model that is faster than the page
// would leave it no moment to draw, or to hear that somebody stops it.
const breathless = 30; // milliseconds

// Yields the objects of a server-sent stream, whose pieces may be cut anywhere.
export async function* stream(path, body, signal) {
  const answer = await ask(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!answer.ok) throw await failure(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let breath = performance.now();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new ApiError(0, 'The connection ended in the middle of the answer.');
    rest += value;
    const lines = rest.split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data: ')) continue;
      if (line === 'data: [DONE]') return;
      const item = JSON.parse(line.slice(6));
      if (item.error) throw new ApiError(500, item.error.message);
      yield item;
      if (performance.now() - breath > breathless) {
        await new Promise((goOn) => setTimeout(goOn));
        if (signal?.aborted) throw new DOMException('', 'AbortError');
        breath = performance.now();
      }
    }
  }
}
