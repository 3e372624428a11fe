// Package docs holds the documentation as files. It imports no other package.
package docs

import "embed"

// Files has all pages and the pictures in them.
//
//go:embed *.md */*.md diagrams/*.svg charts/*.svg images/*-light.webp
var Files embed.FS
