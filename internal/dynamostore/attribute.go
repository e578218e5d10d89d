package dynamostore

import (
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/evergrant/evergrant/internal/item"
)

// attribute is v as DynamoDB takes it; v has passed item.Update.Check.
func attribute(v item.Value) types.AttributeValue {
	switch x := v.(type) {
	case string:
		return &types.AttributeValueMemberS{Value: x}
	case int64:
		return &types.AttributeValueMemberN{Value: strconv.FormatInt(x, 10)}
	case bool:
		return &types.AttributeValueMemberBOOL{Value: x}
	case item.Bytes:
		return &types.AttributeValueMemberB{Value: []byte(x)}
	case item.Map:
		m := make(map[string]types.AttributeValue, len(x))
		for name, e := range x {
			m[name] = attribute(e)
		}
		return &types.AttributeValueMemberM{Value: m}
	case item.List:
		l := make([]types.AttributeValue, len(x))
		for i, e := range x {
			l[i] = attribute(e)
		}
		return &types.AttributeValueMemberL{Value: l}
	}
	panic(fmt.Sprintf("dynamostore: a value of type %T passed item.Update.Check", v))
}

// value is a stored attribute, nil for one of a type that we never write (a set or
// NULL): it is as if absent, and stays, since every write names its attributes.
// A number that is not an int64 is item.ErrCorrupt.
func value(a types.AttributeValue) (item.Value, error) {
	switch x := a.(type) {
	case *types.AttributeValueMemberS:
		return x.Value, nil
	case *types.AttributeValueMemberN:
		n, err := strconv.ParseInt(x.Value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("a number that is not a whole one of 64 bits: %w", item.ErrCorrupt)
		}
		return n, nil
	case *types.AttributeValueMemberBOOL:
		return x.Value, nil
	case *types.AttributeValueMemberB:
		return item.Bytes(x.Value), nil
	case *types.AttributeValueMemberM:
		m, err := members(x.Value)
		return item.Map(m), err
	case *types.AttributeValueMemberL:
		l := make(item.List, 0, len(x.Value))
		for _, a := range x.Value {
			v, err := value(a)
			if err != nil {
				return nil, err
			}
			if v != nil {
				l = append(l, v)
			}
		}
		return l, nil
	}
	return nil, nil
}

func members(in map[string]types.AttributeValue) (map[string]item.Value, error) {
	out := make(map[string]item.Value, len(in))
	for name, a := range in {
		v, err := value(a)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		if v != nil {
			out[name] = v
		}
	}
	return out, nil
}

// found is a stored item without its key. DynamoDB shows an absent one as no
// attributes at all; one that exists has at least its key.
func found(in map[string]types.AttributeValue) (item.Item, error) {
	if len(in) == 0 {
		return nil, nil
	}
	m, err := members(in)
	if err != nil {
		return nil, err
	}
	delete(m, item.KeyName)
	return m, nil
}
