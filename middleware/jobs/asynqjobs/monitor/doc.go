// Package monitor is the admin page of jobs on asynq: asynqmon, opened. It shows
// queues, tasks in every state, groups, schedules and servers of a Redis in which
// everything is sealed, to those whom the application admits.
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
// It is a package of its own so that no worker links a web interface.
//
// # Who sees what
//
// asynqmon has no authentication. The application's [Authorizer] says, for each
// request, who asks and what they may see:
//
//   - [NoAccess]: nothing, 403
//   - [Numbers]: what Redis holds in clear anyway. Queues, counts, times, ids, type
//     names as they are stored. Hidden type names (asynqjobs.WithHiddenTypes) remain
//     pseudonyms, schedules of asynqjobs.Scheduler are not listed
//   - [Names]: real type names as well, and the names and times of schedules
//   - [Contents]: payloads, results and error texts as well, of all tasks or of
//     those that Viewer.Sees admits
//
// Without an authorizer everybody who reaches the page has Numbers: no key is
// used, and nothing is opened. What stands in clear in Redis because it was never
// sealed is withheld like the rest from those who have no Contents, and marked "[not
// sealed]" for those who have: it may come from anybody who can write to Redis.
//
// # Audit
//
// Whenever contents are about to be shown, or an action is about to be done or was
// refused to a viewer, a [Record] says who, what and of which tasks. It goes to the
// logger, and to the function of [WithAudit], whose error keeps the contents from
// being shown and the action from being done. It has ten seconds, and nobody else
// waits for it. The page asks again every few seconds; each time is a look. Of an
// action that was refused the names are recorded in short, and not those in its body.
//
// # Actions
//
// The page is read-only. With [WithActions], viewers with Viewer.Acts may run,
// archive, cancel and delete tasks, and pause, resume and delete queues. No action
// changes or seals a payload.
//
// # What the browser is told
//
// Requests from other origins are refused: all that would change something, and
// those for data where the browser says where they come from. A content security
// policy without exceptions for inline code allows no host but the application's,
// and asynqmon's two links to a font host are removed. Nothing may be stored in a cache, or
// framed. Session cookies of the application should be SameSite all the same.
//
// # Limits
//
// Lists have at most 100 tasks a page and show the first 4 KiB of each field; a
// task's own page shows 64 KiB ([MaxShownBytes]). What is larger than 4 MiB is not
// opened. asynq reads the whole tasks of a page into memory, however large their
// payloads. At most 4 requests open tasks at a time, for at most 10 seconds each.
// Schedules that were opened a minute ago or less are not opened again, and those that
// are not opened in time are missing; the list says so.
// Tasks whose queue, group or id contains a slash have no page of their own,
// because asynqmon has none for them.
//
// A [Handler] is safe for concurrent use.
package monitor
