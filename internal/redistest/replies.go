package redistest

import (
	"bufio"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Answering returns the address of a server that answers each command with the line of the Redis protocol that line
// returns, for example "-ERR no". The name of the command is in lower case. The server closes when the test ends.
func Answering(t testing.TB, line func(command string) string) (addr string) {
	t.Helper()
	return listen(t, func(_ context.Context, client net.Conn) {
		answer(client, func(_ string, words []string) (string, error) {
			return line(strings.ToLower(words[0])) + "\r\n", nil
		})
	})
}

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
	return listen(t, func(ctx context.Context, client net.Conn) {
		server, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer server.Close()
		defer context.AfterFunc(ctx, func() { _ = server.Close() })()
		replies, refused := bufio.NewReader(server), false
		answer(client, func(command string, words []string) (string, error) {
			if refused {
				time.Sleep(5 * time.Millisecond) // the replies that follow come after the client's next command
			}
			var refusal string
			if refusal, refused = refuse(words); refused {
				return "-" + refusal + "\r\n", nil
			}
			if _, err := io.WriteString(server, command); err != nil {
				return "", err
			}
			reply, _, err := message(replies)
			return reply, err
		})
	})
}

// answer answers each command until the connection breaks or reply fails.
func answer(client net.Conn, reply func(command string, words []string) (string, error)) {
	for commands := bufio.NewReader(client); ; {
		command, words, err := message(commands)
		if err != nil || len(words) == 0 {
			return
		}
		text, err := reply(command, words)
		if err != nil {
			return
		}
		if _, err := io.WriteString(client, text); err != nil {
			return
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
