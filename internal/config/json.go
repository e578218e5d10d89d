package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// MaxSize bounds a configuration, in bytes. The largest sensible one, with dozens
// of inline providers, is some 100 KB.
const MaxSize = 1 << 20

// MaxDepth bounds how deep values may stand in each other; a configuration needs 7.
const MaxDepth = 32

// Parse reads the compiled form, as Compile writes it. It is as strict as the YAML
// reader, but knows no catalogue: every provider stands inline. The error is
// Mistakes. What Compile wrote and nobody has touched was checked already.
func Parse(data []byte) (*Config, error) {
	body, intact := unseal(data)
	if intact {
		if c, err := unpack(body); err == nil {
			return c, nil
		} // else it is of another version, and the checks say what is wrong with it
	}
	root, err := parseTree(data)
	if err != nil {
		return nil, err
	}
	return Read(root, Catalog{}, nil)
}

func parseTree(data []byte) (*Node, error) {
	p := &jsonParser{data: data, place: Position{1, 1}, dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber()
	if len(data) > MaxSize {
		return nil, p.mistake("is larger than 1 MiB")
	}
	if !utf8.Valid(data) {
		return nil, p.mistake("is not UTF-8")
	}
	root, err := p.value(0)
	if err != nil {
		return nil, err
	}
	p.skip()
	if _, err := p.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, p.mistake("there is something after the end of the JSON value")
	}
	return root, nil
}

// jsonParser turns JSON into Nodes. encoding/json decodes into Go values without
// telling where they stood and takes a repeated key in silence; both matter here.
type jsonParser struct {
	data []byte
	dec  *json.Decoder

	// Where the token about to be read begins, in bytes and for people.
	offset int
	place  Position
}

// skip moves to the next token.
func (p *jsonParser) skip() {
	end := int(p.dec.InputOffset())
	for end < len(p.data) && strings.IndexByte(" \t\r\n,:", p.data[end]) >= 0 {
		end++
	}
	p.moveTo(end)
}

// moveTo counts on from where it is, so that a long line costs no more than a short
// one.
func (p *jsonParser) moveTo(end int) {
	passed := p.data[p.offset:end]
	p.offset = end
	if last := bytes.LastIndexByte(passed, '\n'); last >= 0 {
		p.place.Line += bytes.Count(passed, []byte("\n"))
		p.place.Column = 1
		passed = passed[last+1:]
	}
	p.place.Column += utf8.RuneCount(passed)
}

func (p *jsonParser) mistake(text string) error {
	return Mistakes{{Position: p.place, Text: text}}
}

// token reads the next token, and tells where it begins.
func (p *jsonParser) token() (json.Token, Position, error) {
	p.skip()
	at := p.place
	token, err := p.dec.Token()
	if err == nil {
		return token, at, nil
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		p.moveTo(max(p.offset, min(int(syntax.Offset)-1, len(p.data))))
		return nil, at, p.mistake("is not JSON: " + syntax.Error())
	}
	return nil, at, p.mistake("is not JSON: it ends too early")
}

func (p *jsonParser) value(depth int) (*Node, error) {
	token, at, err := p.token()
	if err != nil {
		return nil, err
	}
	if depth > MaxDepth {
		return nil, p.mistake("values stand too deep in each other")
	}
	n := &Node{At: at}
	switch v := token.(type) {
	case json.Delim:
		if v == '{' {
			n.Kind = KindObject
			return n, p.fields(n, depth)
		}
		n.Kind = KindList
		return n, p.items(n, depth)
	case string:
		n.Kind, n.Text = KindText, v
	case json.Number:
		n.Kind, n.Text = KindNumber, v.String()
	case bool:
		n.Kind, n.Text = KindBool, map[bool]string{true: "true", false: "false"}[v]
	default:
		n.Kind = KindNull
	}
	return n, nil
}

func (p *jsonParser) fields(n *Node, depth int) error {
	for p.dec.More() {
		key, at, err := p.token()
		if err != nil {
			return err
		}
		value, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		name, _ := key.(string) // the decoder admits nothing else here
		n.Fields = append(n.Fields, Field{Key: name, At: at, Value: value})
	}
	_, _, err := p.token()
	return err
}

func (p *jsonParser) items(n *Node, depth int) error {
	for p.dec.More() {
		value, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.Items = append(n.Items, value)
	}
	_, _, err := p.token()
	return err
}
