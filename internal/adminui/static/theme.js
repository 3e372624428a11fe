// Runs before the page is painted: sets the chosen theme, and marks that scripts are enabled.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  let theme = null;
  try { theme = localStorage.getItem("theme"); } catch { /* storage may be forbidden in an iframe */ }
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
})();
