package dynamostore

import (
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/evergrant/evergrant/internal/item"
)

// expression gathers the placeholders of one request: #0, #1 … for names, each name
// once, and :0, :1 … for values, in the order of their use. Every name has a
// placeholder, since about 570 words are reserved and more may come.
type expression struct {
	names  map[string]string
	values map[string]types.AttributeValue
	known  map[string]string // name to placeholder
}

func newExpression() *expression {
	return &expression{names: map[string]string{}, values: map[string]types.AttributeValue{}, known: map[string]string{}}
}

func (e *expression) name(name string) string {
	p, ok := e.known[name]
	if !ok {
		p = "#" + strconv.Itoa(len(e.known))
		e.known[name], e.names[p] = p, name
	}
	return p
}

// path is an attribute or one member of a nested document.
func (e *expression) path(path string) string {
	name, member, nested := strings.Cut(path, ".")
	if !nested {
		return e.name(name)
	}
	return e.name(name) + "." + e.name(member)
}

func (e *expression) value(v item.Value) string {
	p := ":" + strconv.Itoa(len(e.values))
	e.values[p] = attribute(v)
	return p
}

// condition renders c. DynamoDB's comparisons mean what item.Cond says they mean:
// one with an absent attribute or another type does not hold, except <>.
func (e *expression) condition(c item.Cond) string {
	path := e.path(c.Path)
	switch c.Op {
	case item.Equals:
		return path + " = " + e.value(c.Value)
	case item.NotEquals:
		return path + " <> " + e.value(c.Value)
	case item.Less:
		return path + " < " + e.value(c.Value)
	case item.Greater:
		return path + " > " + e.value(c.Value)
	case item.OneOf:
		values := make([]string, len(c.Values))
		for i, v := range c.Values {
			values[i] = e.value(v)
		}
		return path + " IN (" + strings.Join(values, ", ") + ")"
	case item.Exists:
		return "attribute_exists(" + path + ")"
	}
	return "attribute_not_exists(" + path + ")"
}

// target renders which item a write may meet, "" for any.
func (e *expression) target(t item.Target) string {
	switch t {
	case item.Existing:
		return "attribute_exists(" + e.name(item.KeyName) + ")"
	case item.Absent:
		return "attribute_not_exists(" + e.name(item.KeyName) + ")"
	}
	return ""
}

// update renders u as an update expression and a condition expression, either of
// which may be empty.
func (e *expression) update(u item.Update) (update, condition *string) {
	var conds, sets, removes []string
	if t := e.target(u.Target); t != "" {
		conds = append(conds, t)
	}
	for _, c := range u.If {
		conds = append(conds, e.condition(c))
	}
	for _, a := range u.Set {
		sets = append(sets, e.assign(a))
		if a.From != "" {
			conds = append(conds, e.operand(a))
		}
	}
	for _, name := range u.Remove {
		removes = append(removes, e.name(name))
	}
	var clauses []string
	if len(sets) > 0 {
		clauses = append(clauses, "SET "+strings.Join(sets, ", "))
	}
	if len(removes) > 0 {
		clauses = append(clauses, "REMOVE "+strings.Join(removes, ", "))
	}
	return text(strings.Join(clauses, " ")), text(strings.Join(conds, " AND "))
}

func (e *expression) assign(a item.Assign) string {
	name := e.name(a.Name)
	switch {
	case a.From != "" && a.IfAbsent:
		return name + " = if_not_exists(" + e.name(a.From) + ", " + e.value(int64(0)) + ") + " + e.value(a.Value)
	case a.From != "":
		return name + " = " + e.name(a.From) + " + " + e.value(a.Value)
	case a.IfAbsent:
		return name + " = if_not_exists(" + name + ", " + e.value(a.Value) + ")"
	}
	return name + " = " + e.value(a.Value)
}

// operand renders the condition that the sum a can be made. DynamoDB answers an
// operand that is absent or no number with an error that says nothing of the item;
// as a condition it is refused like any other.
func (e *expression) operand(a item.Assign) string {
	from := e.name(a.From)
	number := "attribute_type(" + from + ", " + e.value("N") + ")"
	if a.IfAbsent {
		return "(attribute_not_exists(" + from + ") OR " + number + ")"
	}
	return number
}

// placeholders are the maps of the request; DynamoDB refuses empty ones.
func (e *expression) placeholders() (map[string]string, map[string]types.AttributeValue) {
	names, values := e.names, e.values
	if len(names) == 0 {
		names = nil
	}
	if len(values) == 0 {
		values = nil
	}
	return names, values
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return aws.String(s)
}
