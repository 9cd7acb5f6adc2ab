// The sampling settings: sliders with exact numbers, kept in this browser.

import * as store from './store.js';

const $ = (id) => document.getElementById(id);

// [name in the API, label, least, most, step, default, what it does]
const SLIDERS = [
  ['temperature', 'Temperature', 0, 2, 0.05, 0.8, '0 always takes the likeliest token; higher is bolder.'],
  ['max_tokens', 'Longest answer', 1, 1024, 1, 256, 'In tokens.'],
  ['top_p', 'Top-p', 0.05, 1, 0.01, 1, 'Draw from the likeliest tokens with this probability together.'],
  ['top_k', 'Top-k', 0, 200, 1, 50, 'Draw from so many of the likeliest tokens; 0 from all.'],
  ['min_p', 'Min-p', 0, 0.5, 0.01, 0, 'Drop tokens less likely than this share of the likeliest.'],
  ['repetition_penalty', 'Repetition penalty', 1, 2, 0.01, 1, 'Above 1, tokens that were there before get less likely.'],
  ['frequency_penalty', 'Frequency penalty', -2, 2, 0.05, 0, 'Each time a token is written it gets less likely.'],
  ['presence_penalty', 'Presence penalty', -2, 2, 0.05, 0, 'A token that was written gets less likely.'],
];

const values = {};
let longest = 1024;

export function setUp(model, changed) {
  const saved = store.settings.load();
  longest = Math.max(1, model.context - 1);
  for (const [name, label, least, most, step, preset, help] of SLIDERS) {
    const top = name === 'max_tokens' ? longest : most;
    const value = Number(saved[name] ?? usual(name, preset));
    values[name] = Number.isFinite(value) ? Math.min(top, Math.max(least, value)) : usual(name, preset);
    $('sliders').append(slider(name, label, least, top, step, help));
  }
  $('stop').value = saved.stop ?? '';
  $('seed').value = saved.seed ?? '';
  $('colour').checked = saved.colour ?? false;
  const keep = () => {
    store.settings.save({ ...values, stop: $('stop').value, seed: $('seed').value, colour: $('colour').checked });
    changed();
  };
  $('sliders').addEventListener('input', keep);
  for (const id of ['stop', 'seed', 'colour']) $(id).addEventListener('input', keep);
  $('seed').addEventListener('input', () => { $('seed').value = $('seed').value.replace(/\D/g, '').slice(0, 15); });
  $('reset').addEventListener('click', () => {
    for (const [name, , , , , preset] of SLIDERS) set(name, usual(name, preset));
    $('stop').value = $('seed').value = '';
    $('colour').checked = false;
    keep();
  });
}

// An answer as long as the context would leave no room for the question.
function usual(name, preset) {
  return name === 'max_tokens' ? Math.max(1, Math.min(preset, Math.floor(longest / 2))) : preset;
}

function slider(name, label, least, most, step, help) {
  const field = document.createElement('div');
  field.className = 'field';
  const words = document.createElement('label');
  words.htmlFor = `set-${name}`;
  words.textContent = label;
  const number = document.createElement('input');
  number.type = 'number';
  number.id = `number-${name}`;
  number.setAttribute('aria-label', `${label}, exactly`);
  const range = document.createElement('input');
  range.type = 'range';
  range.id = `set-${name}`;
  const note = document.createElement('p');
  note.className = 'note';
  note.id = `help-${name}`;
  note.textContent = help;
  range.setAttribute('aria-describedby', note.id);
  for (const input of [number, range]) {
    Object.assign(input, { min: least, max: most, step, value: values[name] });
    input.addEventListener('input', () => {
      const value = Number(input.value);
      if (input.value === '' || !Number.isFinite(value)) return;
      set(name, Math.min(most, Math.max(least, value)), input);
    });
  }
  number.addEventListener('change', () => { number.value = values[name]; });
  field.append(words, number, range, note);
  paint(range);
  return field;
}

function set(name, value, by) {
  values[name] = value;
  for (const input of [$(`set-${name}`), $(`number-${name}`)]) if (input !== by) input.value = value;
  paint($(`set-${name}`));
}

function paint(range) {
  const share = (range.value - range.min) / (range.max - range.min || 1);
  range.style.setProperty('--share', `${share * 100}%`);
}

// What a request says; the defaults of the API are left out.
export function request() {
  const asked = { ...values, truncate: true };
  const stop = $('stop').value.split('\n').filter((line) => line !== '');
  if (stop.length) asked.stop = stop.slice(0, 16);
  if ($('seed').value !== '') asked.seed = Number($('seed').value);
  return asked;
}
