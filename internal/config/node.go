package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Position is a place in a file; lines and columns (in characters) count from 1.
type Position struct{ Line, Column int }

// Kind is what a Node is.
type Kind string

// The kinds, in the words that mistakes use.
const (
	KindObject Kind = "a mapping"
	KindList   Kind = "a list"
	KindText   Kind = "text"
	KindNumber Kind = "a number"
	KindBool   Kind = "true or false"
	KindNull   Kind = "empty"
)

// Node is one value of a configuration file with its place.
type Node struct {
	At     Position
	Kind   Kind
	Text   string  // of a text; of a number or bool as the file spells it
	Items  []*Node // of a list
	Fields []Field // of an object, in the order of the file, duplicates included
}

// Field is a named value. At is the place of the name, or of the value where it has
// no name (in a list).
type Field struct {
	Key   string
	At    Position
	Value *Node

	path string // from the root, for mistakes
}

// json renders n as JSON. A number that JSON cannot spell becomes null; the reader
// reports it.
func (n *Node) json(b *bytes.Buffer) {
	switch n.Kind {
	case KindObject:
		b.WriteByte('{')
		for i, f := range n.Fields {
			if i > 0 {
				b.WriteByte(',')
			}
			writeText(b, f.Key)
			b.WriteByte(':')
			f.Value.json(b)
		}
		b.WriteByte('}')
	case KindList:
		b.WriteByte('[')
		for i, item := range n.Items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.json(b)
		}
		b.WriteByte(']')
	case KindText:
		writeText(b, n.Text)
	case KindBool:
		b.WriteString(strings.ToLower(n.Text))
	case KindNumber:
		if n.plainNumber() {
			b.WriteString(n.Text)
			return
		}
		b.WriteString("null")
	default:
		b.WriteString("null")
	}
}

// plainNumber reports whether the number is spelled as JSON spells numbers; YAML
// also knows 0x10, 1_000 and .inf.
func (n *Node) plainNumber() bool { return json.Valid([]byte(n.Text)) }

func writeText(b *bytes.Buffer, s string) {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // cannot be: every string has a JSON spelling
	}
	b.Write(text)
}

// Mistake is one thing to mend in a configuration file. It never quotes the value
// of a field in which a secret may have been put.
type Mistake struct {
	File string // "" where the reader was given bytes
	Position
	Path string // dotted, such as integrations.acme.client_id; "" for the whole file
	Text string // what is wrong and what to do
}

// Error is "file:line:column: path: text", the spelling that editors jump to.
func (m Mistake) Error() string {
	var b strings.Builder
	if m.File != "" {
		b.WriteString(m.File + ":")
	}
	fmt.Fprintf(&b, "%d:%d: ", m.Line, m.Column)
	if m.Path != "" {
		b.WriteString(m.Path + ": ")
	}
	b.WriteString(m.Text)
	return b.String()
}

// Mistakes are all that is wrong with a file, in the order of the file. As an error
// it has one line for each.
type Mistakes []Mistake

// Error implements error.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i, mistake := range m {
		lines[i] = mistake.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted returns m in the order of the file.
func (m Mistakes) sorted() Mistakes {
	slices.SortStableFunc(m, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return m
}
