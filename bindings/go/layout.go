package tine

import (
	"fmt"
	"reflect"
	"strings"
)

// Layout says how values of T lie in memory, in one line that any language can make of its own struct, so that two
// programs that share a record find out whether they mean the same:
//
//	id:u64@0 score:f64@8 name:u8[16]@16 size 32
//
// For each field there is its name, its kind, and its offset in bytes, in their order; then the size of the whole. The
// kinds are i8 to i64, u8 to u64, f32, f64 and bool, with [N] behind them for each array of N; a struct in the struct is
// {...}, with offsets of its own. Names are written in small letters and without underscores; a field's tag
// `tine:"other"` gives it another. Fields that are called _ are left out.
//
// It panics if T has a pointer in it.
func Layout[T any]() string {
	t := reflect.TypeFor[T]()
	if why := whyNotPlain(t, ""); why != "" {
		panic(fmt.Sprintf("tine: %s cannot lie in shared memory: %s", t, why))
	}
	return fmt.Sprintf("%s size %d", fields(t), t.Size())
}

func fields(t reflect.Type) string {
	if t.Kind() != reflect.Struct {
		return kind(t) + "@0"
	}
	var all []string
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Name == "_" {
			continue
		}
		name := field.Tag.Get("tine")
		if name == "" {
			name = strings.ReplaceAll(strings.ToLower(field.Name), "_", "")
		}
		all = append(all, fmt.Sprintf("%s:%s@%d", name, kind(field.Type), field.Offset))
	}
	return strings.Join(all, " ")
}

func kind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.Array:
		return fmt.Sprintf("%s[%d]", kind(t.Elem()), t.Len())
	case reflect.Struct:
		return "{" + fields(t) + "}"
	case reflect.Float32, reflect.Float64:
		return fmt.Sprintf("f%d", t.Bits())
	case reflect.Complex64, reflect.Complex128:
		return fmt.Sprintf("f%d[2]", t.Bits()/2)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("i%d", t.Bits())
	}
	return fmt.Sprintf("u%d", t.Bits())
}

// CheckLayout compares how T lies in memory with what another program says that its own record does. The error,
// ErrLayout, names the first difference.
func CheckLayout[T any](theirs string) error {
	ours := Layout[T]()
	if ours == theirs {
		return nil
	}
	have, want := strings.Fields(ours), strings.Fields(theirs)
	at := 0
	for at < len(have) && at < len(want) && have[at] == want[at] {
		at++
	}
	if at > 0 && have[at-1] == "size" {
		at--
	}
	part := func(words []string) string {
		switch {
		case at >= len(words):
			return "nothing"
		case words[at] == "size":
			return strings.Join(words[at:], " ")
		}
		return words[at]
	}
	return &Error{What: "layout of " + reflect.TypeFor[T]().String(), Code: ErrLayout,
		Message: fmt.Sprintf("%s here, %s there; in all, %q here and %q there", part(have), part(want), ours, theirs)}
}
