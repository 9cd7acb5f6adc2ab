// What this browser keeps: each chat under a key of its own, so that two tabs do not undo each other.

const prefix = 'fromscratch.chat.';

function read(name, otherwise) {
  try { return JSON.parse(localStorage.getItem(name)) ?? otherwise; } catch { return otherwise; }
}

function write(name, value) {
  try { localStorage.setItem(name, JSON.stringify(value)); return true; } catch { return false; }
}

export const settings = {
  load: () => read('fromscratch.settings', {}),
  save: (values) => write('fromscratch.settings', values),
};

export const draft = {
  load: () => read('fromscratch.completion', ''),
  save: (text) => write('fromscratch.completion', text),
};

export function chats() {
  const found = [];
  try {
    for (let i = 0; i < localStorage.length; i++) {
      const name = localStorage.key(i);
      if (!name.startsWith(prefix)) continue;
      const chat = read(name, null);
      if (chat && Array.isArray(chat.messages)) found.push(chat);
    }
  } catch { /* storage is switched off */ }
  return found.sort((a, b) => b.changed - a.changed);
}

export function newChat() {
  return { id: crypto.randomUUID?.() ?? String(Math.random()).slice(2), system: '', messages: [], changed: Date.now() };
}

// Returns what had to be given up so that it fits: null, 'probabilities' (of the oldest chats) or 'all'.
export function save(chat) {
  chat.changed = Date.now();
  if (write(prefix + chat.id, chat)) return null;
  for (const old of chats().reverse()) {
    old.messages.forEach((message) => delete message.tokens);
    write(prefix + old.id, old);
    if (write(prefix + chat.id, chat)) return 'probabilities';
  }
  return 'all';
}

export function remove(chat) {
  try { localStorage.removeItem(prefix + chat.id); } catch { /* storage is switched off */ }
}

export function title(chat) {
  const first = chat.messages.find((message) => message.role === 'user');
  const words = (first?.content ?? '').trim().replace(/\s+/g, ' ');
  return words ? (words.length > 44 ? `${words.slice(0, 43)}…` : words) : 'New chat';
}
