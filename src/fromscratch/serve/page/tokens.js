// Text as the tokens it was written in. A token is [text, probability, [[text, probability], ...]];
// in the page it is a span, and pointing at it shows what it competed with.
// A model's words reach the page as text nodes only.

const tip = document.getElementById('tip');
const details = new WeakMap();

// Tokens may end in the middle of a character: such a one shows nothing, and the one that completes
// the character shows it.
export class Reader {
  #decoder = new TextDecoder();

  chat(piece) {
    return (piece.logprobs?.content ?? []).map((t) => this.#token(t.bytes, t.logprob, t.top_logprobs
      .map((o) => [o.token, probability(o.logprob)])));
  }

  completion(piece) {
    const found = piece.logprobs;
    if (!found) return [];
    return found.tokens.map((text, i) => this.#token(bytesOf(text), found.token_logprobs[i],
      Object.entries(found.top_logprobs?.[i] ?? {}).map(([other, logprob]) => [shown(other), probability(logprob)])));
  }

  #token(bytes, logprob, others) {
    const text = this.#decoder.decode(new Uint8Array(bytes), { stream: true });
    return [text, probability(logprob), others.sort((a, b) => b[1] - a[1])];
  }
}

const probability = (logprob) => Number(Math.exp(logprob).toPrecision(4));

// The older route writes half a character as bytes:\xe2\x82.
function bytesOf(text) {
  if (!text.startsWith('bytes:')) return new TextEncoder().encode(text);
  return text.slice(6).split('\\x').slice(1).map((pair) => parseInt(pair, 16));
}

const shown = (text) => (text.startsWith('bytes:') ? '\ufffd' : text);

// Shows tokens in a place, as far as they are of the text; what is left of the text comes as it is.
export function append(place, tokens, room = Infinity) {
  for (const token of tokens) {
    const text = token[0].slice(0, Math.max(0, room));
    room -= token[0].length;
    if (!text) continue;
    const span = document.createElement('span');
    span.className = `token p${level(token[1])}`;
    span.textContent = text;
    details.set(span, token);
    place.append(span);
  }
  return room;
}

export function show(place, text, tokens) {
  place.replaceChildren();
  if (!tokens?.length) { place.textContent = text; return; }
  append(place, tokens, text.length);
  const missing = text.slice(place.textContent.length);
  if (missing) place.append(document.createTextNode(missing));
}

const level = (p) => (p >= 0.8 ? 4 : p >= 0.4 ? 3 : p >= 0.15 ? 2 : p >= 0.04 ? 1 : 0);

const percent = (p) => (p >= 0.0995 ? `${(p * 100).toFixed(0)}%` : p >= 0.00095 ? `${(p * 100).toFixed(1)}%` : '<0.1%');

export const visible = (text) => text.replace(/\n/g, '⏎').replace(/\t/g, '⇥').replace(/ /g, '␣')
  || '(part of a character)';

function fill(token) {
  const [text, p, others] = token;
  const head = document.createElement('p');
  const name = document.createElement('b');
  name.textContent = visible(text);
  head.append(name, ` ${percent(p)}`);
  const list = document.createElement('ul');
  const all = others.some(([other]) => other === text) ? others : [...others, [text, p]];
  for (const [other, probability] of all.slice(0, 6)) {
    const item = document.createElement('li');
    const bar = document.createElement('i');
    bar.style.setProperty('--share', `${probability * 100}%`);
    const word = document.createElement('span');
    word.textContent = visible(other);
    const number = document.createElement('span');
    number.textContent = percent(probability);
    item.append(bar, word, number);
    if (other === text) item.className = 'own';
    list.append(item);
  }
  tip.replaceChildren(head, list);
}

export function point(span) {
  const token = details.get(span);
  if (!token) return;
  hide();
  fill(token);
  span.classList.add('pointed');
  tip.hidden = false;
  const at = span.getClientRects()[0];
  const box = tip.getBoundingClientRect();
  const above = at.top > box.height + 64;
  tip.style.left = `${Math.max(8, Math.min(innerWidth - box.width - 8, at.left + at.width / 2 - box.width / 2))}px`;
  tip.style.top = `${above ? at.top - box.height - 6 : at.bottom + 6}px`;
}

export function hide() {
  tip.hidden = true;
  document.querySelectorAll('.token.pointed').forEach((span) => span.classList.remove('pointed'));
}

export function describe(span) {
  const token = details.get(span);
  return token ? `${visible(token[0])}, ${percent(token[1])}` : '';
}

// Pointing, touching, and the arrow keys in a text that has the focus.
export function listen(announce) {
  document.addEventListener('pointerover', (event) => {
    const span = event.target.closest?.('.token');
    if (span) point(span);
    else if (!event.target.closest?.('#tip')) hide();
  });
  document.addEventListener('scroll', hide, { capture: true, passive: true });
  document.addEventListener('focusout', hide);
  document.addEventListener('keydown', (event) => {
    const place = event.target.closest?.('.tokens');
    if (!place) return;
    if (event.key === 'Escape') { hide(); return; }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...place.querySelectorAll('.token')];
    const now = all.findIndex((span) => span.classList.contains('pointed'));
    const next = all[Math.max(0, Math.min(all.length - 1, now < 0 ? 0 : now + step))];
    if (!next) return;
    next.scrollIntoView({ block: 'nearest' });
    point(next);
    announce(describe(next));
  });
}
