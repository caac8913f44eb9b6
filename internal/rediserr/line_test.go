package rediserr_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/rediserr"
)

// unknownCommand is the error by which asynq's operations fail on a server that quotes their arguments.
const unknownCommand = "UNKNOWN: redis eval error: ERR unknown command 'evalsha', with args beginning with: '" + canary + "' "

// An operator sees the operation, the queue and the kind of the error.
func TestCutLine(t *testing.T) {
	t.Parallel()
	const kept = "UNKNOWN: redis eval error: ERR unknown command 'evalsha' (rest of the text not shown)"
	for line, want := range map[string]string{
		"Dequeue error: " + unknownCommand:                                                                                           "Dequeue error: " + kept,
		"Failed to extend lease for tasks [a b]: " + unknownCommand:                                                                  "Failed to extend lease for tasks [a b]: " + kept,
		`Failed to delete expired completed tasks from queue "mail": ` + unknownCommand:                                              `Failed to delete expired completed tasks from queue "mail": ` + kept,
		`Failed to delete expired completed tasks from queue "mail": '` + canary + "'":                                               `Failed to delete expired completed tasks from queue "mail" (rest of the text not shown)`,
		`Failed to enqueue aggregated task (queue="q", group="g", setID="s"): ` + unknownCommand:                                     `Failed to enqueue aggregated task (queue="q", group="g", setID="s"): ` + kept,
		`Could not remove task id=7 type="secret:canary" from "asynq:{mail}:active" err: ` + unknownCommand + "; Will retry syncing": `Could not remove task id=7 type=(withheld) from "asynq:{mail}:active" err: ` + kept,
		`Could not move task id=7 type="secret:canary" from "a" to "b":  ` + unknownCommand:                                          `Could not move task id=7 type=(withheld) from "a" to "b":  ` + kept,
		`Could not move task id=7 from "a" to "b"; Will retry syncing`:                                                               `Could not move task id=7 from "a" to "b"; Will retry syncing`,
		`Failed to list groups in queue: "mail"`:                                                                                     `Failed to list groups in queue: "mail"`,
		"Starting processing":                                                                                                        "Starting processing",
		// Lines that only resemble asynq's.
		`Could not move task id=a"b from "` + canary + `" to "b"`:         "Could not move task id=a (rest of the text not shown)",
		`Could not move task id=7 from '` + canary + `' to "b"`:           "Could not move task id=7 from (rest of the text not shown)",
		`Could not move task id=`:                                         "Could not move task id=",
		`Failed to list groups in queue "` + canary + `"`:                 "Failed to list groups in queue (rest of the text not shown)",
		`x Failed to list groups in queue: "` + canary + `"`:              "x Failed to list groups in queue (rest of the text not shown)",
		`Dequeue error: Failed to list groups in queue: "` + canary + `"`: "Dequeue error: Failed to list groups in queue (rest of the text not shown)",
		`Failed to list groups in queue: "mail` + canary:                  "Failed to list groups in queue (rest of the text not shown)",
	} {
		require.Equal(t, want, rediserr.CutLine(line), line)
	}
}

