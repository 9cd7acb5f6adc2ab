// Before anything is drawn: the theme that the person chose, if they did.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem('fromscratch.theme'); } catch { /* storage is switched off */ }
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
})();
