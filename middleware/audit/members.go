package audit

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
)

// The members of asynq's lists and sets are ids of tasks, names of groups and queues, and keys. Releases of asynq
// before 0.18 kept whole messages there, and an attacker or a mistake may put anything there. A member counts as
// bookkeeping only if it is what asynq 0.26 writes. The entry that it names must exist, or must at least look like a
// name.

// rule describes the members of a collection.
type rule struct {
	kind string // of the collection
	// entries returns the names of entries of which at least one exists if asynq wrote the member. Nil requires none.
	entries func(member string) []string
	// valid reports whether a member has the right form.
	valid func(member string) bool
}

// memberRule returns the rule of a collection of asynq, or nil.
func memberRule(name, kind string) *rule {
	keys := func(prefix string) *rule {
		return &rule{kind, nil, func(m string) bool {
			process, ok := strings.CutPrefix(m, prefix)
			return ok && isProcess(process)
		}}
	}
	switch name + " " + kind {
	case asynqwire.KeyPrefix + "queues set":
		return &rule{kind, queueKeys, isID}
	case asynqwire.KeyPrefix + "servers zset":
		return keys(asynqwire.KeyPrefix + "servers:")
	case asynqwire.KeyPrefix + "workers zset":
		return keys(workersPrefix)
	case asynqwire.KeyPrefix + "schedulers zset":
		return keys(schedulersPrefix)
	}
	if kind == "zset" && strings.HasPrefix(name, historyPrefix) {
		return &rule{kind, nil, isEnqueueEvent}
	}
	for rest, ok := afterBrace(name); ok; rest, ok = nextBrace(rest) {
		queue := name[:len(name)-len(rest)] // with the colon
		if r := memberRuleInQueue(queue, rest, kind); r != nil {
			return r
		}
	}
	return nil
}

func memberRuleInQueue(queue, rest, kind string) *rule {
	switch rest + " " + kind {
	case "pending list", "active list", "scheduled zset", "retry zset", "archived zset", "completed zset", "lease zset":
		return &rule{kind, func(m string) []string { return []string{queue + "t:" + m} }, isID}
	case "groups set":
		return &rule{kind, func(m string) []string { return []string{queue + "g:" + m} }, isID}
	case "aggregation_sets zset":
		return &rule{kind, func(m string) []string { return []string{m} }, func(m string) bool { return strings.HasPrefix(m, queue+"g:") && isID(m) }}
	}
	if kind == "zset" && strings.HasPrefix(rest, "g:") {
		return &rule{kind, func(m string) []string { return []string{queue + "t:" + m} }, isID}
	}
	return nil
}

// queueKeys returns the names of the entries of a queue. One of them exists unless all its tasks were deleted before one ran.
func queueKeys(queue string) []string {
	rest := []string{"processed", "pending", "active", "scheduled", "retry", "archived", "completed", "lease", "groups", "paused"}
	for i := range rest {
		rest[i] = asynqwire.KeyPrefix + "{" + queue + "}:" + rest[i]
	}
	return rest
}

// maxID bounds an id, or the name of a queue or group.
const maxID = 1 << 10

