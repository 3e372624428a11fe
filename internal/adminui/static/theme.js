// Runs before the page is painted: the chosen theme, and that scripts run.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  let theme = null;
  try { theme = localStorage.getItem("theme"); } catch { /* storage may be forbidden in an iframe */ }
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
})();
