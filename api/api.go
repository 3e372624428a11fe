// Package api holds the description of the HTTP API. It imports no other package.
package api

import _ "embed"

// OpenAPI is the API's description (OpenAPI 3.1, YAML).
//
//go:embed openapi.yaml
var OpenAPI []byte