// isID reports whether a text can be an id or a name: short, printable, and not a JSON value or a sealed one.
func isID(s string) bool {
	if s == "" || len(s) > maxID || !utf8.ValidString(s) || strings.ContainsAny(s[:1], `{["`) && json.Valid([]byte(s)) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// isProcess reports whether a text has the form in which asynq names a server or scheduler: {host:pid:uuid}.
func isProcess(s string) bool {
	inner, ok1 := strings.CutPrefix(s, "{")
	inner, ok2 := strings.CutSuffix(inner, "}")
	parts := strings.Split(inner, ":")
	n := len(parts)
	if !ok1 || !ok2 || n < 3 || strings.ContainsRune(inner, ' ') || !isID(inner) || !isUUID(parts[n-1]) {
		return false
	}
	_, err := strconv.ParseUint(parts[n-2], 10, 32)
	return err == nil
}

func isUUID(s string) bool {
	const form = "00000000-0000-0000-0000-000000000000"
	if len(s) != len(form) {
		return false
	}
	for i := range len(s) {
		if (s[i] == '-') != (form[i] == '-') || s[i] != '-' && !strings.Contains("0123456789abcdef", s[i:i+1]) {
			return false
		}
	}
	return true
}

// isEnqueueEvent reports whether a text is a SchedulerEnqueueEvent: an id and a time.
func isEnqueueEvent(s string) bool {
	const eventID, eventTime = 1, 2
	id, at := "", false
	unknown, err := eachField([]byte(s), eventTime, func(num protowire.Number, v []byte) error {
		switch num {
		case eventID:
			id = string(v)
		case eventTime:
			at = true
		}
		return nil
	})
	return err == nil && !unknown && isID(id) && at && len(s) < 2*len(id)+64
}

// membersAtATime is how many members are read at a time.
const membersAtATime = 1000

// members counts a collection as bookkeeping if all its members fit the rule.
func (a *auditor) members(ctx context.Context, name string, r *rule, f *findings) error {
	client := a.servers.Client
	card := map[string]func(ctx context.Context, name string) *redis.IntCmd{"list": client.LLen, "set": client.SCard, "zset": client.ZCard}[r.kind]
	if ok, err := a.readable(ctx, name, card, f); err != nil || !ok {
		return err
	}
	doubtful := false
	err := a.eachMembers(ctx, name, r.kind, func(members []string) error {
		odd, err := a.hasUnexpectedMember(ctx, name, r, members)
		doubtful = doubtful || odd
		return err
	})
	if err != nil {
		return err
	}
	if doubtful {
		f.notUnderstood(name, a.Samples)
	} else {
		f.jobs.Bookkeeping++
	}
	return nil
}

// hasUnexpectedMember reports whether a member does not fit the rule.
func (a *auditor) hasUnexpectedMember(ctx context.Context, name string, r *rule, members []string) (bool, error) {
	var named, of []string
	for _, m := range members {
		if !r.valid(m) {
			return true, nil
		}
		if r.entries == nil {
			continue
		}
		for _, e := range r.entries(m) {
			named, of = append(named, e), append(of, m)
		}
	}
	kinds, err := a.servers.Kinds(ctx, named)
	if err != nil {
		return false, err
	}
	found := make(map[string]bool, len(members))
	for i, kind := range kinds {
		found[of[i]] = found[of[i]] || kind != "none"
	}
	for m, is := range found {
		if is {
			continue
		}
		// The task may have ended since its id was read. Then the id is gone too.
		still, err := a.isMember(ctx, name, r.kind, m)
		if err != nil || still {
			return still, err
		}
	}
	return false, nil
}

func (a *auditor) isMember(ctx context.Context, name, kind, member string) (bool, error) {
	client := a.servers.Client
	var err error
	switch kind {
	case "list":
		err = client.LPos(ctx, name, member, redis.LPosArgs{}).Err()
	case "zset":
		err = client.ZScore(ctx, name, member).Err()
	default:
		return client.SIsMember(ctx, name, member).Result()
	}
	if err == redis.Nil { //nolint:errorlint // go-redis returns it bare
		return false, nil
	}
	return err == nil, err
}

func (a *auditor) eachMembers(ctx context.Context, name, kind string, f func(members []string) error) error {
	client := a.servers.Client
	if kind == "list" {
		return pages(func(from, to int64) ([]string, error) { return client.LRange(ctx, name, from, to).Result() }, f)
	}
	for cursor := uint64(0); ; {
		var members []string
		var err error
		if kind == "set" {
			members, cursor, err = client.SScan(ctx, name, cursor, "", membersAtATime).Result()
		} else {
			var pairs []string
			pairs, cursor, err = client.ZScan(ctx, name, cursor, "", membersAtATime).Result()
			for i := 0; i < len(pairs); i += 2 {
				members = append(members, pairs[i])
			}
		}
		if err != nil {
			return err
		}
		if err := f(members); err != nil || cursor == 0 {
			return err
		}
	}
}

// pages reads a list from its start to its end.
func pages(read func(from, to int64) ([]string, error), f func(page []string) error) error {
	for from := int64(0); ; from += membersAtATime {
		page, err := read(from, from+membersAtATime-1)
		if err != nil {
			return err
		}
		if err := f(page); err != nil || len(page) < membersAtATime {
			return err
		}
	}
}

// ticks counts a hash of times as bookkeeping: tokens with decimal times, and a version.
func (a *auditor) ticks(ctx context.Context, name string, f *findings) error {
	fields, err := a.servers.Client.HGetAll(ctx, name).Result()
	if err != nil {
		return err
	}
	for field, value := range fields {
		valid := asynqwire.IsScheduleField(field) && len(value) <= 20 && strings.Trim(value, "-0123456789") == ""
		if field == asynqwire.VersionField {
			valid = asynqwire.IsScheduleVersion(value)
		}
		if !valid {
			f.notUnderstood(name, a.Samples)
			return nil
		}
	}
	f.jobs.Bookkeeping++
	return nil
}
