package rediserr

import (
	"regexp"
	"strconv"
	"strings"
)

// operations returns the beginnings of the lines in which asynq 0.26 quotes names itself, as formats. An error may follow.
func operations() []string {
	return []string{
		"Failed to list groups in queue: %q",
		"Failed to run aggregation check: queue=%q group=%q",
		"No aggregation needed at this time: queue=%q group=%q",
		"Failed to read aggregation set: queue=%q, group=%q, setID=%q",
		"Failed to enqueue aggregated task (queue=%q, group=%q, setID=%q): ",
		"Failed to delete aggregation set: queue=%q, group=%q, setID=%q",
		"Failed to delete expired completed tasks from queue %q: ",
		"recoverer: could not reclaim stale aggregation sets in queue %q: ",
		"Could not move task id=%s type=%q from %q to %q:  ",
		"Could not remove task id=%s type=%q from %q err: ",
		"Could not move task id=%s from %q to %q",
	}
}

// CutLine returns a line that asynq logs without the parts that CutText cuts from an error. Names of queues and groups, and the
// ids of tasks, stay where asynq itself wrote them. The type of a task does not. A line of an unknown form is cut like an error.
// The stack trace of a panic stays, without the arguments of functions.
func CutLine(line string) string {
	if trace, ok := strings.CutPrefix(line, panicLine); ok {
		return panicLine + cutTrace(trace)
	}
	for _, format := range operations() {
		if start, rest, ok := cutOperation(format, line); ok {
			return cutAfter(start, rest)
		}
	}
	return CutText(line)
}

// cutOperation divides a line into a beginning of the given format, without the type of a task, and the rest.
func cutOperation(format, line string) (start, rest string, ok bool) {
	rest = line
	for {
		literal, verb, more := strings.Cut(format, "%")
		if rest, ok = strings.CutPrefix(rest, literal); !ok || !more {
			return start + literal, rest, ok
		}
		length := strings.IndexAny(rest, " \t\n\"'`") // of an id
		if verb[0] == 'q' {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil || quoted[0] != '"' {
				return "", "", false
			}
			length = len(quoted)
		}
		if length < 0 {
			return "", "", false
		}
		name := rest[:length]
		if strings.HasSuffix(literal, " type=") {
			name = "(withheld)"
		}
		start, rest, format = start+literal+name, rest[length:], verb[1:]
	}
}

// panicLine begins the line that asynq 0.26 logs for a panic. A stack trace follows, without the value of the panic.
const panicLine = "recovering from panic. See the stack trace below for details:\n"

// traceLines matches the lines of a stack trace of Go. The group is a call without its arguments. Go prints the words of
// arguments in hexadecimal, and a key or number may be one.
var traceLines = regexp.MustCompile(`^(?:` + strings.Join([]string{
	`goroutine \d+ [a-z0-9= ]*\[[a-z0-9 ,]+\]:`,
	`([\pL\pM\pN\pP\pS]+)\([0-9a-fx{}?_, .]*\)`,
	`\t[^\pC]+:\d+(?: [a-z]*[=+]0x[0-9a-f]+)*`,
	`created by [\pL\pM\pN\pP\pS]+(?: in goroutine \d+)?`,
	`\.\.\.[a-z0-9 ]+ frames elided\.\.\.`,
}, "|") + `)$`)

// cutTrace removes the arguments from each call in a stack trace. It cuts a line of an unknown form like an error.
func cutTrace(trace string) string {
	lines := strings.Split(trace, "\n")
	for i, line := range lines {
		switch m := traceLines.FindStringSubmatch(line); {
		case m == nil:
			lines[i] = CutText(line)
		case m[1] != "":
			lines[i] = m[1] + "(...)"
		}
	}
	return strings.Join(lines, "\n")
}
