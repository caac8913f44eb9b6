// Package monitor is an admin page for the sealed (encrypted) jobs of package asynqjobs. It shows queues, tasks, groups,
// schedules and servers. It is asynqmon, the web interface of asynq, with decrypted tasks.
//
//	h, err := monitor.New(redis, e,
//		monitor.WithRootPath("/admin/jobs"),
//		monitor.WithAuthorizer(func(r *http.Request) monitor.Viewer {
//			u := userOf(r) // the application's own authentication
//			switch {
//			case u.Is("auditor"):
//				return monitor.Viewer{Name: u.Name, Access: monitor.AccessPayloads}
//			case u.Is("operator"):
//				return monitor.Viewer{Name: u.Name, Access: monitor.AccessTypes}
//			default:
//				return monitor.Viewer{} // 403
//			}
//		}))
//	...
//	defer h.Close()
//	mux.Handle("/admin/jobs/", h)
//
// Here, e is the jobs.Encryptor of the application. It contains the encryption keys.
//
// # Access
//
// The page has no authentication. For each request, the application's [Authorizer] returns a [Viewer]: the user and the
// user's access. Each level in this list includes the levels before it:
//
//   - [NoAccess]: nothing, status 403.
//   - [AccessCounts]: queues, counts, times, ids, and type names as Redis holds them. Nothing is decrypted.
//   - [AccessTypes]: also type names that asynqjobs.WithHiddenTypes hides, and the names and times of schedules.
//   - [AccessPayloads]: also payloads, results and error texts. Viewer.CanView can limit them to certain tasks.
//
// Without an Authorizer, every user has AccessCounts.
//
// Without AccessPayloads, a user sees no payload, even if it is plaintext in Redis. A banner shows the user's name and
// access. With AccessPayloads, a plaintext payload has the mark "[not sealed]". An attacker with write access to Redis may
// have written it.
//
// # Records
//
// Before the page shows payloads or does an action, it makes a [Record] with the user, the action and the tasks. It also
// makes one when it refuses an action. The page logs each Record, and passes it to the function of [WithAudit]. If this
// function returns an error, the page shows no payloads and does no action. The function has at most ten seconds, and does
// not delay other requests.
//
// A page in the browser reloads its data every few seconds. Each reload that shows payloads makes a Record.
//
// # Actions
//
// By default, the page is read-only. With [WithActions], users with Viewer.CanAct may run, archive, cancel and delete
// tasks. They may also pause, resume and delete queues. No action changes a payload.
//
// # Browser security
//
//   - The page refuses a request from another origin if the request changes data.
//   - It refuses a request for data if the browser marks it as cross-origin (header Sec-Fetch-Site).
//   - The content security policy allows no other hosts, and no inline scripts or styles except the page's own.
//   - Headers tell browsers not to cache the responses, and not to show them in a frame.
//
// Also set SameSite on the session cookies of the application.
//
// # Limits
//
//   - A list shows at most 100 tasks per page, and 4 KiB of each field. The page of one task shows [MaxShownBytes] of each
//     field.
//   - The page does not decrypt tasks of more than 4 MiB. asynq still reads each task of a list completely into memory.
//   - At most 4 requests decrypt tasks at the same time, each for at most 10 seconds. Further requests wait.
//   - The page decrypts a schedule at most once per minute. If a request ends before a schedule is decrypted, the list
//     omits the schedule and shows a note.
//   - A task has no separate page if its queue, group or id contains a slash. This is a limit of asynqmon.
//
// A [Handler] is safe for concurrent use.
package monitor
