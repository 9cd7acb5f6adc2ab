// What both tabs need of the page.

const $ = (id) => document.getElementById(id);

export function announce(words) {
  $('announce').textContent = words;
}

export function button(kind, words, act, label) {
  const made = document.createElement('button');
  made.type = 'button';
  made.className = kind;
  made.textContent = words;
  if (label) made.setAttribute('aria-label', label);
  made.addEventListener('click', act);
  return made;
}

let timer = 0;

export function toast(words, undo) {
  const place = $('toast');
  const [text, back] = place.children;
  text.textContent = words;
  back.hidden = !undo;
  back.onclick = () => { place.hidden = true; undo?.(); };
  place.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => { place.hidden = true; }, undo ? 8000 : 3500);
}

// Keeps the end in view while it grows, unless the person has scrolled up to read.
export function followed(place) {
  const atEnd = () => place.scrollHeight - place.scrollTop - place.clientHeight < 80;
  let follow = true;
  place.addEventListener('scroll', () => { follow = atEnd(); }, { passive: true });
  const toEnd = () => { place.scrollTop = place.scrollHeight; };
  return { toEnd, keep: () => { if (follow) toEnd(); } };
}

export function facts(count, first, usage, model) {
  const seconds = (performance.now() - first) / 1000;
  const said = [];
  if (count > 1 && seconds > 0) said.push(`${((count - 1) / seconds).toPrecision(3)} tokens/s`);
  if (usage) said.push(`${usage.total_tokens.toLocaleString()} of ${model.context.toLocaleString()} tokens of context`);
  return said.join(' · ');
}

// Opens a tab, and closes what lies over it on a narrow screen.
export function wants(name) {
  document.dispatchEvent(new CustomEvent('wants', { detail: name }));
}
