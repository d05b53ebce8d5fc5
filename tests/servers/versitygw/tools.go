//go:build tools

// Package servers pins VersityGW, a server of S3 that the tests run against.
package servers

import _ "github.com/versity/versitygw/cmd/versitygw"
