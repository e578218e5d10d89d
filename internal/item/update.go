package item

import "strings"

// Target says which item an Update may be applied to.
type Target int

// The targets.
const (
	Existing Target = iota // the item must exist: an update never creates by accident
	Absent                 // the item must not exist: a conditional put
	Any                    // created where absent, for rows such as the cursor
)

// Op is the comparison of a Cond.
type Op int

// The comparisons. Those that compare hold only where the attribute is present and
// of the same type, except NotEquals, which holds of an absent attribute too.
const (
	Equals Op = iota
	NotEquals
	Less
	Greater
	OneOf
	Exists
	NotExists
)

// Cond is one condition on an attribute of the item as it is before the write.
type Cond struct {
	Path   string // an attribute, or one member of a nested document: "attempt.id"
	Op     Op
	Value  Value   // of Equals, NotEquals, Less, Greater
	Values []Value // of OneOf
}

// Assign is one assignment. Right sides read the item as it was before the write.
type Assign struct {
	Name     string
	Value    Value  // the value; with From set, a number added to it
	From     string // Name := From + Value
	IfAbsent bool   // Name := its present value, or Value where it has none; with From set, an absent From counts as 0
}

// Update is one conditional write of one item. All of it happens, or nothing.
type Update struct {
	Target Target
	If     []Cond // all must hold
	Set    []Assign
	Remove []string
}

// Result is what became of a conditional write.
type Result struct {
	// Applied is false when the condition was not met, which is a normal end of a
	// race and never an error.
	Applied bool
	// Item is the item as written, or as found when the condition was not met; nil
	// when there is none. Of a deletion that was applied it is the deleted item.
	Item Item
}

// Eq is the condition path = v.
func Eq(path string, v Value) Cond { return Cond{Path: path, Op: Equals, Value: v} }

// Ne is the condition path <> v, true of an absent attribute.
func Ne(path string, v Value) Cond { return Cond{Path: path, Op: NotEquals, Value: v} }

// Lt is the condition path < v.
func Lt(path string, v Value) Cond { return Cond{Path: path, Op: Less, Value: v} }

// Gt is the condition path > v.
func Gt(path string, v Value) Cond { return Cond{Path: path, Op: Greater, Value: v} }

// In is the condition path IN (values).
func In(path string, values ...Value) Cond { return Cond{Path: path, Op: OneOf, Values: values} }

// Has is the condition attribute_exists(path).
func Has(path string) Cond { return Cond{Path: path, Op: Exists} }

// Lacks is the condition attribute_not_exists(path).
func Lacks(path string) Cond { return Cond{Path: path, Op: NotExists} }

// Put is the assignment name = v.
func Put(name string, v Value) Assign { return Assign{Name: name, Value: v} }

// Keep is the assignment name = if_not_exists(name, v).
func Keep(name string, v Value) Assign { return Assign{Name: name, Value: v, IfAbsent: true} }

// Plus is the assignment name = from + n. The attribute from must be present.
func Plus(name, from string, n int64) Assign { return Assign{Name: name, From: from, Value: n} }

// Number is the assignment name = if_not_exists(from, 0) + n.
func Number(name, from string, n int64) Assign {
	return Assign{Name: name, From: from, Value: n, IfAbsent: true}
}

// Count is the assignment name = if_not_exists(name, 0) + n.
func Count(name string, n int64) Assign { return Number(name, name, n) }

// Apply is the meaning of an update: the item after it and true, or the old item
// and false when the condition is not met. old is never changed.
func (u Update) Apply(old Item) (Item, bool) {
	if (u.Target == Existing && old == nil) || (u.Target == Absent && old != nil) || !Hold(old, u.If) {
		return old, false
	}
	next := old.Clone()
	if next == nil {
		next = Item{}
	}
	for _, a := range u.Set {
		switch {
		case a.From != "":
			n, ok := old[a.From].(int64)
			if !ok && (!a.IfAbsent || old[a.From] != nil) {
				return old, false // the operand is no number
			}
			next[a.Name] = n + a.Value.(int64)
		case a.IfAbsent && old[a.Name] != nil:
		default:
			next[a.Name] = a.Value
		}
	}
	for _, name := range u.Remove {
		delete(next, name)
	}
	return next, true
}

// Hold reports whether all conditions hold of i, where nil is an absent item.
func Hold(i Item, conds []Cond) bool {
	for _, c := range conds {
		if !c.holds(i) {
			return false
		}
	}
	return true
}

func (c Cond) holds(i Item) bool {
	v := lookup(i, c.Path)
	switch c.Op {
	case Equals:
		return Equal(v, c.Value)
	case NotEquals:
		return !Equal(v, c.Value)
	case Less:
		return v != nil && order(v, c.Value) < 0
	case Greater:
		return v != nil && order(v, c.Value) > 0
	case OneOf:
		for _, w := range c.Values {
			if Equal(v, w) {
				return true
			}
		}
		return false
	case Exists:
		return v != nil
	case NotExists:
		return v == nil
	}
	return false
}

func lookup(i Item, path string) Value {
	name, member, nested := strings.Cut(path, ".")
	if !nested {
		return i[name]
	}
	m, _ := i[name].(Map)
	return m[member]
}

// order is negative, zero or positive as a is less than, equal to or greater than
// b; zero for values that have no order, so that no comparison holds.
func order(a, b Value) int {
	switch x := a.(type) {
	case int64:
		if y, ok := b.(int64); ok {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
		}
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y)
		}
	}
	return 0
}
