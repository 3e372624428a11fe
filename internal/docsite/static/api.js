// Shows the API's description with a form for each request. Requests go to this
// server, with the key that is entered under "Authorize"; it is kept nowhere.
document.getElementById("loading").hidden = true;
SwaggerUIBundle({
  url: "/openapi.yaml",
  dom_id: "#api",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  persistAuthorization: false,
  validatorUrl: null, // the default sends the description's address to another host
  presets: [SwaggerUIBundle.presets.apis],
});
