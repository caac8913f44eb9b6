package audit

import (
	"fmt"
	"slices"
)

// AnythingSealed answers whether anything in the scope is sealed, and gives the reasons: No is what the way back to clear
// ends with, before the keys are taken away. Fernet tokens are not sealed in this sense, and are left out.
func (r *Report) AnythingSealed() (Answer, []string) {
	var found, doubts []string
	note := func(n int64, text string) {
		if n > 0 {
			found = append(found, fmt.Sprintf("%d %s", n, text))
		}
	}
	note(r.Total.Sealed.Values, "values are sealed")
	jobs := int64(0)
	for _, t := range r.Jobs.tallies() {
		jobs += t.Sealed.Values
	}
	note(jobs, "payloads, results or error texts of jobs are sealed")
	note(r.unknownFormat(), "values are of foreign format: they may be sealed by a newer release")
	if len(found) > 0 {
		return Yes, found
	}
	doubts = append(doubts, slices.Concat(r.scanDoubts(), r.emptyDoubts())...)
	if r.Prefix == "" && !r.OneDatabase && len(r.OtherDatabases) > 0 {
		doubts = append(doubts, fmt.Sprintf("databases %v of the same server were not looked at", r.OtherDatabases))
	}
	if r.Jobs.Unparsed > 0 {
		doubts = append(doubts, fmt.Sprintf("%d entries of a job queue are not as asynq writes them", r.Jobs.Unparsed))
	}
	if !r.IgnoredOtherTypes {
		doubts = append(doubts, r.typeDoubts()...)
	}
	if len(doubts) > 0 {
		return Unknown, doubts
	}
	return No, nil
}
