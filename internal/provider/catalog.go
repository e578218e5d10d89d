package provider

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

//go:embed catalog/*.json
var catalog embed.FS

// ErrUnknownProvider is returned by Lookup for an id that the catalogue lacks.
var ErrUnknownProvider = errors.New("no such provider in the catalogue")

// Lookup returns the catalogue's entry. It parses that file alone.
func Lookup(id string) (Entry, error) {
	if !slices.Contains(IDs(), id) {
		return Entry{}, ErrUnknownProvider
	}
	b, err := catalog.ReadFile("catalog/" + id + ".json")
	if err != nil {
		return Entry{}, fmt.Errorf("catalogue entry %s: %w", id, err)
	}
	var e Entry
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return Entry{}, fmt.Errorf("catalogue entry %s: %w", id, err)
	}
	e.ID = id
	return e, nil
}

// IDs returns the ids of the catalogue, sorted.
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
