package rediserr

import (
	"slices"
	"strings"

	"github.com/sealcache/sealcache/internal/errtext"
)

// cut marks the end of a shortened text.
const cut = " (rest of the text not shown)"

// marks returns the texts of Redis, its proxies and go-redis that precede data without quotation marks. The rest after
// a mark is withheld. Marks are in lower case.
func marks() []string {
	return []string{
		// Redis, and proxies that imitate it
		"with args beginning with", // of an unknown command
		"arguments:",               // the same, Envoy and Dragonfly
		"undeclared key",           // Dragonfly
		"no such key ",             // RedisJSON and other modules
		"existing key ",
		// go-redis, internal/proto/reader.go
		" reply=",
		"bigint(",
		"verbatim string reply",
		// go-redis, command.go, pubsub.go, redis.go
		"invalid map key",
		"unexpected response",
		"unexpected client info data",
		"unexpected key ",
		"unexpected running_script key",
		"function stats unexpected",
		"pubsub message",
		"got line",
		"exec reply",
		"value=",
		"panic:",
		"(panic=", // package fmt, of a method of an error
		// go-redis, options of a URL, which may hold a password
		"invalid url",
		"invalid database number",
		"addr param",
		"unexpected option",
		// asynq, internal/rdb and internal/errors: replies of an unexpected type
		"return value",
		"unexpected value:",
		"unexported value",
		"could not cast",
		", value ",
	}
}

// Text returns the text of an error without parts that may quote a value, a key name, a tag or a password. It also drops the
// digest of a script at the end. Names of commands, users, hosts and settings stay. Text(Wrap(err)) equals Text(err). It is empty for nil.
func Text(err error) string {
	if err == nil {
		return ""
	}
	return CutText(errtext.Text(err))
}

// CutText is Text for an error of which only the text is left.
func CutText(text string) string { return cutAfter("", text) }

// cutAfter returns start, and then what Text keeps of text.
func cutAfter(start, text string) string {
	text = withoutScript(text)
	kept := safe(text)
	if len(kept) == len(text) {
		return start + text
	}
	return strings.TrimRight(start+kept, " :=(,-") + cut
}

// withoutScript cuts the end that Redis 7 adds to the error of a command in a script: " script: <digest>, on @user_script:3."
func withoutScript(text string) string {
	i := strings.LastIndex(text, " script: ")
	if i < 0 {
		return text
	}
	digest, line, found := strings.Cut(text[i+len(" script: "):], ", on @user_script:")
	if !found || strings.Trim(digest, "0123456789abcdef") != "" || strings.Trim(line, "0123456789") != "." {
		return text
	}
	return text[:i]
}

// safe returns the longest start of a text that quotes no data.
func safe(text string) string {
	text = ascii(text)
	lower := strings.ToLower(text)
	end := len(text)
	for _, mark := range marks() {
		if i := strings.Index(lower, mark); i >= 0 {
			end = min(end, i)
		}
	}
	return text[:min(end, quotation(text), scriptError(text))]
}

// ascii returns the start of a text up to the first byte that is not printable ASCII or a line end. Redis and go-redis
// write no other.
func ascii(text string) string {
	if i := strings.IndexFunc(text, func(r rune) bool { return (r < ' ' || r > '~') && r != '\n' && r != '\t' }); i >= 0 {
		return text[:i]
	}
	return text
}

// quotation returns the position of the first quotation of data. An apostrophe within a word is not one. The name of a
// command or setting is not data.
func quotation(text string) int {
	letter := func(i int) bool {
		return i >= 0 && i < len(text) && (text[i]|0x20 >= 'a' && text[i]|0x20 <= 'z')
	}
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\'':
			if letter(i-1) && letter(i+1) {
				continue
			}
		case '"', '`':
		default:
			continue
		}
		length := strings.IndexByte(text[i+1:], text[i])
		if length < 0 || !harmless(text[:i], text[i+1:i+1+length], text[i+length+2:]) {
			return i
		}
		i += length + 1
	}
	return len(text)
}

// harmless reports whether a quoted text is the name of a command, which the client chose, or of a setting.
func harmless(before, quoted, after string) bool {
	if quoted == "maxmemory" && strings.HasSuffix(before, "> ") {
		return true
	}
	before, after = strings.ToLower(before), strings.ToLower(after)
	if !strings.HasSuffix(before, "command ") && !strings.HasPrefix(after, " command") {
		return false
	}
	const longest = 40
	return quoted != "" && len(quoted) <= longest && !strings.ContainsFunc(quoted, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("._|-", r)
	})
}

// scriptTexts returns the beginnings of script errors that Redis or Lua made, after the position in the script. Other
// texts are the script's own. They are in lower case.
func scriptTexts() []string {
	return []string{
		"attempt to ", "bad argument ", "lua redis", "no keys were declared", "script attempted ", "script tried ",
		"the user executing ", "this redis command ", "this command ", "unknown redis command", "write command", "wrong number of ",
	}
}

// scriptError returns where the text that a script itself chose begins, in an error such as
//
//	ERR Error running script (call to f_<digest>): @user_script:3: @user_script: 3: -OOM command not allowed
func scriptError(text string) int {
	i := scriptPosition(text)
	if i < 0 {
		return len(text)
	}
	rest := strings.ToLower(text[i:])
	if code(strings.TrimPrefix(text[i:], "-")) != "" ||
		slices.ContainsFunc(scriptTexts(), func(start string) bool { return strings.HasPrefix(rest, start) }) {
		return len(text)
	}
	return i
}

// scriptPosition returns where the text after the last "user_script:3: " begins, or -1. Redis 7 also names a position at
// the end of a text, which no text follows: "... script: <digest>, on @user_script:3."
func scriptPosition(text string) int {
	const mark = "user_script:"
	for end := len(text); ; {
		i := strings.LastIndex(text[:end], mark)
		if i < 0 {
			return -1
		}
		rest := strings.TrimLeft(strings.TrimLeft(text[i+len(mark):], " "), "0123456789")
		if after, found := strings.CutPrefix(rest, ": "); found {
			return len(text) - len(after)
		}
		end = i
	}
}

// wrapped is an error whose text was cut.
type wrapped struct{ cause error }

// Wrap returns an error with the same causes whose text is [Text]. It returns nil for nil, and err itself if nothing in its
// text has to be cut and none of its methods panics.
func Wrap(err error) error {
	guarded := errtext.Guard(err)
	if text := errtext.Text(guarded); CutText(text) != text {
		return &wrapped{guarded}
	}
	return guarded
}

func (e *wrapped) Error() string { return Text(e.cause) }
func (e *wrapped) Unwrap() error { return e.cause }
