package yamlfile

import (
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/provider"
)

// Load reads the file at path. What is wrong inside it is a config.Mistakes whose
// File is path; other errors are the file system's.
func Load(path string) (*config.Config, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(file, config.MaxSize+1))
	if err != nil {
		return nil, err
	}
	c, err := parse(data, beside(path))
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) {
		for n := range mistakes {
			mistakes[n].File = cmp.Or(mistakes[n].File, path)
		}
		return nil, mistakes
	}
	return c, err
}

// Parse reads the text of evergrant.yaml. The error is config.Mistakes: all of them,
// but for a text that is not YAML, where the first one hides the rest.
// Files that it names are not read: for them there is Load.
func Parse(data []byte) (*config.Config, error) { return parse(data, nil) }

func parse(data []byte, files func(string) ([]byte, error)) (*config.Config, error) {
	root, err := tree(data)
	if err != nil {
		return nil, err
	}
	return config.Read(root, config.Catalog{Lookup: provider.Lookup, IDs: provider.IDs}, files)
}

// beside reads files whose names are relative to the folder of the file at path.
func beside(path string) func(name string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(path), name)
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() { // a pipe would be waited for
			return nil, errors.New("is not a file")
		}
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }() // only read
		return io.ReadAll(io.LimitReader(file, config.MaxSize+1))
	}
}

// maxTokens bounds what the parser is given: its time grows with the square of the
// tokens, 90,000 of which take it 2 s. A hundred inline providers are some 20,000.
const maxTokens = 60_000

func tree(data []byte) (*config.Node, error) {
	text := strings.TrimPrefix(string(data), "\ufeff")
	switch {
	case len(data) > config.MaxSize:
		return nil, mistake(start, "is larger than 1 MiB")
	case !utf8.ValidString(text):
		return nil, mistake(start, "is not UTF-8")
	}
	tokens := lexer.Tokenize(text)
	if len(tokens) > maxTokens {
		return nil, mistake(start, "holds more values than a configuration can need")
	}
	if deep := tooDeep(tokens); deep != nil {
		return nil, mistake(place(deep), tooDeepText)
	}
	// A repeated key is config's to report, with the place of the first one.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxMistake(err)
	}
	return document(file)
}

const tooDeepText = "values stand too deep in each other"

// tooDeep returns the bracket with which the nesting grows beyond all use, or nil.
func tooDeep(tokens token.Tokens) *token.Token {
	depth := 0
	for _, tk := range tokens {
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			if depth++; depth > config.MaxDepth {
				return tk
			}
		case token.MappingEndType, token.SequenceEndType:
			depth--
		}
	}
	return nil
}

// document returns the one document of a file.
func document(file *ast.File) (*config.Node, error) {
	var root ast.Node
	var b builder
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.DirectiveType:
		case root != nil:
			b.fail(doc.Body, "a second document begins; keep one only")
		default:
			root = doc.Body
		}
	}
	if root == nil {
		return nil, mistake(start, "is empty; a file needs at least one integration")
	}
	tree := b.node(root, 0)
	if len(b.mistakes) > 0 {
		return nil, b.mistakes
	}
	return tree, nil
}
