// Package dynamostore provides the tables on Amazon DynamoDB.
//
// An item.Update becomes one UpdateItem request with a condition, nothing is read
// first, and a refusal brings the item as found (ALL_OLD), so that each write of the
// protocol is one round trip and one write unit for each KB.
//
// Repeats are the SDK client's, within the context's deadline. A write that was
// applied and whose answer was lost is then repeated and refused by its own effect:
// the caller recognises what it wrote in the item as found, by the random id that
// every write of the protocol carries.
package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/evergrant/evergrant/internal/item"
)

// Store is one table.
type Store struct {
	client  *dynamodb.Client
	table   string
	indexes []item.Index
}

var _ item.Table = (*Store)(nil)

// New returns the table of that name, which exists and has the indexes.
func New(client *dynamodb.Client, table string, indexes []item.Index) *Store {
	return &Store{client: client, table: table, indexes: indexes}
}

// Get implements item.Table by a strongly consistent read.
func (s *Store) Get(ctx context.Context, key string) (item.Item, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: &s.table, Key: keyOf(key), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	i, err := found(out.Item)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return i, nil
}

// Update implements item.Table. Only DynamoDB knows the size of the whole item: it
// refuses one above its own 400 KB, while values that are too large by themselves
// are refused here.
func (s *Store) Update(ctx context.Context, key string, u item.Update) (item.Result, error) {
	err := u.Check(s.indexes)
	if err == nil && assigned(u) > item.MaxSize {
		err = item.ErrTooLarge
	}
	if err != nil {
		return item.Result{}, fmt.Errorf("update %s: %w", key, err)
	}
	e := newExpression()
	update, condition := e.update(u)
	names, values := e.placeholders()
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &s.table, Key: keyOf(key),
		UpdateExpression: update, ConditionExpression: condition,
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if err != nil {
		return refused("update", key, err)
	}
	return applied("update", key, out.Attributes)
}

// Delete implements item.Table.
func (s *Store) Delete(ctx context.Context, key string, conds ...item.Cond) (item.Result, error) {
	if err := item.CheckConds(conds); err != nil {
		return item.Result{}, fmt.Errorf("delete %s: %w", key, err)
	}
	// An absent item must not count as deleted, which it does without a condition.
	e := newExpression()
	_, condition := e.update(item.Update{Target: item.Existing, If: conds})
	names, values := e.placeholders()
	out, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &s.table, Key: keyOf(key), ConditionExpression: condition,
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
		ReturnValues:                        types.ReturnValueAllOld,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if err != nil {
		return refused("delete", key, err)
	}
	return applied("delete", key, out.Attributes)
}

// Query implements item.Table.
func (s *Store) Query(ctx context.Context, q item.Query) (item.Page, error) {
	x, err := q.IndexOf(s.indexes)
	if err != nil {
		return item.Page{}, err
	}
	start, err := startOf(q, x)
	if err != nil {
		return item.Page{}, fmt.Errorf("query index %s: %w", q.Index, err)
	}
	e := newExpression()
	keys := e.name(x.Hash) + " = " + e.value(q.Hash)
	if q.Prefix != "" {
		keys += " AND begins_with(" + e.name(x.Range) + ", " + e.value(q.Prefix) + ")"
	}
	names, values := e.placeholders()
	out, err := s.client.Query(ctx, &dynamodb.QueryInput{
		TableName: &s.table, IndexName: &x.Name, KeyConditionExpression: &keys,
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
		ExclusiveStartKey: start, Limit: limitOf(q.Limit),
	})
	if err != nil {
		return item.Page{}, fmt.Errorf("query index %s: %w", q.Index, err)
	}
	page := item.Page{Keys: keysOf(out.Items)}
	for _, i := range out.Items {
		page.Ranges = append(page.Ranges, stringOf(i[x.Range]))
	}
	if last := out.LastEvaluatedKey; len(last) > 0 {
		page.Next = q.Cursor(stringOf(last[x.Range]), stringOf(last[item.KeyName]))
	}
	return page, nil
}

