package yamlfile

import (
	"errors"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/evergrant/evergrant/internal/config"
)

// builder turns the parser's nodes into config's and gathers what a configuration
// may not hold.
type builder struct{ mistakes config.Mistakes }

func (b *builder) fail(n ast.Node, text string) {
	b.mistakes = append(b.mistakes, config.Mistake{Position: position(n), Text: text})
}

// node returns a node without a kind for what it has reported.
func (b *builder) node(n ast.Node, depth int) *config.Node {
	out := &config.Node{At: position(n)}
	if depth > config.MaxDepth {
		b.fail(n, tooDeepText)
		return out
	}
	switch v := n.(type) {
	case *ast.MappingNode:
		out.Kind = config.KindObject
		for _, value := range v.Values {
			b.field(out, value, depth)
		}
	case *ast.MappingValueNode:
		out.Kind = config.KindObject
		b.field(out, v, depth)
	case *ast.SequenceNode:
		out.Kind = config.KindList
		for _, value := range v.Values {
			out.Items = append(out.Items, b.node(value, depth+1))
		}
	case *ast.StringNode:
		out.Kind, out.Text = config.KindText, v.Value
	case *ast.LiteralNode:
		out.Kind, out.Text = config.KindText, v.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		out.Kind, out.Text = config.KindNumber, n.GetToken().Value
	case *ast.BoolNode:
		out.Kind, out.Text = config.KindBool, v.GetToken().Value
	case *ast.NullNode:
		out.Kind = config.KindNull
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		b.fail(n, "anchors and aliases are not read here; write the value out")
	case *ast.TagNode:
		b.fail(n, "tags are not read here; leave it out")
	default:
		b.fail(n, "is not a mapping, list or value")
	}
	return out
}

func (b *builder) field(parent *config.Node, v *ast.MappingValueNode, depth int) {
	key, ok := v.Key.(*ast.StringNode)
	if !ok {
		b.fail(v.Key, "a key must be plain text")
		return
	}
	parent.Fields = append(parent.Fields, config.Field{Key: key.Value, At: position(key), Value: b.node(v.Value, depth+1)})
}

// start is the place of mistakes about the file as a whole.
var start = config.Position{Line: 1, Column: 1}

// position is where n begins. The parser gives a mapping the place of its first
// colon; people look for its first key.
func position(n ast.Node) config.Position {
	switch v := n.(type) {
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return position(v.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return position(v.Key)
	}
	return place(n.GetToken())
}

func place(t *token.Token) config.Position {
	if t == nil || t.Position == nil {
		return start
	}
	return config.Position{Line: max(1, t.Position.Line), Column: max(1, t.Position.Column)}
}

func mistake(at config.Position, text string) error {
	return config.Mistakes{{Position: at, Text: text}}
}

// syntaxMistake keeps of a parser's error its message and place. Its own text quotes
// the lines around it, and so perhaps a secret.
func syntaxMistake(err error) error {
	var syntax yaml.Error
	if !errors.As(err, &syntax) {
		return mistake(start, "is not YAML")
	}
	return mistake(place(syntax.GetToken()), "is not YAML: "+syntax.GetMessage())
}
