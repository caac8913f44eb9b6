// Package monitor is the admin page of jobs on asynq: asynqmon, with decrypted tasks. It
// shows queues, tasks in every state, groups, schedules and servers of a Redis that
// holds sealed jobs, to the users that the application admits.
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
// It is a separate package, so that workers link no web interface.
//
// # Access
//
// asynqmon has no authentication. The application's [Authorizer] returns, for each
// request, the user and what the user may see:
//
//   - [NoAccess]: nothing, status 403
//   - [AccessCounts]: what Redis holds as plaintext anyway: queues, counts, times, ids,
//     and type names as stored. Hidden type names (asynqjobs.WithHiddenTypes) remain
//     pseudonyms. Schedules of asynqjobs.Scheduler are not listed
//   - [AccessTypes]: also real type names, and the names and times of schedules
//   - [AccessPayloads]: also payloads, results and error texts, of all tasks or of those
//     that Viewer.CanView admits
//
// Without an authorizer, every user has AccessCounts: no key is used, and nothing is
// opened. Values that were never sealed are withheld like the others from users without
// AccessPayloads. For users with it, they are marked "[not sealed]", because an attacker
// who can write to Redis may have planted them. A banner tells users without
// AccessPayloads that payloads are withheld, and who they are.
//
// # Audit
//
// A [Record] names the user, the action and the tasks before payloads are shown, before
// an action is done, and when an action is refused. It goes to the logger, and to the
// function of [WithAudit]. An error of that function keeps payloads from being shown and
// the action from being done. It has ten seconds. Other requests do not wait for it. The
// page refreshes every few seconds, and each refresh makes a Record. The Record of a
// refused action holds shortened names, and nothing of the request's body.
//
// # Actions
//
// The page is read-only. With [WithActions], users with Viewer.CanAct may run, archive,
// cancel and delete tasks, and pause, resume and delete queues. No action changes or
// seals a payload.
//
// # Browser security
//
// Requests from other origins are refused: all requests that change something, and
// requests for data if the browser says that they come from elsewhere. The content
// security policy allows no host but the application's, and no inline code that it does
// not name. asynqmon's links to a font host are removed. Answers may not be cached or
// framed. Session cookies of the application should be SameSite in addition.
//
// # Limits
//
// Lists have at most 100 tasks a page and show the first 4 KiB of each field. A task's own
// page shows [MaxShownBytes]. Tasks of more than 4 MiB are not opened. asynq reads the
// whole tasks of a page into memory, whatever their size. At most 4 requests open tasks at
// a time, for at most 10 seconds each. A schedule that was opened within the last minute
// is not opened again. Schedules that are not opened in time are missing, and the list
// says so. Tasks whose queue, group or id contains a slash have no page,
// because asynqmon has none for them.
//
// A [Handler] is safe for concurrent use.
package monitor
