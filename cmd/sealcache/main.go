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
	"strings"
	"syscall"

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
	}
}

// run is the program, without the process around it.
func run(args []string, _ io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := &program{ctx: ctx, stdout: stdout, stderr: stderr, log: slog.New(slog.NewTextHandler(stderr, nil))}
	silenceRedis()

	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		usage(stderr)
		if len(args) == 0 {
			return exitUsage
		}
		return exitDone
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
		case errors.As(err, &u), errors.Is(err, migrate.ErrConfig):
			fmt.Fprintf(stderr, "sealcache %s: %v\n", c.name, err)
			return exitUsage
		default:
			fmt.Fprintf(stderr, "sealcache %s: %v\n", c.name, err)
			return exitFailed
		}
		return status
	}
	fmt.Fprintf(stderr, "sealcache: unknown command; see sealcache help\n")
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "usage: sealcache COMMAND [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.about)
	}
	fmt.Fprintf(w, "\nsealcache COMMAND -h lists the flags of a command.\n")
}

// usageError is a mistake on the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func wrong(format string, a ...any) error { return &usageError{fmt.Sprintf(format, a...)} }
