//go:build tools

// Package oracle pins stock plakar, the reference the tests compare with.
package oracle

import _ "github.com/PlakarKorp/plakar"
