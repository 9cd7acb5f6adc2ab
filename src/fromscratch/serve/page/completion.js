// The completion tab: a text, and how the model goes on.

import * as api from './api.js';
import * as settings from './settings.js';
import * as store from './store.js';
import * as tokens from './tokens.js';
import { announce, facts, toast } from './page.js';

const $ = (id) => document.getElementById(id);

let model = null;
let running = null;
let written = '';

export function setUp(served) {
  model = served;
  const area = $('completion-text');
  area.value = store.draft.load();
  area.addEventListener('input', () => { store.draft.save(area.value); grow(); });
  area.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    write();
  });
  $('write').addEventListener('click', write);
  $('again').addEventListener('click', write);
  $('stop-completion').addEventListener('click', stop);
  $('take').addEventListener('click', () => {
    area.value += written;
    store.draft.save(area.value);
    $('written').hidden = true;
    grow();
    area.focus();
    area.scrollTop = area.scrollHeight;
  });
  $('copy-completion').addEventListener('click', () => navigator.clipboard?.writeText(area.value + written)
    .then(() => toast('Copied.'), () => toast('This browser did not let the page copy.')));
  const place = $('completion-tokens');
  place.tabIndex = 0;
  place.setAttribute('role', 'group');
  place.setAttribute('aria-label', 'What the model wrote; arrow keys show probabilities');
  grow();
}

export function stop() {
  running?.abort();
}

function grow() {
  const area = $('completion-text');
  area.style.height = 'auto';
  area.style.height = `${Math.min(Math.max(area.scrollHeight, 120), innerHeight * 0.5)}px`;
}

function busy(yes) {
  $('write').hidden = yes;
  $('stop-completion').hidden = !yes;
  for (const id of ['again', 'take', 'copy-completion']) $(id).disabled = yes;
  if (yes) announce('The model is writing.');
}

async function write() {
  if (running) return;
  const prompt = $('completion-text').value;
  const place = $('completion-tokens');
  $('given').textContent = prompt;
  place.replaceChildren();
  $('written').hidden = false;
  $('written').classList.add('writing');
  $('completion-facts').textContent = '';
  running = new AbortController();
  busy(true);
  written = '';
  const reader = new tokens.Reader();
  const begin = performance.now();
  let first = 0;
  let count = 0;
  let usage = null;
  const notes = [];
  try {
    const body = { ...settings.request(), prompt, logprobs: 5 };
    for await (const piece of api.stream('v1/completions', body, running.signal)) {
      usage = piece.usage ?? usage;
      if (piece.truncated && !notes.length) notes.push(`The first ${piece.truncated} tokens of the text no longer fit and were left out.`);
      const choice = piece.choices[0];
      if (!choice) continue;
      if (choice.text && !first) first = performance.now();
      written += choice.text;
      const fresh = reader.completion(choice);
      count += fresh.length;
      tokens.append(place, fresh);
      if (choice.ended_by === 'end_of_text') notes.push('The model ended the text.');
      if (choice.ended_by === 'time') notes.push('Cut: the server’s time for a text was over.');
    }
  } catch (error) {
    notes.push(error.name === 'AbortError' ? 'Stopped.' : error.message || 'The server cannot be reached.');
  }
  running = null;
  busy(false);
  $('written').classList.remove('writing');
  trim(place);
  $('completion-facts').textContent = [...notes, facts(count, first || begin, usage, model)].filter(Boolean).join(' ');
  announce(written || 'Nothing was written.');
}

// The token in which a stop text begins is longer than the text that counts.
function trim(place) {
  let surplus = place.textContent.length - written.length;
  while (surplus > 0 && place.lastChild) {
    const text = place.lastChild.textContent;
    if (text.length > surplus) place.lastChild.textContent = text.slice(0, text.length - surplus);
    else place.lastChild.remove();
    surplus -= text.length;
  }
  if (surplus < 0) place.append(document.createTextNode(written.slice(place.textContent.length)));
}
