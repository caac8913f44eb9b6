// Package monitor is an admin page for sealed jobs on asynq. It is asynqmon with
// decrypted tasks. The page shows queues, tasks in every state, groups, schedules and
// servers to the users that the application admits.
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
// It is a separate package, so that the binary of a worker contains no web interface.
//
// # Access
//
// asynqmon has no authentication. For each request, the application's [Authorizer]
// returns the user and the access of the user:
//
//   - [NoAccess]: nothing, status 403.
//   - [AccessCounts]: queues, counts, times, ids and stored type names. Redis holds all of
//     these as plaintext. Type names that asynqjobs.WithHiddenTypes hides stay hidden.
//     Schedules of asynqjobs.Scheduler are not listed.
//   - [AccessTypes]: also the original type names, and the names and times of schedules.
//   - [AccessPayloads]: also payloads, results and error texts. Viewer.CanView can limit
//     them to certain tasks.
//
// Without an Authorizer, every user has AccessCounts. The page then decrypts nothing.
//
// Without AccessPayloads, a user sees no payload, not even one that is plaintext in Redis.
// A banner says so, and shows the name and the access of the user. With AccessPayloads, a
// plaintext payload has the mark "[not sealed]". An attacker with write access to Redis may
// have planted it.
//
// # Audit
//
// The page makes a [Record] before it shows payloads, before it does an action, and when it
// refuses an action. A Record contains the user, the action and the tasks. The page logs
// each Record, and passes it to the function of [WithAudit].
//
// If this function returns an error, the page shows no payloads and does no action. The
// context of the function has a deadline of ten seconds. Other requests do not wait for
// the function.
//
// The page reloads its data every few seconds. Each reload that shows payloads makes a
// Record. In the Record of a refused action, long names are cut. It contains nothing from
// the body of the request.
//
// # Actions
//
// The page is read-only. With [WithActions], users with Viewer.CanAct may run, archive,
// cancel and delete tasks, and pause, resume and delete queues. No action changes or
// seals a payload.
//
// # Browser security
//
//   - The page refuses each request that changes data, if it comes from another origin.
//     It also refuses a request for data if the browser marks it as cross-origin
//     (Sec-Fetch-Site).
//   - The content security policy allows only the application's host. It allows an inline
//     script only by its hash, and an inline style only by a nonce.
//   - asynqmon's links to a font host are removed.
//   - Browsers must not cache the responses, or show them in a frame.
//
// Also set SameSite on the session cookies of the application.
//
// # Limits
//
//   - A list shows at most 100 tasks per page, and 4 KiB of each field. The page of one
//     task shows [MaxShownBytes] of each field.
//   - The page does not decrypt tasks of more than 4 MiB. asynq still reads each task of a
//     list completely into memory.
//   - At most 4 requests decrypt tasks at the same time, each for at most 10 seconds.
//     Further requests wait.
//   - The page decrypts a schedule at most once per minute. If a schedule is not decrypted
//     in time, the list omits it and shows a note.
//   - A task has no separate page if its queue, group or id contains a slash. This is a
//     limit of asynqmon.
//
// A [Handler] is safe for concurrent use.
package monitor
