// Package browsertest tests the admin page of package monitor in a browser: Chromium without a window, controlled by
// Playwright. The page uses a real redis-server and a real asynq server. The test checks:
//
//   - The page shows the names of queues and tasks.
//   - It shows payloads only to users with access to payloads.
//   - Actions work only for users with the right to act. A request from a page of another origin (CSRF) is refused.
//   - The browser reports no violation of the content security policy.
//   - The browser sends no request to another host.
//
// The test needs more than Go, so it runs only with the build tag browser:
//
//	apt-get install chromium redis-server nodejs npm   # Debian
//	npm ci --prefix middleware/jobs/asynqjobs/monitor/browsertest
//	go test -tags browser ./middleware/jobs/asynqjobs/monitor/browsertest
//
// To use another browser, set the variable CHROMIUM to its path. To save screenshots, set the variable SCREENSHOTS to a
// directory.
package browsertest
