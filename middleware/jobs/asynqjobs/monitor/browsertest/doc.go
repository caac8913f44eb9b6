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
// or, all of it, make test-browser. CHROMIUM names another browser than the
// chromium of the PATH; SCREENSHOTS a directory in which screenshots are left.
package browsertest
