package tine

import (
	"bytes"
	"encoding"
	"encoding/gob"
	"fmt"
	"reflect"
	"unsafe"
)

// form is how values of a type travel.
type form int

const (
	plain  form = iota // the value's own bytes: no pointers in it
	octets             // []byte
	text               // string
	binary             // encoding.BinaryMarshaler
	gobs               // encoding/gob
)

// codec makes bytes of values and values of bytes.
type codec[T any] struct {
	form form
	size int // of a plain one
	name string
}

var (
	marshaler   = reflect.TypeFor[encoding.BinaryMarshaler]()
	unmarshaler = reflect.TypeFor[encoding.BinaryUnmarshaler]()
	gobEncoder  = reflect.TypeFor[gob.GobEncoder]()
	gobDecoder  = reflect.TypeFor[gob.GobDecoder]()
)

// newCodec says how values of T travel, or why they can't.
func newCodec[T any]() (codec[T], error) {
	t := reflect.TypeFor[T]()
	c := codec[T]{size: int(t.Size()), name: t.String()}
	switch {
	case travelsBy(t, marshaler, unmarshaler):
		c.form = binary
	case whyNotPlain(t, "") == "":
		c.form = plain
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		c.form = octets
	case t.Kind() == reflect.String:
		c.form = text
	default:
		c.form = gobs
		if why := whyNoGob(t, "", map[reflect.Type]bool{}); why != "" {
			return c, fmt.Errorf("%s cannot travel between processes: %s", t, why)
		}
	}
	return c, nil
}

// travelsBy says whether a T, and what a *T makes of it again, implement the two.
func travelsBy(t, to, from reflect.Type) bool {
	return (t.Implements(to) || reflect.PointerTo(t).Implements(to)) && reflect.PointerTo(t).Implements(from)
}

// whyNotPlain names the part of a type that has a pointer in it; "" if none has.
func whyNotPlain(t reflect.Type, path string) string {
	switch t.Kind() {
	case reflect.Array:
		return whyNotPlain(t.Elem(), path+"[]")
	case reflect.Struct:
		for i := range t.NumField() {
			field := t.Field(i)
			if why := whyNotPlain(field.Type, path+"."+field.Name); why != "" {
				return why
			}
		}
		return ""
	case reflect.String, reflect.Slice, reflect.Map, reflect.Pointer, reflect.Interface, reflect.Func, reflect.Chan,
		reflect.UnsafePointer:
		return fmt.Sprintf("it has a pointer in it (%s%s)", t, at(path))
	}
	return ""
}

func at(path string) string {
	if path == "" {
		return ""
	}
	return " at " + path
}

// whyNoGob names the part of a type that encoding/gob would refuse, or leave out without a word; "" if there is none.
func whyNoGob(t reflect.Type, path string, seen map[reflect.Type]bool) string {
	if seen[t] || travelsBy(t, gobEncoder, gobDecoder) || travelsBy(t, marshaler, unmarshaler) {
		return ""
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return fmt.Sprintf("%s%s means something in its own process only", t, at(path))
	case reflect.Interface:
		return fmt.Sprintf("%s%s is an interface: which type is in it is not known beforehand", t, at(path))
	case reflect.Array, reflect.Slice, reflect.Pointer:
		return whyNoGob(t.Elem(), path, seen)
	case reflect.Map:
		if why := whyNoGob(t.Key(), path, seen); why != "" {
			return why
		}
		return whyNoGob(t.Elem(), path, seen)
	case reflect.Struct:
		for i := range t.NumField() {
			field := t.Field(i)
			if !field.IsExported() {
				return fmt.Sprintf("%s.%s is not exported, so encoding/gob would leave it out; "+
					"export it, or implement encoding.BinaryMarshaler and BinaryUnmarshaler", t, field.Name)
			}
			if why := whyNoGob(field.Type, path+"."+field.Name, seen); why != "" {
				return why
			}
		}
	}
	return ""
}

// encode gives the bytes of a value. Of a plain one, a []byte or a string they are the value's own memory.
func (c *codec[T]) encode(value *T) ([]byte, error) {
	switch c.form {
	case plain:
		return unsafe.Slice((*byte)(unsafe.Pointer(value)), c.size), nil
	case octets:
		return *(*[]byte)(unsafe.Pointer(value)), nil
	case text:
		s := *(*string)(unsafe.Pointer(value))
		return unsafe.Slice(unsafe.StringData(s), len(s)), nil
	case binary:
		if m, ok := any(*value).(encoding.BinaryMarshaler); ok {
			return m.MarshalBinary()
		}
		return any(value).(encoding.BinaryMarshaler).MarshalBinary()
	}
	var buffer bytes.Buffer
	if err := gob.NewEncoder(&buffer).Encode(value); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

// runsCode says whether values are made into bytes, and bytes into values, by code that is the program's.
func (c *codec[T]) runsCode() bool { return c.form == binary || c.form == gobs }

// read decodes a copy of the output at p, now or when it is wanted: see unread.
func (c *codec[T]) read(what string, p unsafe.Pointer, length int, value *T) (*unread, *Error) {
	if !c.runsCode() {
		return nil, misread(what, c.decode(p, length, value, false))
	}
	from := bytes.Clone(unsafe.Slice((*byte)(p), length))
	return &unread{decode: func() error { return c.decode(unsafe.Pointer(unsafe.SliceData(from)), len(from), value, true) }}, nil
}

// decode makes a value of length bytes at p. With alias, a []byte is that very memory; everything else is a copy.
func (c *codec[T]) decode(p unsafe.Pointer, length int, value *T, alias bool) error {
	from := unsafe.Slice((*byte)(p), length)
	switch c.form {
	case plain:
		return c.decodePlain(p, length, unsafe.Pointer(value))
	case octets:
		if !alias {
			from = bytes.Clone(from)
		}
		*(*[]byte)(unsafe.Pointer(value)) = from[:len(from):len(from)]
		return nil
	case text:
		*(*string)(unsafe.Pointer(value)) = string(from)
		return nil
	case binary:
		return any(value).(encoding.BinaryUnmarshaler).UnmarshalBinary(from)
	}
	// The decoder keeps nothing of what it reads.
	if err := gob.NewDecoder(bytes.NewReader(from)).Decode(value); err != nil {
		return fmt.Errorf("%d bytes that are no %s: %w", length, c.name, err)
	}
	return nil
}

func (c *codec[T]) decodePlain(p unsafe.Pointer, length int, value unsafe.Pointer) error {
	if length != c.size {
		return fmt.Errorf("%d bytes, where a %s has %d", length, c.name, c.size)
	}
	copy(unsafe.Slice((*byte)(value), length), unsafe.Slice((*byte)(p), length))
	return nil
}