// startOf is the key after which q begins, nil for the first page.
func startOf(q item.Query, x item.Index) (map[string]types.AttributeValue, error) {
	place, err := q.Place(2)
	if place == nil || err != nil {
		return nil, err
	}
	// DynamoDB refuses a start outside the query; a forged cursor is not its error.
	rng, key := place[0], place[1]
	if !validKey(rng, item.MaxRange) || !validKey(key, item.MaxHash) || !strings.HasPrefix(rng, q.Prefix) || (x.Range == item.KeyName && rng != key) {
		return nil, item.ErrBadCursor
	}
	return map[string]types.AttributeValue{x.Hash: attribute(q.Hash), x.Range: attribute(rng), item.KeyName: attribute(key)}, nil
}

// Scan implements item.Table. It is eventually consistent, at half the price.
func (s *Store) Scan(ctx context.Context, after string, limit int) (item.Page, error) {
	all := item.Query{After: after}
	place, err := all.Place(1)
	if err != nil || (place != nil && !validKey(place[0], item.MaxHash)) {
		return item.Page{}, fmt.Errorf("scan: %w", item.ErrBadCursor)
	}
	var start map[string]types.AttributeValue
	if place != nil {
		start = keyOf(place[0])
	}
	e := newExpression()
	out, err := s.client.Scan(ctx, &dynamodb.ScanInput{
		TableName: &s.table, ProjectionExpression: aws.String(e.name(item.KeyName)), ExpressionAttributeNames: e.names,
		ExclusiveStartKey: start, Limit: limitOf(limit),
	})
	if err != nil {
		return item.Page{}, fmt.Errorf("scan: %w", err)
	}
	page := item.Page{Keys: keysOf(out.Items)}
	if last := out.LastEvaluatedKey; len(last) > 0 {
		page.Next = all.Cursor(stringOf(last[item.KeyName]))
	}
	return page, nil
}

// applied is the result of a write that DynamoDB carried out. An item that cannot be
// read is no item.ErrCorrupt here, which would say that nothing was written.
func applied(verb, key string, attributes map[string]types.AttributeValue) (item.Result, error) {
	i, err := found(attributes)
	if err != nil {
		return item.Result{}, fmt.Errorf("%s %s: applied, but: %s", verb, key, err)
	}
	return item.Result{Applied: true, Item: i}, nil
}

// refused is what an error of a write means.
func refused(verb, key string, err error) (item.Result, error) {
	var condition *types.ConditionalCheckFailedException
	if errors.As(err, &condition) {
		i, err := found(condition.Item)
		if err != nil {
			return item.Result{}, fmt.Errorf("%s %s: %w", verb, key, err)
		}
		return item.Result{Item: i}, nil
	}
	// DynamoDB has no code for it: "Item size to update has exceeded the maximum allowed
	// size" of an update, "Item size has exceeded …" of a put.
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "ValidationException" && strings.HasPrefix(api.ErrorMessage(), "Item size") {
		return item.Result{}, fmt.Errorf("%s %s: %w", verb, key, item.ErrTooLarge)
	}
	return item.Result{}, fmt.Errorf("%s %s: %w", verb, key, err)
}

// assigned is the size of what u sets, a lower bound of the item's.
func assigned(u item.Update) int {
	i := make(item.Item, len(u.Set))
	for _, a := range u.Set {
		if !a.IfAbsent && a.From == "" {
			i[a.Name] = a.Value
		}
	}
	return i.Size()
}

func keyOf(key string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{item.KeyName: attribute(key)}
}

func keysOf(items []map[string]types.AttributeValue) []string {
	var keys []string
	for _, i := range items {
		keys = append(keys, stringOf(i[item.KeyName]))
	}
	return keys
}

func stringOf(a types.AttributeValue) string {
	s, _ := a.(*types.AttributeValueMemberS)
	if s == nil {
		return ""
	}
	return s.Value
}

// validKey reports whether a part of a cursor could be a key of up to limit bytes.
func validKey(s string, limit int) bool { return s != "" && len(s) <= limit && utf8.ValidString(s) }

func limitOf(n int) *int32 { return aws.Int32(int32(min(n, math.MaxInt32))) }
