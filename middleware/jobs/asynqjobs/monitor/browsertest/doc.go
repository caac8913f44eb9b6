// Package browsertest looks at the admin page of jobs in a real browser: headless
// Chromium, driven by Playwright, over a real redis-server and a real asynq server.
// It checks that names are shown, that payloads are hidden from one user and shown
// to another, that actions work only for users with the right to act and from the
// page's own origin, that the content security policy is never violated, and that
// the browser asks no other host for anything.
//
// It is not part of go test ./..., because it needs more than Go:
//
//	apt-get install chromium redis-server nodejs npm   # Debian
//	npm ci --prefix middleware/jobs/asynqjobs/monitor/browsertest
//	go test -tags browser ./middleware/jobs/asynqjobs/monitor/browsertest
//
// The command make test-browser installs redis-server and does the last two. Two environment variables change
// the test: CHROMIUM is the path of another browser, and SCREENSHOTS is a directory
// in which it leaves screenshots.
package browsertest
