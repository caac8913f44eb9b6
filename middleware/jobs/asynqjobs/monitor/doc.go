// Package monitor is an admin page for the sealed (encrypted) jobs of package asynqjobs. It shows queues, tasks, groups,
// schedules and servers. It is asynqmon, the web interface of asynq, with decrypted tasks. Call [New], and mount the
// returned [Handler]:
//
//	h, err := monitor.New(redis, e,
//		monitor.WithRootPath("/admin/jobs"),
//		monitor.WithAuthorizer(func(r *http.Request) monitor.Viewer {
//			if u := userOf(r); u.Is("auditor") { // the application's own authentication
//				return monitor.Viewer{Name: u.Name, Access: monitor.AccessPayloads}
//			}
//			return monitor.Viewer{} // 403
//		}))
//	...
//	defer h.Close()
//	mux.Handle("/admin/jobs/", h)
//
// Here, redis is the asynq.RedisConnOpt with which the application connects to the Redis server of the jobs. The variable
// e is the application's jobs.Encryptor, which contains the encryption keys.
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
// Without an Authorizer, every user has AccessCounts. Without AccessPayloads, a user sees no payload, even if it is
// plaintext in Redis. With AccessPayloads, the page marks a plaintext payload with "[not sealed]". An attacker with write
// access to Redis may have written such a payload.
//
// By default, the page is read-only. With [WithActions], users with Viewer.CanAct can change tasks and queues. Before the
// page shows payloads or does an action, it makes a [Record]. A Record says which user views or changes which tasks. The
// page logs each Record, and passes the Record to the function given to [WithAudit].
//
// # Browser security
//
//   - The page refuses a request from another origin if the request changes data.
//   - The page refuses a request for data if the browser marks the request as cross-origin (header Sec-Fetch-Site).
//   - The content security policy allows no other hosts, and no inline scripts or styles except the page's own.
//   - Headers tell browsers not to cache the responses, and not to show them in a frame.
//
// Also set SameSite on the session cookies of the application.
package monitor
