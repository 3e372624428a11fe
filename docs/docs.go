// Package docs holds the documentation as files. It knows nothing else.
package docs

import "embed"

// Files is every page, with the pictures that pages show.
//
//go:embed *.md */*.md diagrams/*.svg charts/*.svg images/*-light.webp
var Files embed.FS
