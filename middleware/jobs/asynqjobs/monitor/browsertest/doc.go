// Package browsertest tests the admin page of package monitor in headless Chromium with
// Playwright. The page uses a real redis-server and a real asynq server. The test checks:
//
//   - The page shows names.
//   - It shows payloads only to users with access to payloads.
//   - Actions work only for users with the right to act, and only from the page's own
//     origin.
//   - The browser reports no violation of the content security policy.
//   - The browser sends no request to another host.
//
// It is not part of go test ./..., because it needs more than Go:
//
//	apt-get install chromium redis-server nodejs npm   # Debian
//	npm ci --prefix middleware/jobs/asynqjobs/monitor/browsertest
//	go test -tags browser ./middleware/jobs/asynqjobs/monitor/browsertest
//
// The command make test-browser installs redis-server, and then runs npm ci and go test.
//
// The variable CHROMIUM sets the path of another browser. The variable SCREENSHOTS sets a
// directory, and the test saves screenshots there.
package browsertest
