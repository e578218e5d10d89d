package item

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxDepth is how deep values may be nested, which is DynamoDB's limit.
const MaxDepth = 32

// The longest attributes of an index, in bytes, which are DynamoDB's limits. A key of
// a table has the limit of a hash.
const (
	MaxHash  = 2048
	MaxRange = 1024
)

// Check reports an update that no store takes, whatever the item: a mistake of the
// program, which every store refuses alike before it looks at the item.
//
// Names are not empty, hold no dot and are not the key's; an attribute is assigned
// or removed once; values are of the kinds of Value, those of the attributes of
// indexes strings that are neither empty nor too long; Less and Greater take a number
// or a string; OneOf takes 1 to 100 values.
func (u Update) Check(indexes []Index) error {
	if err := CheckConds(u.If); err != nil {
		return err
	}
	written := make(map[string]bool, len(u.Set)+len(u.Remove))
	write := func(name string) error {
		if err := checkName(name); err != nil {
			return err
		}
		if written[name] {
			return fmt.Errorf("attribute %s is written twice", name)
		}
		written[name] = true
		return nil
	}
	for _, a := range u.Set {
		if err := errors.Join(write(a.Name), a.check(), a.checkIndexed(indexes)); err != nil {
			return fmt.Errorf("update: %w", err)
		}
	}
	for _, name := range u.Remove {
		if err := write(name); err != nil {
			return fmt.Errorf("update: %w", err)
		}
	}
	return nil
}

// CheckConds is Check of conditions alone.
func CheckConds(conds []Cond) error {
	for _, c := range conds {
		if err := c.check(); err != nil {
			return fmt.Errorf("condition on %s: %w", c.Path, err)
		}
	}
	return nil
}

func (a Assign) check() error {
	if a.From == "" {
		return checkValue(a.Value, MaxDepth)
	}
	if _, ok := a.Value.(int64); !ok {
		return fmt.Errorf("%s: what is added must be a number", a.Name)
	}
	return checkName(a.From)
}

func (a Assign) checkIndexed(indexes []Index) error {
	for _, x := range indexes {
		limit := MaxHash
		switch a.Name {
		case x.Hash:
		case x.Range:
			limit = MaxRange
		default:
			continue
		}
		if s, _ := a.Value.(string); s == "" || len(s) > limit {
			return fmt.Errorf("%s of index %s must be a string of 1 to %d bytes", a.Name, x.Name, limit)
		}
	}
	return nil
}

func (c Cond) check() error {
	name, member, nested := strings.Cut(c.Path, ".")
	if err := checkName(name); err != nil {
		return err
	}
	if nested && (member == "" || strings.Contains(member, ".")) {
		return errors.New("a path has one member at most")
	}
	switch c.Op {
	case Equals, NotEquals:
		return checkValue(c.Value, MaxDepth)
	case Less, Greater:
		switch c.Value.(type) {
		case int64, string:
			return checkValue(c.Value, MaxDepth)
		}
		return fmt.Errorf("a value of type %T has no order", c.Value)
	case OneOf:
		if len(c.Values) < 1 || len(c.Values) > 100 {
			return fmt.Errorf("%d values", len(c.Values))
		}
		for _, v := range c.Values {
			if err := checkValue(v, MaxDepth); err != nil {
				return err
			}
		}
		return nil
	case Exists, NotExists:
		return nil
	}
	return fmt.Errorf("unknown comparison %d", c.Op)
}

func checkName(name string) error {
	if name == "" || name == KeyName || !utf8.ValidString(name) || strings.Contains(name, ".") {
		return fmt.Errorf("%q cannot name an attribute", name)
	}
	return nil
}

func checkValue(v Value, depth int) error {
	if depth == 0 {
		return fmt.Errorf("nested deeper than %d", MaxDepth)
	}
	switch x := v.(type) {
	case int64, bool, Bytes:
		return nil
	case string:
		if !utf8.ValidString(x) {
			return errors.New("a string that is not UTF-8 cannot be stored")
		}
		return nil
	case Map:
		for name, e := range x {
			if name == "" || !utf8.ValidString(name) {
				return fmt.Errorf("%q cannot name a member", name)
			}
			if err := checkValue(e, depth-1); err != nil {
				return err
			}
		}
		return nil
	case List:
		for _, e := range x {
			if err := checkValue(e, depth-1); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("a value of type %T cannot be stored", v)
}
