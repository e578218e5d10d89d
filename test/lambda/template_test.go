// Package lambda_test runs the four functions as Lambda would: their own binaries, each
// environment a process, set up by template.yaml itself, with servers behind them that we
// did not write: Amazon DynamoDB Local, and moto for KMS, the Parameter Store, Secrets
// Manager, SQS and EventBridge. Between the two stands a proxy that knows each function by
// its access key, and lets through what the template's roles allow and nothing else.
package lambda_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// readTemplate reads template.yaml with its intrinsic functions in their long form:
// "!Ref X" as {"Ref": "X"}, "!GetAtt X.Arn" as {"Fn::GetAtt": ["X", "Arn"]}.
func readTemplate(t *testing.T) map[string]any {
	t.Helper()
	b, err := os.ReadFile("../../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	out, ok := long(t, file.Docs[0].Body).(map[string]any)
	if !ok {
		t.Fatal("template.yaml is not a mapping")
	}
	return out
}

func long(t *testing.T, n ast.Node) any {
	t.Helper()
	switch n := n.(type) {
	case *ast.MappingNode:
		m := map[string]any{}
		for _, v := range n.Values {
			m[v.Key.GetToken().Value] = long(t, v.Value)
		}
		return m
	case *ast.MappingValueNode:
		return map[string]any{n.Key.GetToken().Value: long(t, n.Value)}
	case *ast.SequenceNode:
		list := []any{}
		for _, v := range n.Values {
			list = append(list, long(t, v))
		}
		return list
	case *ast.TagNode:
		return tagged(strings.TrimPrefix(n.Start.Value, "!"), long(t, n.Value))
	}
	var v any
	if err := yaml.NodeToValue(n, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func tagged(name string, v any) any {
	switch name {
	case "Ref", "Condition":
		return map[string]any{name: v}
	case "GetAtt":
		resource, attribute, _ := strings.Cut(fmt.Sprint(v), ".")
		return map[string]any{"Fn::GetAtt": []any{resource, attribute}}
	}
	return map[string]any{"Fn::" + name: v}
}

// at walks down a path of names; nil where one is absent.
func at(v any, path ...string) any {
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func text(v any, path ...string) string {
	s, _ := at(v, path...).(string)
	return s
}

// list is a list, or what stands alone where a list may.
func list(v any, path ...string) []any {
	v = at(v, path...)
	l, ok := v.([]any)
	if !ok && v != nil {
		l = []any{v}
	}
	return l
}

func texts(v any, path ...string) []string {
	var out []string
	for _, s := range list(v, path...) {
		out = append(out, fmt.Sprint(s))
	}
	return out
}

// noValue is what AWS::NoValue stands for: the property is not there.
type noValue struct{}

// value is v with every intrinsic function carried out, as CloudFormation does when it
// makes the stack. One that is not known here fails the test.
func (s *stack) value(v any) any {
	s.t.Helper()
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 1 {
			for name, argument := range v {
				if name == "Ref" || name == "Condition" || strings.HasPrefix(name, "Fn::") {
					return s.intrinsic(name, argument)
				}
			}
		}
		out := map[string]any{}
		for name, each := range v {
			if r := s.value(each); r != (noValue{}) {
				out[name] = r
			}
		}
		return out
	case []any:
		out := []any{}
		for _, each := range v {
			if r := s.value(each); r != (noValue{}) {
				out = append(out, r)
			}
		}
		return out
	}
	return v
}

func (s *stack) intrinsic(name string, argument any) any {
	s.t.Helper()
	switch name {
	case "Ref":
		return s.ref(fmt.Sprint(argument))
	case "Condition":
		return s.condition(fmt.Sprint(argument))
	case "Fn::GetAtt":
		return s.attribute(fmt.Sprint(list(argument)[0]), fmt.Sprint(list(argument)[1]))
	case "Fn::Sub":
		return s.substitute(fmt.Sprint(argument))
	case "Fn::If":
		if s.condition(fmt.Sprint(list(argument)[0])) {
			return s.value(list(argument)[1])
		}
		return s.value(list(argument)[2])
	case "Fn::Equals":
		return s.value(list(argument)[0]) == s.value(list(argument)[1])
	case "Fn::Not":
		return s.value(list(argument)[0]) == false
	case "Fn::And":
		for _, each := range list(argument) {
			if s.value(each) == false {
				return false
			}
		}
		return true
	case "Fn::Join":
		return strings.Join(texts(s.value(list(argument)[1])), fmt.Sprint(list(argument)[0]))
	}
	s.t.Fatalf("template.yaml uses %s, which these tests do not know", name)
	return nil
}

func (s *stack) condition(name string) bool {
	s.t.Helper()
	is, ok := s.value(at(s.template, "Conditions", name)).(bool)
	if !ok {
		s.t.Fatalf("template.yaml has no condition %s", name)
	}
	return is
}

var placeholder = regexp.MustCompile(`\$\{([^}!]+)\}`)

func (s *stack) substitute(text string) string {
	s.t.Helper()
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		resource, attribute, is := strings.Cut(found[2:len(found)-1], ".")
		if is {
			return fmt.Sprint(s.attribute(resource, attribute))
		}
		return fmt.Sprint(s.ref(resource))
	})
}
