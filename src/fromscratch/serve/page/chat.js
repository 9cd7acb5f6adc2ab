// The chat tab: conversations of this browser, answers as they are written.

import * as api from './api.js';
import * as settings from './settings.js';
import * as store from './store.js';
import * as tokens from './tokens.js';
import { announce, button, facts, followed, toast, wants } from './page.js';

const $ = (id) => document.getElementById(id);

let chat = store.newChat();
let model = null;
let running = null;

export function setUp(served) {
  model = served;
  $('composer').addEventListener('submit', (event) => { event.preventDefault(); say(); });
  $('chat-text').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    say();
  });
  $('chat-text').addEventListener('input', grow);
  $('stop-chat').addEventListener('click', stop);
  $('new-chat').addEventListener('click', () => { open(store.newChat()); $('chat-text').focus(); wants('chat'); });
  $('system').addEventListener('input', () => { chat.system = $('system').value; if (chat.messages.length) keep(); });
  window.addEventListener('storage', (event) => { if (event.key?.startsWith('fromscratch.chat.')) list(); });
  if (!model.chat) {
    $('composer').hidden = true;
    $('new-chat').disabled = true;
    $('system').closest('.field').hidden = true;
  }
  open(store.chats()[0] ?? store.newChat());
}

export function stop() {
  running?.abort();
}

function open(next) {
  stop();
  chat = next;
  $('system').value = chat.system ?? '';
  draw();
  list();
  $('chat-facts').textContent = '';
  $('chat-scroll').scrollTop = $('chat-scroll').scrollHeight;
}

function keep() {
  const lost = store.save(chat);
  if (lost === 'probabilities') toast('This browser’s storage is full: the oldest chats lost their probabilities.');
  if (lost === 'all') toast('This browser keeps no more: the chat is lost when the page is closed.');
  list();
}

function list() {
  const items = store.chats().map((one) => {
    const item = document.createElement('li');
    const name = button('chat-name', store.title(one), () => { open(one); wants('chat'); });
    if (one.id === chat.id) name.setAttribute('aria-current', 'true');
    const away = button('icon', '', () => forget(one), `Delete “${store.title(one)}”`);
    away.textContent = '×';
    item.append(name, away);
    return item;
  });
  $('chat-list').replaceChildren(...items);
}

function forget(one) {
  store.remove(one);
  if (one.id === chat.id) open(store.chats()[0] ?? store.newChat());
  else list();
  toast('The chat is deleted.', () => { store.save(one); open(one); });
}

// --- the conversation ------------------------------------------------------------------------------

function draw() {
  $('log').replaceChildren(...chat.messages.map(turn));
  const empty = chat.messages.length === 0;
  $('welcome').hidden = !empty;
  if (empty) welcome();
}

function welcome() {
  const head = document.createElement('h2');
  const words = document.createElement('p');
  if (model.chat) {
    head.textContent = `Talk to ${model.id}`;
    words.textContent = `${(model.parameters / 1e6).toPrecision(3)} million parameters, ${model.context.toLocaleString()} tokens of context, on your own machine.`;
  } else {
    head.textContent = 'This model cannot chat yet';
    words.textContent = `${model.id} is a base model: it continues text and has never seen the roles of a conversation. Finetune it with “fromscratch train sft-110 --from MODEL”, or use the Completion tab.`;
  }
  $('welcome').replaceChildren(head, words);
  if (!model.chat) $('welcome').append(button('main', 'Open Completion', () => wants('completion')));
}

function turn(message, index) {
  const place = document.createElement('article');
  place.className = `turn ${message.role}`;
  const who = document.createElement('h3');
  who.className = 'unseen';
  who.textContent = message.role === 'user' ? 'You' : model.id;
  const text = document.createElement('div');
  text.className = 'text';
  place.append(who, text);
  if (message.role === 'user') {
    text.textContent = message.content;
    if (model.chat) place.append(actions(button('', 'Edit', () => edit(place, index))));
    return place;
  }
  text.classList.add('tokens');
  text.tabIndex = 0;
  text.setAttribute('role', 'group');
  text.setAttribute('aria-label', 'Answer; arrow keys show probabilities');
  tokens.show(text, message.content, message.tokens);
  if (message.note) place.append(noteOf(message.note));
  const copy = button('', 'Copy', () => navigator.clipboard?.writeText(message.content)
    .then(() => toast('Copied.'), () => toast('This browser did not let the page copy.')));
  const last = index === chat.messages.length - 1;
  place.append(actions(copy, ...(last && model.chat ? [button('', 'Regenerate', again)] : [])));
  return place;
}

