package tine_test

import (
	"errors"
	"strings"
	"testing"

	"tine.example/tine"
)

func TestStatsText(t *testing.T) {
	one, err := tine.NewPool(tine.Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	other, err := tine.NewPool(tine.Options{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	text, err := tine.StatsText(map[string]*tine.Pool{"mail": one, `"web"`: other})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`tine_workers{pool="mail"} 1`, `tine_workers{pool="\"web\""} 2`} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("%q is not in\n%s", line, text)
		}
	}
	many := map[string]*tine.Pool{strings.Repeat("long", 2000): one} // more than the first buffer holds
	if text, err := tine.StatsText(many); err != nil || !strings.Contains(text, "longlong") {
		t.Error(err)
	}
	for _, bad := range []map[string]*tine.Pool{{}, {"a": nil}, {"a\x00b": one}, {"\xff": one}} {
		if _, err := tine.StatsText(bad); !errors.Is(err, tine.ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	other.Close()
	if _, err := tine.StatsText(map[string]*tine.Pool{"b": one, "a": other}); !errors.Is(err, tine.ErrShutdown) {
		t.Error(err)
	}
}
