// Starts the page: what is served, the tabs, the theme, the panels at the sides.

import * as api from './api.js';
import * as chat from './chat.js';
import * as completion from './completion.js';
import * as settings from './settings.js';
import * as tokens from './tokens.js';
import { announce, toast } from './page.js';

const $ = (id) => document.getElementById(id);
const TABS = ['chat', 'completion'];

function select(name, { focus = false } = {}) {
  for (const tab of TABS) {
    const chosen = tab === name;
    $(`tab-${tab}`).setAttribute('aria-selected', String(chosen));
    $(`tab-${tab}`).tabIndex = chosen ? 0 : -1;
    $(`panel-${tab}`).hidden = !chosen;
  }
  document.body.dataset.tab = name;
  document.querySelector('.skip').href = `#${name}-text`;
  if (focus) $(`tab-${name}`).focus();
}

function tabs() {
  for (const [i, name] of TABS.entries()) {
    $(`tab-${name}`).addEventListener('click', () => select(name));
    $(`tab-${name}`).addEventListener('keydown', (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: TABS.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      select(TABS[(to + TABS.length) % TABS.length], { focus: true });
    });
  }
  document.addEventListener('wants', (event) => { select(event.detail); drawers(null); });
}

function theme() {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? 'dark' : 'light')) === 'dark';
  const tell = () => $('theme').setAttribute('aria-pressed', String(isDark()));
  $('theme').addEventListener('click', () => {
    const next = isDark() ? 'light' : 'dark';
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem('fromscratch.theme', next); } catch { /* until the page is closed */ }
    tell();
  });
  dark.addEventListener('change', tell);
  tell();
}

// On a narrow screen the sides lie over the page, one at a time.
function drawers(name) {
  for (const side of ['chats', 'settings']) {
    const opened = side === name;
    $(side).classList.toggle('open', opened);
    $(`show-${side}`).setAttribute('aria-expanded', String(opened));
  }
  $('veil').hidden = name === null;
}

function sides() {
  const narrow = matchMedia('(max-width: 60rem)');
  for (const side of ['chats', 'settings']) {
    $(`show-${side}`).addEventListener('click', () => {
      if (!narrow.matches) { // only the settings have a button there: they make room
        const away = document.body.classList.toggle('without-settings');
        $(`show-${side}`).setAttribute('aria-expanded', String(!away));
        return;
      }
      const opens = !$(side).classList.contains('open');
      drawers(opens ? side : null);
      if (opens) $(`close-${side}`).focus();
    });
    $(`close-${side}`).addEventListener('click', () => { drawers(null); $(`show-${side}`).focus(); });
  }
  $('veil').addEventListener('click', () => drawers(null));
  const fit = () => { drawers(null); if (!narrow.matches) $('show-settings').setAttribute('aria-expanded', 'true'); };
  narrow.addEventListener('change', fit);
  fit();
}

function keys() {
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    const open = document.querySelector('#chats.open, #settings.open');
    if (open) { drawers(null); $(`show-${open.id}`).focus(); return; }
    chat.stop();
    completion.stop();
  });
}

async function served() {
  for (;;) {
    try {
      return await api.model();
    } catch (error) {
      if (error.status !== 401) throw error;
      await askForToken();
    }
  }
}

let asked = false;

function askForToken() {
  const dialog = $('ask-token');
  $('token-wrong').hidden = !asked;
  asked = true;
  $('token').value = '';
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener('close', () => { api.setToken($('token').value.trim()); done(); }, { once: true });
  });
}

async function start() {
  theme();
  tabs();
  sides();
  keys();
  tokens.listen(announce);
  select('chat');
  let model;
  try {
    model = await served();
  } catch (error) {
    toast(error.message || 'The server cannot be reached.');
    return;
  }
  $('model').textContent = model.id;
  document.title = `${model.id} · fromscratch`;
  const colour = () => document.body.classList.toggle('coloured', $('colour').checked);
  settings.setUp(model, colour);
  colour();
  chat.setUp(model);
  completion.setUp(model);
  if (!model.chat) select('completion');
  document.documentElement.dataset.ready = '';
}

start();
