// The language of the conformance suite's table, for the driver for Go: the words of a call, what a case has made, and what a call says.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"strings"
	"time"

	"tine.example/tine"
)

// What the case has made so far, by name. In Go a future can be waited for again and again; what the table says of tasks
// whose results have been taken is therefore the driver's own doing: it forgets them.
var (
	things map[string]any
	pool   *tine.Pool
	words  []string
	start  tine.StartMethod
	preload,
	worker string
)

var background = context.Background()

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance driver:", strings.Join(words, " ")+":", err)
		os.Exit(2)
	}
}

// ---- Words ----

func setting(name, otherwise string) string {
	for _, word := range words[1:] {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
	}
	return otherwise
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	check(err)
	return n
}

func count(name string) int              { return number(setting(name, "0")) }
func duration(name string) time.Duration { return time.Duration(count(name)) * time.Millisecond }
func shows(what string) bool {
	return strings.Contains(" "+strings.Join(words, " ")+" ", " show="+what+" ")
}

func thing[T any](name string) T {
	t, ok := things[name].(T)
	if !ok {
		check(fmt.Errorf("%s is no %T", name, t))
	}
	return t
}

func object[T any]() T { return thing[T](words[1]) }

func address(name string) uint64 {
	switch t := things[name].(type) {
	case interface{ Address() tine.Address }:
		return uint64(t.Address())
	case []byte:
		return uint64(tine.AddressOf(&t[:1][0]))
	}
	check(fmt.Errorf("%s has no address", name))
	return 0
}

func parse(word string) []byte {
	kind, rest, _ := strings.Cut(word, ":")
	var out []byte
	switch kind {
	case "none":
	case "text":
		return []byte(rest)
	case "bytes":
		out = make([]byte, number(rest))
		for i := range out {
			out[i] = byte(i + i/251)
		}
	case "ints", "words":
		for _, item := range strings.Split(rest, ",") {
			name, isName := strings.CutPrefix(item, "@")
			switch {
			case isName:
				out = binary.NativeEndian.AppendUint64(out, address(name))
			case kind == "words":
				out = binary.NativeEndian.AppendUint64(out, uint64(number(item)))
			default:
				out = binary.NativeEndian.AppendUint32(out, uint32(number(item)))
			}
		}
	default:
		check(errors.New("no bytes: " + word))
	}
	return out
}

// ---- Results ----

func name(err error) string {
	var code tine.Code
	switch {
	case err == nil:
		return "OK"
	case errors.As(err, &code):
		return code.Name()
	}
	check(err)
	return ""
}

func or(err error, value string) string {
	if err != nil {
		return name(err)
	}
	return value
}

func show(b []byte) string {
	isText := len(b) <= 64
	for _, c := range b {
		isText = isText && c >= 0x20 && c <= 0x7e
	}
	hash := fnv.New64a()
	hash.Write(b)
	switch {
	case len(b) == 0:
		return "none"
	case isText:
		return "text:" + string(b)
	}
	return fmt.Sprintf("bytes:%d:%016x", len(b), hash.Sum64())
}

// timed makes a call that waits, for as long as the table says: attempt is for not at all.
func timed(attempt func() error, wait func(ctx context.Context) error) error {
	ms := setting("timeout_ms", "")
	if ms == "0" {
		return attempt()
	}
	ctx, cancel := background, context.CancelFunc(func() {})
	if ms != "" {
		ctx, cancel = context.WithTimeout(ctx, duration("timeout_ms"))
	}
	defer cancel()
	return wait(ctx)
}

// closed waits for a channel that is closed when something has happened.
func closed(done <-chan struct{}) error {
	return timed(func() error {
		select {
		case <-done:
			return nil
		default:
			return tine.ErrWouldBlock
		}
	}, func(ctx context.Context) error {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return tine.ErrDeadline
		}
	})
}
