package redistest

import (
	"bufio"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Refusing starts a proxy that answers some commands with an error and forwards the others one by one, as a managed service
// does. refusals holds the replies by the names of the commands, or by the command and its first argument, all in lower
// case. Refusing returns the address of the proxy.
func Refusing(t testing.TB, target string, refusals map[string]string) string {
	t.Helper()
	return refusing(t, target, func(words []string) (string, bool) {
		refusal, refuses := refusals[strings.ToLower(words[0])]
		if !refuses && len(words) > 1 {
			refusal, refuses = refusals[strings.ToLower(words[0]+" "+words[1])]
		}
		return refusal, refuses
	})
}

// RefusingOnce is Refusing for the n-th call of one command alone, as a proxy does that limits the rate of calls. calls
// returns how many calls there were.
func RefusingOnce(t testing.TB, target, command string, n int64, refusal string) (addr string, calls func() int64) {
	t.Helper()
	var called atomic.Int64
	return refusing(t, target, func(words []string) (string, bool) {
		return refusal, strings.EqualFold(words[0], command) && called.Add(1) == n
	}), called.Load
}

func refusing(t testing.TB, target string, refuse func(words []string) (refusal string, refuses bool)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			wg.Go(func() {
				stop := context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
				defer stop()
				_ = relay(client, server, refuse)
				_, _ = client.Close(), server.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel()
		wg.Wait()
	})
	return l.Addr().String()
}

func relay(client, server net.Conn, refuse func(words []string) (refusal string, refuses bool)) error {
	commands, replies := bufio.NewReader(client), bufio.NewReader(server)
	for {
		command, words, err := message(commands)
		if err != nil {
			return err
		}
		var reply string
		refusal, refuses := refuse(words)
		if refuses {
			reply = "-" + refusal + "\r\n"
		} else {
			if _, err := io.WriteString(server, command); err != nil {
				return err
			}
			if reply, _, err = message(replies); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(client, reply); err != nil {
			return err
		}
		if refuses {
			time.Sleep(5 * time.Millisecond) // the replies that follow come after the client's next command
		}
	}
}

// message reads one RESP message. It returns the raw bytes and the strings in it.
func message(r *bufio.Reader) (raw string, words []string, err error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", nil, err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	switch line[0] {
	case '$', '=':
		if n < 0 {
			return line, nil, nil
		}
		body := make([]byte, n+2)
		_, err = io.ReadFull(r, body)
		return line + string(body), []string{string(body[:n])}, err
	case '%':
		n *= 2
		fallthrough
	case '*', '>', '~':
		for range n {
			part, w, err := message(r)
			if err != nil {
				return "", nil, err
			}
			line, words = line+part, append(words, w...)
		}
		return line, words, nil
	default:
		return line, nil, nil
	}
}
