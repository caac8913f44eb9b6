package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	dataaudit "github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// The exit statuses; see the package comment.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitLeft    = 3
	exitUnknown = 4
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// program is what a command works with.
type program struct {
	ctx    context.Context //nolint:containedctx // a program has one
	stdout io.Writer
	stderr io.Writer
	log    *slog.Logger
}

// command is one of the commands. It returns an exit status, or an error whose status it is.
type command struct {
	name, args, about string
	run               func(p *program, c command, args []string) (int, error)
}

func commands() []command {
	return []command{
		{"migrate", "", "seal what is in clear, in place or under new names", move},
		{"reseal", "", "seal anew, under the present key, what is sealed under another", move},
		{"unseal", "", "write in clear what is sealed", move},
		{"audit", "", "count what is clear and what is sealed, under which keys", audit},
		{"inspect", "KEY", "what one entry is; needs no keys", inspect},
		{"get", "KEY", "what one entry holds; is recorded", get},
		{"keys create", "", "make a keyset, sealed under a key-encryption key", keysCreate},
		{"keys list", "", "list the keys of a keyset", keysList},
		{"keys add", "", "add a key, which does not seal yet, so that it can be distributed first", keysAdd},
		{"keys promote", "ID", "make a key the primary one, which seals", keysPromote},
		{"keys disable", "ID", "take a key out of service; it can be enabled again", keysDisable},
		{"keys enable", "ID", "put a disabled key into service again", keysEnable},
		{"keys destroy", "ID", "remove a key for ever", keysDestroy},
		{"keys rewrap", "", "seal a keyset anew, under the present primary key of its key-encryption key, or under another", keysRewrap},
		{"version", "", "which build this is", version},
	}
}

// run is the program, without the process around it.
func run(args []string, _ io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process as if it were not caught: Redis may hang, and then stopping takes a while.
	disarm := context.AfterFunc(ctx, func() {
		stop()
		fmt.Fprintln(stderr, "sealcache: stopping; once more to stop at once")
	})
	defer disarm()
	p := &program{ctx: ctx, stdout: stdout, stderr: stderr, log: slog.New(slog.NewTextHandler(stderr, nil))}
	silenceRedis()

	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		usage(stderr)
		if len(args) == 0 {
			return exitUsage
		}
		return exitDone
	}
	if args[0] == "-version" || args[0] == "--version" {
		args = append([]string{"version"}, args[1:]...)
	}
	for _, c := range commands() {
		words := strings.Fields(c.name)
		if len(args) < len(words) || strings.Join(args[:len(words)], " ") != c.name {
			continue
		}
		status, err := c.run(p, c, args[len(words):])
		var u *usageError
		switch {
		case err == nil:
		case errors.Is(err, flag.ErrHelp):
			return exitDone
		case errors.As(err, &u), errors.Is(err, migrate.ErrConfig), errors.Is(err, dataaudit.ErrConfig):
			fmt.Fprintf(stderr, "sealcache %s: %s\n", c.name, message(err))
			return exitUsage
		default:
			fmt.Fprintf(stderr, "sealcache %s: %s\n", c.name, message(err))
			return exitFailed
		}
		return status
	}
	if args[0] == "keys" {
		fmt.Fprintf(stderr, "usage: sealcache keys COMMAND [flags]\n\n")
		listCommands(stderr, "keys ")
		return exitUsage
	}
	fmt.Fprintf(stderr, "sealcache: unknown command; see sealcache help\n")
	return exitUsage
}

// message is the text of an error, each thing said once, whatever the names of temporary files.
func message(err error) string {
	temporary := regexp.MustCompile(`\.[0-9]+\.tmp\b`)
	var lines []string
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimRight(line, "\n")
		for strings.HasPrefix(line, "migrate: ") {
			line = strings.TrimPrefix(line, "migrate: ")
		}
		line = strings.ReplaceAll(line, "migrate: migrate: ", "migrate: ")
		line = temporary.ReplaceAllString(line, "")
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "usage: sealcache COMMAND [flags]\n\n")
	listCommands(w, "")
	fmt.Fprintf(w, `
sealcache COMMAND -h lists the flags of a command.

exit status:
  0  done, and nothing is left; of audit: nothing is in clear, or (-expect clear) sealed, or the key may be destroyed
  1  it failed or was stopped; what was done is done, and doing it again goes on unless the message says otherwise
  2  the command line or the configuration is wrong; nothing was done
  3  complete, but entries were left as they were, or none was found; of audit: the answer is the other one
  4  of audit: it cannot tell, and says why
`)
}

// listCommands lists the commands that begin so.
func listCommands(w io.Writer, prefix string) {
	for _, c := range commands() {
		if strings.HasPrefix(c.name, prefix) {
			fmt.Fprintf(w, "  %-15s %s\n", strings.TrimSpace(c.name+" "+c.args), c.about)
		}
	}
}

// version says what was built from what.
func version(p *program, c command, args []string) (int, error) {
	if err := newFlags(p, c).parse(args, 0); err != nil {
		return 0, err
	}
	of := map[string]string{}
	program, goVersion := "(devel)", runtime.Version()
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			program = info.Main.Version
		}
		for _, s := range info.Settings {
			of[s.Key] = s.Value
		}
	}
	fmt.Fprintf(p.stdout, "sealcache %s %s", program, goVersion)
	if r := of["vcs.revision"]; r != "" {
		fmt.Fprintf(p.stdout, " %s", r)
		if of["vcs.modified"] == "true" {
			fmt.Fprint(p.stdout, " modified")
		}
	}
	fmt.Fprintln(p.stdout)
	return exitDone, nil
}

// usageError is a mistake on the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func wrong(format string, a ...any) error { return &usageError{fmt.Sprintf(format, a...)} }
