package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/provider"
)

// provider returns the entry of the integration f: by its catalogue id (the
// integration's own name where provider is absent), or inline. ok: it may be relied
// on for further checks.
func (r *reader) provider(f Field, got map[string]Field) (entry provider.Entry, ok bool) {
	p, given := got["provider"]
	switch {
	case !given:
		entry, ok = r.catalogued(in(f, "provider"), f.Key)
	case p.Value.Kind == KindText:
		if id, plain := r.text(p); plain {
			entry, ok = r.catalogued(p, id)
		}
	case p.Value.Kind == KindObject:
		return r.inline(p, f.Key)
	default:
		r.is(p, KindObject, "the id of a catalogue entry or a mapping of its fields")
		return entry, false
	}
	if err := entry.Validate(); ok && err != nil {
		r.fail(p, "the catalogue's entry %s is broken: %v", entry.ID, err)
		return entry, false
	}
	return entry, ok
}

// catalogued looks an id up, which f names.
func (r *reader) catalogued(f Field, id string) (provider.Entry, bool) {
	if r.catalog.Lookup == nil {
		r.fail(f, "must be a mapping with the provider's fields: the compiled form holds them; run evergrant config build again")
		return provider.Entry{}, false
	}
	entry, err := r.catalog.Lookup(id)
	switch {
	case errors.Is(err, provider.ErrUnknownProvider):
		r.fail(f, "names no provider of the catalogue; give the id of one, or describe the provider here by a mapping%s", suggestion(id, r.catalog.IDs()))
		return entry, false
	case err != nil:
		r.fail(f, "the catalogue's entry cannot be read: %v", err)
		return entry, false
	}
	entry.ID = id
	return entry, true
}

// inline reads a provider that stands in the file. With extends its fields go over
// those of a catalogue entry, name by name also within refresh, api and the like;
// lists are replaced.
func (r *reader) inline(f Field, integration string) (provider.Entry, bool) {
	before := len(r.mistakes)
	entry := provider.Entry{ID: integration}
	own := &Node{Kind: KindObject}
	for _, child := range r.fields(f) {
		if child.Key != "extends" {
			r.entryField(child, reflect.TypeFor[provider.Entry]())
			own.Fields = append(own.Fields, child)
		} else if id, ok := r.text(child); ok {
			entry, _ = r.catalogued(child, id)
		}
	}
	if len(r.mistakes) > before {
		return entry, false
	}
	forget(entry.Evidence, "", own)
	var b bytes.Buffer
	own.json(&b)
	if err := json.Unmarshal(b.Bytes(), &entry); err != nil {
		r.fail(f, "cannot be read: %v", err)
		return entry, false
	}
	r.named(Field{At: locate(f, "id"), path: join(f.path, "id")}, entry.ID)
	for _, err := range split(entry.Validate()) {
		field, text, found := strings.Cut(err.Error(), ": ")
		if !found {
			r.fail(f, "%v", err)
			continue
		}
		at := in(f, field)
		at.At = locate(f, field)
		r.fail(at, "%s", text)
	}
	return entry, len(r.mistakes) == before
}

// entryField checks the name and kind of a field of the struct or map type within,
// and of all that stands in it, each value alone: so every mistake has its place.
func (r *reader) entryField(f Field, within reflect.Type) {
	if within.Kind() == reflect.Map {
		r.entryValue(f, within.Elem())
		return
	}
	types := r.jsonFields(within)
	if _, ok := types[f.Key]; !ok {
		words := slices.Collect(maps.Keys(types))
		if within == reflect.TypeFor[provider.Entry]() {
			words = append(words, "extends")
		}
		r.fail(f, "is not a known field of a provider%s", suggestion(f.Key, words))
		return
	}
	r.entryValue(f, types[f.Key])
}

func (r *reader) entryValue(f Field, t reflect.Type) {
	switch {
	case f.Value.Kind == KindObject && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map):
		for _, child := range r.fields(f) {
			r.entryField(child, t)
		}
		return
	case f.Value.Kind == KindList && t.Kind() == reflect.Slice:
		for _, item := range r.items(f) {
			r.entryValue(item, t.Elem())
		}
		return
	case f.Value.Kind == KindText:
		if _, ok := r.text(f); !ok || t.Kind() == reflect.String {
			return
		}
	case f.Value.Kind == KindNumber && !f.Value.plainNumber():
		r.fail(f, "must be a plain decimal number")
		return
	}
	var b bytes.Buffer
	f.Value.json(&b)
	err := json.Unmarshal(b.Bytes(), reflect.New(t).Interface())
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
		r.fail(f, "must be %s", kindWords(wrong.Type))
	} else if err != nil {
		r.fail(f, "%v", err) // of Tri and its like, whose texts are our own
	}
}

// jsonFields are the fields of a struct type by their JSON names.
func (r *reader) jsonFields(t reflect.Type) map[string]reflect.Type {
	if types, ok := r.types[t]; ok {
		return types
	}
	types := map[string]reflect.Type{}
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		types[name] = field.Type
	}
	r.types[t] = types
	return types
}

func kindWords(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text; put it in quotes if it is a number"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	default:
		return "a mapping"
	}
}

// forget drops the evidence for every fact that n gives anew: it speaks of the value
// before. Where it said "recalled", the new value would not be relied on.
func forget(evidence map[string]provider.Evidence, path string, n *Node) {
	if n.Kind == KindObject {
		for _, f := range n.Fields {
			forget(evidence, join(path, f.Key), f.Value)
		}
		return
	}
	covered := false
	maps.DeleteFunc(evidence, func(field string, _ provider.Evidence) bool {
		covered = covered || strings.HasPrefix(path, field+".")
		return field == path || strings.HasPrefix(field, path+".")
	})
	if covered { // by what is said of the whole that it stands in
		evidence[path] = provider.Evidence{Source: "the configuration", Kind: "documented"}
	}
}

// locate returns the place of the field that a dotted path such as keep[0].from
// names, or of the nearest thing around it.
func locate(f Field, path string) Position {
	children := f.Value.Fields
	for n, item := range f.Value.Items {
		children = append(children, Field{Key: fmt.Sprintf("[%d]", n), At: item.At, Value: item})
	}
	for _, child := range children {
		rest, ok := strings.CutPrefix(path, child.Key)
		if ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return locate(child, strings.TrimPrefix(rest, "."))
		}
	}
	return f.At
}

// split takes a joined error apart.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
