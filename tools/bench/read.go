package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
)

// caller may do everything.
func caller() broker.Caller {
	return broker.Caller{Name: "bench", Rights: config.Rights{
		Allow: []string{"connect", "token", "manage"}, Integrations: []string{"*"}, Owners: []string{"*"}, ImportsPerMinute: 1_000_000,
	}}
}

// reads measures a warm token read against one bare read of the same item, while none, a
// tenth and all of the connections are under refresh.
func reads(ctx context.Context, b *bench) error {
	store, end, err := b.bolt("read.db")
	if err != nil {
		return err
	}
	bare := func(id string) error {
		_, err := store.Connections.Get(ctx, id)
		return err
	}
	if err := errors.Join(b.readsOn(ctx, "bolt", store, bare), end()); err != nil {
		return err
	}
	store, client, table, err := b.dynamo(ctx)
	if missing, ok := errors.AsType[errMissing](err); ok {
		b.leftOut("read/dynamodb-local", string(missing))
		return nil
	}
	if err != nil {
		return err
	}
	return b.readsOn(ctx, "dynamodb-local", store, func(id string) error {
		_, err := client.GetItem(ctx, &dynamodb.GetItemInput{
			TableName: &table, Key: map[string]types.AttributeValue{item.KeyName: &types.AttributeValueMemberS{Value: id}}, ConsistentRead: aws.Bool(true),
		})
		return err
	})
}

func (b *bench) readsOn(ctx context.Context, name string, store connection.Store, bare func(id string) error) error {
	c, err := settings(b.provider.base, site{name: integration, token: "/token/0", rotates: true})
	if err != nil {
		return err
	}
	d, err := b.deploy(ctx, store, c)
	if err != nil {
		return err
	}
	const n = 1000
	ids, err := d.seed(ctx, integration, n, life, false)
	if err != nil {
		return err
	}
	claimed := 0
	for _, share := range []int{0, 10, 100} {
		for ; claimed < n*share/100; claimed++ {
			claim := connection.Claim{Gen: 1, Attempt: connection.Attempt{ID: connection.NewRandom(), BaseGen: 1, LeaseUntil: d.now().Unix() + life, Since: d.now().Unix()}}
			if res, err := store.Write(ctx, ids[claimed], claim); err != nil || !res.Applied {
				return errors.Join(err, errors.New("a claim was not applied"))
			}
		}
		token := func(id string) error {
			_, err := d.Token(ctx, caller(), id, 60, nil)
			return err
		}
		least, ours, err := pair(b.lasts(2*time.Second), ids, bare, token)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("read/%s/%d %% under refresh", name, share)
		b.report(what+"/median", us(quantile(ours, 0.5)), "µs", us(quantile(least, 0.5)))
		b.report(what+"/p99", us(quantile(ours, 0.99)), "µs", us(quantile(least, 0.99)))
	}
	return nil
}

// pair does the one and the other in turns for some time, on ids drawn at random, and
// returns how long each took.
func pair(lasts time.Duration, ids []string, one, other func(id string) error) (ones, others []time.Duration, err error) {
	for end := time.Now().Add(lasts); time.Now().Before(end) || len(ones) < 50; {
		began := time.Now()
		if err := one(ids[rand.IntN(len(ids))]); err != nil {
			return nil, nil, err
		}
		between := time.Now()
		if err := other(ids[rand.IntN(len(ids))]); err != nil {
			return nil, nil, err
		}
		ones, others = append(ones, between.Sub(began)), append(others, time.Since(between))
	}
	return ones, others, nil
}
