package provider

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

//go:embed catalog/*.json
var catalog embed.FS

// ErrUnknownProvider is returned by Lookup for an id that the catalogue lacks.
var ErrUnknownProvider = errors.New("no such provider in the catalogue")

// idPattern is the form of an id of the catalogue and of an environment's name.
var idPattern = pattern(`^[a-z0-9][a-z0-9_-]*$`)

// Lookup returns the catalogue's entry. It parses that file alone, so a
// configuration pays for the providers that it names and for no others.
func Lookup(id string) (Entry, error) {
	b, err := Source(id)
	if err != nil {
		return Entry{}, err
	}
	e, err := ParseEntry(b)
	if err != nil {
		return Entry{}, fmt.Errorf("catalogue entry %s: %w", id, err)
	}
	e.ID = id
	return e, nil
}

// Source returns the catalogue's entry as its file stands.
func Source(id string) ([]byte, error) {
	if !idPattern().MatchString(id) {
		return nil, ErrUnknownProvider
	}
	b, err := catalog.ReadFile("catalog/" + id + ".json")
	if err != nil {
		return nil, ErrUnknownProvider // embedded: a file that is there can be read
	}
	return b, nil
}

// ParseEntry reads the JSON of one entry. A field that is not known is an error;
// Validate judges the rest.
func ParseEntry(b []byte) (Entry, error) {
	var e Entry
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return Entry{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Entry{}, errors.New("there is something after the entry")
	}
	return e, nil
}

// IDs returns the ids of the catalogue, sorted. It parses nothing.
func IDs() []string {
	files, err := catalog.ReadDir("catalog")
	if err != nil {
		return nil // embedded: the folder is there
	}
	var ids []string
	for _, f := range files {
		ids = append(ids, strings.TrimSuffix(f.Name(), ".json"))
	}
	return ids
}
