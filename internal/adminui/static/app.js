// Improvements of the pages for browsers with scripts. The pages work without them.
"use strict";

// Light and dark.
document.querySelector("[data-theme-toggle]")?.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* for this page only, then */ }
});

// The menu is closed at first on a phone.
if (matchMedia("(max-width: 50rem)").matches) document.querySelector("details.menu")?.removeAttribute("open");

// Parts of a page that are updated say when the server does not respond.
const offline = document.querySelector("[data-offline]");
for (const name of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) document.addEventListener(name, () => { offline.hidden = false; });
document.addEventListener("htmx:afterOnLoad", (e) => { if (e.detail.successful) offline.hidden = true; });

// Copy the text of the element before the button, or of the one that the button names.
document.addEventListener("click", async (e) => {
  const button = e.target.closest("[data-copy]");
  if (!button) return;
  const source = button.dataset.copy ? document.getElementById(button.dataset.copy) : button.parentElement.querySelector("[data-copy-source]");
  const was = button.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch { // no clipboard without https: select it for the keyboard
    getSelection().selectAllChildren(source);
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = was; }, 1500);
});

// Ask for confirmation before an irreversible action.
document.addEventListener("submit", (e) => {
  const text = e.target.dataset.sure;
  if (text && !confirm(text)) e.preventDefault();
});

// The button is enabled once the exact name is typed.
for (const form of document.querySelectorAll("form[data-confirm]")) {
  const want = form.dataset.confirm;
  const field = form.elements.confirm;
  if (!want || !field) continue;
  const button = form.querySelector("button");
  const check = () => { button.disabled = field.value !== want; };
  field.addEventListener("input", check);
  check();
}

// The form of a webhook shows the fields of the chosen transport.
const endpointForm = document.querySelector("[data-endpoint-form]");
if (endpointForm) {
  const choose = () => {
    const chosen = [endpointForm.elements.transport.value];
    if (chosen[0] === "oauth2") chosen.push(endpointForm.elements.grant_type.value);
    for (const part of endpointForm.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").some((t) => chosen.includes(t));
    endpointForm.querySelector("[data-disabled-note]").hidden = endpointForm.querySelector("[data-enabled]").checked;
  };
  endpointForm.addEventListener("change", choose);
  choose();
  endpointForm.querySelector("[data-select-all]").addEventListener("click", () => {
    const boxes = [...endpointForm.querySelectorAll("[name=event]:not([data-all])")];
    const on = !boxes.every((b) => b.checked);
    for (const b of boxes) b.checked = on;
  });
  endpointForm.addEventListener("submit", (e) => {
    const some = endpointForm.querySelector("[name=event]:checked") || endpointForm.elements.others.value.trim();
    const first = endpointForm.querySelector("[data-all]");
    first.setCustomValidity(some ? "" : "Choose at least one event.");
    if (!some) { e.preventDefault(); first.reportValidity(); }
  });
  endpointForm.addEventListener("input", () => endpointForm.querySelector("[data-all]").setCustomValidity(""));
}

// The live tail puts new events at the top.
const tailed = document.querySelector("table[data-tail]");
if (tailed) {
  const most = 200;
  const body = tailed.tBodies[0];
  const state = document.querySelector("[data-tail-state]");
  const button = document.querySelector("[data-tail-pause]");
  let paused = false;
  let held = [];
  const show = (event) => {
    body.querySelector("tr.none")?.remove();
    const row = body.insertRow(0);
    row.className = "fresh";
    const link = document.createElement("a");
    link.className = "id";
    link.href = event.url;
    link.textContent = event.id;
    row.insertCell().append(link);
    row.insertCell().textContent = event.type;
    const size = row.insertCell();
    size.className = "number";
    size.textContent = event.size.toLocaleString("en");
    row.insertCell().textContent = event.time;
    while (body.rows.length > most) body.deleteRow(-1);
  };
  const say = () => { state.textContent = paused ? `paused, ${held.length} new` : "live"; };
  const source = new EventSource(tailed.dataset.tail);
  source.addEventListener("message", (e) => {
    const event = JSON.parse(e.data);
    if (paused) { held.push(event); if (held.length > most) held.shift(); } else show(event);
    say();
  });
  source.addEventListener("open", say);
  source.addEventListener("error", () => { state.textContent = "connecting…"; });
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Go on" : "Pause";
    if (!paused) { held.forEach(show); held = []; }
    say();
  });
  addEventListener("pagehide", () => source.close());
}
