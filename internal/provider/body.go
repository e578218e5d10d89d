package provider

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxBody bounds an answer after decompression, bytes.
	maxBody = 1 << 20
	// maxWire bounds what is read off the wire: gzip may make a body larger, but
	// no honest one doubles it.
	maxWire = 2 * maxBody
	// maxDepth bounds the nesting of an answer, the outer object counted.
	maxDepth = 64
)

// object is a JSON object, or a form. Its values are nil, bool, json.Number,
// string, []any and *object. Of a repeated key the last value counts, and twice
// remembers it: encoding/json would hide both that and the difference of
// upper and lower case.
type object struct {
	fields map[string]any
	twice  map[string]bool
}

func newObject() *object { return &object{fields: map[string]any{}} }

func (o *object) set(key string, v any) {
	if _, ok := o.fields[key]; ok {
		if o.twice == nil {
			o.twice = map[string]bool{}
		}
		o.twice[key] = true
	}
	o.fields[key] = v
}

// get returns nil where the object or the key is missing.
func (o *object) get(key string) any {
	if o == nil {
		return nil
	}
	return o.fields[key]
}

// text returns the string under key, or "".
func (o *object) text(key string) string {
	s, _ := o.get(key).(string)
	return s
}

func (o *object) repeats(key string) bool { return o != nil && o.twice[key] }

// content is a body as read. Without an object the body was unreadable.
type content struct {
	top *object
	// garbage: bytes stood after the object.
	garbage bool
}

// readBody decodes the body of an answer. The Content-Type is ignored: servers
// send forms as JSON, JSON as text/html, and the other way round.
func readBody(h http.Header, wire []byte, short bool) content {
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && n > int64(len(wire)) {
		short = true
	}
	raw, ok := decompress(h, wire)
	if short || !ok {
		return content{}
	}
	s := strings.TrimLeft(strings.TrimPrefix(trimBlank(validUTF8(raw)), "\ufeff"), blank)
	if strings.HasPrefix(s, "{") {
		return readJSON(s)
	}
	return content{top: readForm(s)}
}

// blank is the white space that may surround a body.
const blank = " \t\r\n\v\f"

func trimBlank(s string) string { return strings.Trim(s, blank) }

// decompress returns the body in clear, and false if it is too large or the gzip
// stream is bad. An unknown encoding is left as it stands: it will not parse, and
// some servers name a character set here.
func decompress(h http.Header, wire []byte) ([]byte, bool) {
	switch strings.ToLower(strings.TrimSpace(h.Get("Content-Encoding"))) {
	case "gzip", "x-gzip":
	default:
		return wire, len(wire) <= maxBody
	}
	z, err := gzip.NewReader(bytes.NewReader(wire))
	if err != nil {
		return nil, false
	}
	raw, err := io.ReadAll(io.LimitReader(z, maxBody+1))
	return raw, err == nil && len(raw) <= maxBody
}

// validUTF8 puts U+FFFD for each byte that is not UTF-8.
func validUTF8(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return string([]rune(string(b)))
}

// readJSON reads one object at the start of s.
func readJSON(s string) content {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	v, ok := readValue(d, 1)
	top, isObject := v.(*object)
	if !ok || !isObject {
		return content{}
	}
	return content{top: top, garbage: trimBlank(s[d.InputOffset():]) != ""}
}

// readValue reads one value that would stand at the given depth. The decoder
// keeps to RFC 8259; what it is lenient about (repeated keys, depth) is seen here.
func readValue(d *json.Decoder, depth int) (any, bool) {
	t, err := d.Token()
	if err != nil {
		return nil, false
	}
	open, ok := t.(json.Delim)
	if !ok {
		return t, true
	}
	if depth > maxDepth {
		return nil, false
	}
	if open == '{' {
		return readObject(d, depth)
	}
	list := []any{}
	for d.More() {
		v, ok := readValue(d, depth+1)
		if !ok {
			return nil, false
		}
		list = append(list, v)
	}
	_, err = d.Token()
	return list, err == nil
}

// readObject reads the rest of an object whose brace was read.
func readObject(d *json.Decoder, depth int) (any, bool) {
	o := newObject()
	for d.More() {
		k, err := d.Token()
		key, isString := k.(string)
		if err != nil || !isString {
			return nil, false
		}
		v, ok := readValue(d, depth+1)
		if !ok {
			return nil, false
		}
		o.set(key, v)
	}
	_, err := d.Token()
	return o, err == nil
}

// readForm reads application/x-www-form-urlencoded, or returns nil where the text
// cannot be an answer in that form: a page of words must not pass for one.
func readForm(s string) *object {
	if !strings.Contains(s, "=") || !visible(s) {
		return nil
	}
	o := newObject()
	for part := range strings.SplitSeq(s, "&") {
		k, v, _ := strings.Cut(part, "=")
		key, err := url.QueryUnescape(k)
		value, err2 := url.QueryUnescape(v)
		if err != nil || err2 != nil {
			return nil
		}
		if part != "" {
			o.set(validUTF8([]byte(key)), validUTF8([]byte(value)))
		}
	}
	for _, key := range []string{"access_token", "refresh_token", "error"} {
		if _, ok := o.fields[key]; ok {
			return o
		}
	}
	return nil
}

// visible reports whether s is visible ASCII throughout, blanks excluded.
func visible(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e }) < 0
}

// at follows a dotted path, in which a[0] is the first of the list a.
func (o *object) at(path string) any {
	var v any = o
	for name := range strings.SplitSeq(path, ".") {
		name, index, indexed := strings.Cut(name, "[")
		in, ok := v.(*object)
		if !ok {
			return nil
		}
		v = in.get(name)
		if !indexed {
			continue
		}
		i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
		list, ok := v.([]any)
		if err != nil || !ok || i < 0 || i >= len(list) {
			return nil
		}
		v = list[i]
	}
	return v
}