function noteOf(words) {
  const note = document.createElement('p');
  note.className = 'note';
  note.textContent = words;
  return note;
}

function actions(...buttons) {
  const place = document.createElement('footer');
  place.className = 'actions';
  place.append(...buttons);
  return place;
}

function edit(place, index) {
  if (running) return;
  const area = document.createElement('textarea');
  area.value = chat.messages[index].content;
  area.setAttribute('aria-label', 'Edit your message');
  area.rows = Math.min(12, area.value.split('\n').length + 1);
  const done = () => {
    if (!area.value.trim()) return;
    chat.messages = [...chat.messages.slice(0, index), { role: 'user', content: area.value }];
    answer();
  };
  area.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') { event.stopPropagation(); draw(); }
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); done(); }
  });
  place.classList.add('editing');
  place.replaceChildren(area, actions(button('main', 'Send', done), button('', 'Cancel', draw)));
  area.focus();
}

// --- asking ----------------------------------------------------------------------------------------

function grow() {
  const area = $('chat-text');
  area.style.height = 'auto';
  area.style.height = `${Math.min(area.scrollHeight, innerHeight * 0.4)}px`;
}

function say() {
  const text = $('chat-text').value;
  if (running || !text.trim()) return;
  chat.messages.push({ role: 'user', content: text });
  $('chat-text').value = '';
  grow();
  answer();
}

function again() {
  if (running) return;
  if (chat.messages.at(-1)?.role === 'assistant') chat.messages.pop();
  answer();
}

async function answer() {
  const mine = chat;
  keep();
  const reply = { role: 'assistant', content: '', tokens: [] };
  draw();
  const place = turn(reply, -1);
  place.classList.add('writing');
  $('log').append(place);
  const scroll = followed($('chat-scroll'));
  scroll.toEnd();
  running = new AbortController();
  busy(true);
  const asked = settings.request();
  const messages = mine.messages.map(({ role, content }) => ({ role, content }));
  if (mine.system.trim()) messages.unshift({ role: 'system', content: mine.system });
  const reader = new tokens.Reader();
  const begin = performance.now();
  let first = 0;
  let usage = null;
  try {
    const body = { ...asked, messages, logprobs: true, top_logprobs: 5 };
    for await (const piece of api.stream('v1/chat/completions', body, running.signal)) {
      usage = piece.usage ?? usage;
      if (piece.truncated) reply.note = `The ${piece.truncated === 1 ? 'oldest turn no longer fits' : `${piece.truncated} oldest turns no longer fit`} into the context and ${piece.truncated === 1 ? 'was' : 'were'} left out.`;
      const choice = piece.choices[0];
      if (!choice) continue;
      const text = choice.delta.content ?? '';
      if (text && !first) first = performance.now();
      reply.content += text;
      const fresh = reader.chat(choice);
      reply.tokens.push(...fresh);
      tokens.append(place.querySelector('.tokens'), fresh);
      scroll.keep();
      if (choice.ended_by === 'max_tokens') reply.note = joined(reply.note, 'Cut at the longest answer’s length.');
      if (choice.ended_by === 'time') reply.note = joined(reply.note, 'Cut: the server’s time for an answer was over.');
    }
  } catch (error) {
    if (error.name === 'AbortError') reply.note = joined(reply.note, 'Stopped.');
    else reply.note = joined(reply.note, error.message || 'The server cannot be reached.');
  }
  running = null;
  busy(false);
  mine.messages.push(reply);
  if (mine === chat) { keep(); draw(); scroll.keep(); } else store.save(mine);
  $('chat-facts').textContent = facts(reply.tokens.length, first || begin, usage, model);
  announce(reply.content || reply.note || 'The answer is empty.');
}

const joined = (before, more) => (before ? `${before} ${more}` : more);

function busy(yes) {
  $('send').hidden = yes;
  $('stop-chat').hidden = !yes;
  if (yes) announce('The model is writing.');
}
