package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/evergrant/evergrant/internal/broker"
)

// Bounds of a request's JSON: its size in bytes, and how deep it may nest.
const (
	maxBody  = 64 << 10
	maxDepth = 16
)

// decode reads the request's body, one JSON object, into a T.
func decode[T any](x *exchange) (T, error) {
	var into T
	body, err := x.read()
	if err != nil {
		return into, err
	}
	return into, unmarshal(body, &into)
}

// decodeNothing is for operations whose body may be absent and holds nothing.
func (x *exchange) decodeNothing() error {
	if x.r.ContentLength == 0 {
		return nil
	}
	body, err := x.read()
	if err != nil {
		return err
	}
	return unmarshal(body, &struct{}{})
}

func (x *exchange) read() ([]byte, error) {
	media, params, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	charset, told := params["charset"]
	if err != nil || media != "application/json" || told && !strings.EqualFold(charset, "utf-8") || x.r.Header.Get("Content-Encoding") != "" {
		return nil, &broker.Error{Code: unsupportedMediaType, Detail: "Send the body as Content-Type: application/json, in UTF-8 and without a content encoding."}
	}
	body, err := io.ReadAll(io.LimitReader(x.r.Body, maxBody+1))
	if err != nil {
		return nil, invalid("The body ended early.")
	}
	if len(body) > maxBody {
		return nil, &broker.Error{Code: payloadTooLarge, Detail: "A body has 64 KiB at most."}
	}
	return body, nil
}

// unmarshal is json.Unmarshal for one object without its leniency: it takes neither
// unknown, repeated nor differently spelled members, neither null, which it would take for
// any type, nor bytes that are not UTF-8 nor anything behind the object.
func unmarshal(body []byte, into any) error {
	if !utf8.Valid(body) {
		return invalid("The body is not UTF-8.")
	}
	s := scanner{d: json.NewDecoder(bytes.NewReader(body)), known: members(into)}
	s.d.UseNumber()
	if err := s.document(); err != nil {
		if _, told := errors.AsType[*broker.Error](err); told {
			return err
		}
		return invalid("The body is not a JSON object.")
	}
	err := json.Unmarshal(body, into)
	if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return invalid("%s has to be %s.", typed.Field, kindName(typed.Type))
	}
	if _, ok := errors.AsType[*time.ParseError](err); ok {
		return invalid("A time has to be one of RFC 3339, such as 2026-01-31T12:00:00Z.")
	}
	if err != nil {
		return invalid("The body is not a JSON object.")
	}
	return nil
}

// members are the names that the struct behind into has in JSON.
func members(into any) map[string]bool {
	known := map[string]bool{}
	for field := range reflect.TypeOf(into).Elem().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		known[name] = true
	}
	return known
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "a list of texts"
	case reflect.Map:
		return "an object of texts"
	}
	return "of another type"
}

// scanner walks a document for what json.Unmarshal would pass over.
type scanner struct {
	d     *json.Decoder
	known map[string]bool // members of the outermost object
}

func (s scanner) document() error {
	first, err := s.d.Token()
	if err != nil {
		return err
	}
	if first != json.Delim('{') {
		return invalid("The body has to be one JSON object.")
	}
	if err := s.object(1); err != nil {
		return err
	}
	if _, err := s.d.Token(); err != io.EOF {
		return invalid("Something follows the JSON object.")
	}
	return nil
}

func (s scanner) value(depth int) error {
	t, err := s.d.Token()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('{'):
		return s.object(depth + 1)
	case json.Delim('['):
		return s.array(depth + 1)
	case nil:
		return invalid("null is no value of a request: leave out what is not to be said.")
	}
	return nil
}

func (s scanner) object(depth int) error {
	if depth > maxDepth {
		return tooDeep()
	}
	seen := map[string]bool{}
	for s.d.More() {
		t, err := s.d.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string) // the decoder admits no other key
		if seen[name] {
			return invalid("The member %s occurs twice.", quoted(name))
		}
		if depth == 1 && !s.known[name] {
			return invalid("There is no member %s.", quoted(name))
		}
		seen[name] = true
		if err := s.value(depth); err != nil {
			return err
		}
	}
	_, err := s.d.Token() // the closing brace
	return err
}

func (s scanner) array(depth int) error {
	if depth > maxDepth {
		return tooDeep()
	}
	for s.d.More() {
		if err := s.value(depth); err != nil {
			return err
		}
	}
	_, err := s.d.Token()
	return err
}

func tooDeep() error { return invalid("The body nests deeper than %d levels.", maxDepth) }
