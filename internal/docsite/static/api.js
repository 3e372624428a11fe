// Shows the API's description with a form for each request. Requests go to this
// server, with the key that is entered under "Authorize"; the key is not stored.
document.getElementById("loading").hidden = true;

// The form has the page's colour scheme.
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const follow = () => root.classList.toggle("dark-mode", root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
follow();
system.addEventListener("change", follow);
new MutationObserver(follow).observe(root, { attributeFilter: ["data-theme"] });

SwaggerUIBundle({
  url: "../openapi.yaml", // from /docs/api: the server may be mounted below a path
  dom_id: "#api",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  persistAuthorization: false,
  validatorUrl: null, // the default sends the description's address to another host
  presets: [SwaggerUIBundle.presets.apis],
});
