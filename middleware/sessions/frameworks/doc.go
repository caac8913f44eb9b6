// Package frameworks contains only tests. They test package gorillasessions with the web frameworks gin and echo:
//
//	cd middleware/sessions/frameworks && go test ./...
//
// The tests start a Redis themselves, and need the program redis-server in the PATH. The package is a separate Go module,
// so that users of gorillasessions do not get the dependencies of these frameworks.
package frameworks