// The frames of a panic stay in the line of asynq. The value of the panic and the arguments of functions do not.
func TestCutLineOfPanic(t *testing.T) {
	t.Parallel()
	const first = "recovering from panic. See the stack trace below for details:\n"
	var trace string
	func() {
		defer func() {
			_ = recover()
			trace = string(debug.Stack())
		}()
		handleBigInt([8]byte{0xca, 0xfe, 0xba, 0xbe}, errors.New(canary+"\nmain.f("+canary+")"))
	}()
	require.Contains(t, trace, "0xfe", "Go prints arguments")
	got := rediserr.CutLine(first + trace)
	require.True(t, strings.HasPrefix(got, first+"goroutine "), got)
	require.Contains(t, got, "rediserr_test.handleBigInt(...)\n\t/home/José Müller/jobs (2)/bigint.go:77 +0x")
	require.Contains(t, got, "\ncreated by testing.(*T).Run in goroutine ")
	require.Contains(t, got, "\npanic(...)\n")
	require.Equal(t, strings.Count(first+trace, "\n"), strings.Count(got, "\n"))
	for _, absent := range []string{"canary", "0xca", "0xfe", "withheld", "{"} {
		require.NotContains(t, got, absent)
	}
	for line, want := range map[string]string{
		"goroutine 7 gp=0xc000002380 m=0 mp=0x5f [running, locked to thread]:": "",
		"main.(*G[...]).Do(0x0?, {0x4ab600?, 0x4d1748?})":                      "main.(*G[...]).Do(...)",
		"main.main.func8.1(...)":                                               "",
		"main.f()":                                                             "main.f(...)",
		`main.f("` + canary + `")`:                                             "main.f (rest of the text not shown)",
		"\tC:/Users/José/w.go:12 +0x5b fp=0xc00 sp=0xc01 pc=0x4":               "",
		"\t<autogenerated>:1 +0x2a":                                            "",
		"created by main.main":                                                 "",
		"...additional frames elided...":                                       "",
		"...12 frames elided...":                                               "",
		"panic: " + canary:                                                     " (rest of the text not shown)",
		"value=" + canary:                                                      " (rest of the text not shown)",
		"":                                                                     "",
	} {
		if want == "" {
			want = line
		}
		require.Equal(t, first+want+"\nmain.main(...)\n", rediserr.CutLine(first+line+"\nmain.main(0x7)\n"))
	}
	line := "x " + first + "main.handleBigInt(" + canary + ")"
	require.NotContains(t, rediserr.CutLine(line), "canary")
}

// asynqSource returns the Go files of the release of asynq in use that match patterns.
func asynqSource(t *testing.T, patterns ...string) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/hibiken/asynq").Output()
	require.NoError(t, err)
	source := map[string]string{}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), pattern))
		require.NoError(t, err)
		for _, path := range paths {
			if !strings.HasSuffix(path, "_test.go") {
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				source[filepath.Base(path)] = string(b)
			}
		}
	}
	return source
}

// In every line that a server of asynq logs, an error is cut and the names of queues stay. A new release of asynq with a new
// format that quotes names fails here.
func TestEveryLineOfAsynq(t *testing.T) {
	t.Parallel()
	format := regexp.MustCompile(`(?:[lL]ogger\.\w+|errMsg := fmt\.Sprintf)\(("(?:[^"\\]|\\.)*")`)
	verb := regexp.MustCompile(`%\+?[a-z]`)
	n := 0
	for name, source := range asynqSource(t, "*.go") {
		if name == "scheduler.go" || name == "periodic_task_manager.go" { // no server uses them
			continue
		}
		for _, m := range format.FindAllStringSubmatch(source, -1) {
			text, err := strconv.Unquote(m[1])
			require.NoError(t, err)
			line := verb.ReplaceAllStringFunc(text, func(v string) string {
				switch v {
				case "%q":
					return `"name"`
				case "%v", "%+v":
					return unknownCommand
				default:
					return "7"
				}
			})
			got := rediserr.CutLine(line)
			n++
			require.NotContains(t, got, "canary", line)
			beginning, _, _ := strings.Cut(line, unknownCommand)
			require.True(t, strings.HasPrefix(got, strings.Replace(beginning, `type="name"`, "type=(withheld)", 1)), "%s: %s", line, got)
		}
	}
	require.Greater(t, n, 50)
}

// asynq prints a reply of an unexpected type, which may hold any value, into its errors.
func TestRepliesInErrorsOfAsynq(t *testing.T) {
	t.Parallel()
	format := regexp.MustCompile(`"((?:[^"\\]|\\.)*%v(?:[^"\\]|\\.)*)", (?:res|arg, arg)\)`)
	n := 0
	for name, source := range asynqSource(t, "internal/rdb/*.go", "internal/errors/*.go") {
		for _, m := range format.FindAllStringSubmatch(source, -1) {
			n++
			text := strings.ReplaceAll(strings.ReplaceAll(m[1], "%v", canary), "%T", "string")
			require.NotContains(t, rediserr.Text(fmt.Errorf("INTERNAL_ERROR: %w", errors.New(text))), "canary", "%s: %s", name, text)
		}
	}
	require.Greater(t, n, 15)
}

// handleBigInt panics, and its name and path resemble texts that precede data. Its key is an argument that Go prints.
//
//go:noinline
func handleBigInt(key [8]byte, x any) {
//line /home/José Müller/jobs (2)/bigint.go:77
	panic(fmt.Sprint(key, x))
}
