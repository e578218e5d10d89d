package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
)

// Prices of DynamoDB on demand in us-east-1, dollars a million request units, since AWS halved
// them on 2024-11-01 (aws.amazon.com/dynamodb/pricing/on-demand).
const (
	dollarsWrite = 0.625
	dollarsRead  = 0.125
)

// month is 30.4 days in minutes.
const month = 43_800

// units are what DynamoDB says that it charged.
type units struct {
	mu          sync.Mutex
	read, write float64 // guarded by mu
	index       float64 // part of write: of the indexes; guarded by mu
}

// take returns what was charged since the last time, for each of n operations.
func (u *units) take(n int) (read, write, index float64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	read, write, index = u.read/float64(n), u.write/float64(n), u.index/float64(n)
	u.read, u.write, u.index = 0, 0, 0
	return read, write, index
}

func (u *units) charge(c *types.ConsumedCapacity, write bool) {
	if c == nil || c.CapacityUnits == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !write {
		u.read += *c.CapacityUnits
		return
	}
	u.write += *c.CapacityUnits
	for _, x := range c.GlobalSecondaryIndexes {
		if x.CapacityUnits != nil {
			u.index += *x.CapacityUnits
		}
	}
}

// meter asks with each request what it costs. A write that was refused tells nothing; it is
// charged one unit, as AWS does for an item of up to 1 KB.
func (u *units) meter(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("units",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			write := true
			switch p := in.Parameters.(type) {
			case *dynamodb.GetItemInput:
				p.ReturnConsumedCapacity, write = types.ReturnConsumedCapacityIndexes, false
			case *dynamodb.QueryInput:
				p.ReturnConsumedCapacity, write = types.ReturnConsumedCapacityIndexes, false
			case *dynamodb.ScanInput:
				p.ReturnConsumedCapacity, write = types.ReturnConsumedCapacityIndexes, false
			case *dynamodb.UpdateItemInput:
				p.ReturnConsumedCapacity = types.ReturnConsumedCapacityIndexes
			case *dynamodb.DeleteItemInput:
				p.ReturnConsumedCapacity = types.ReturnConsumedCapacityIndexes
			default:
				return next.HandleInitialize(ctx, in)
			}
			out, data, err := next.HandleInitialize(ctx, in)
			switch r := out.Result.(type) {
			case *dynamodb.GetItemOutput:
				u.charge(r.ConsumedCapacity, write)
			case *dynamodb.QueryOutput:
				u.charge(atLeastHalf(r.ConsumedCapacity), write)
			case *dynamodb.ScanOutput:
				u.charge(r.ConsumedCapacity, write)
			case *dynamodb.UpdateItemOutput:
				u.charge(r.ConsumedCapacity, write)
			case *dynamodb.DeleteItemOutput:
				u.charge(r.ConsumedCapacity, write)
			}
			if err != nil && write {
				one := 1.0
				u.charge(&types.ConsumedCapacity{CapacityUnits: &one}, write)
			}
			return out, data, err
		}), middleware.After)
}

// atLeastHalf is what AWS charges for a query of an index that finds nothing: half a unit.
// DynamoDB Local says none.
func atLeastHalf(c *types.ConsumedCapacity) *types.ConsumedCapacity {
	if c == nil || c.CapacityUnits == nil {
		return c
	}
	units := max(0.5, *c.CapacityUnits)
	return &types.ConsumedCapacity{CapacityUnits: &units}
}

// costs measures what operations consume of DynamoDB, and works out what a million connections
// cost a month, beside a design that files each connection under its due time and one that
// scans the table every minute.
func costs(ctx context.Context, b *bench) error {
	u := &units{}
	store, _, _, err := b.dynamo(ctx, u.meter)
	if err != nil {
		return err
	}
	per := map[string]float64{}
	for _, rotates := range []bool{true, false} {
		if err := b.refreshUnits(ctx, store, u, rotates, per); err != nil {
			return err
		}
	}
	if err := b.tickUnits(ctx, store, u, per); err != nil {
		return err
	}
	b.money(per)
	return nil
}

// priced is what read and write units cost, dollars.
func priced(read, write float64) float64 { return (read*dollarsRead + write*dollarsWrite) / 1e6 }

// operation reports the units of one of n like operations.
func (b *bench) operation(u *units, name string, n int) (dollars float64) {
	read, write, index := u.take(n)
	b.report("cost/"+name+"/read", read, "units", 0)
	b.report("cost/"+name+"/write", write, "units", 0)
	b.report("cost/"+name+"/write of indexes", index, "units", 0)
	return priced(read, write)
}

func (b *bench) refreshUnits(ctx context.Context, store connection.Store, u *units, rotates bool, per map[string]float64) error {
	name, endpoint := "fixed", "/fixed"
	if rotates {
		name, endpoint = "rotating", "/token/0"
	}
	c, err := settings(b.provider.base, site{name: name, token: endpoint, rotates: rotates})
	if err != nil {
		return err
	}
	d, err := b.deploy(ctx, store, c)
	if err != nil {
		return err
	}
	const n = 100 // a chunk
	ids, err := d.seed(ctx, name, n, life, true)
	if err != nil {
		return err
	}
	u.take(1)
	for _, id := range ids {
		if _, err := d.Token(ctx, caller(), id, 60, nil); err != nil {
			return err
		}
	}
	if rotates {
		b.operation(u, "a token read", n)
	}
	// Twice: the first refresh writes what a connection of a provider like this keeps.
	for k := range 2 {
		d.later()
		u.take(1)
		if err := d.RefreshAll(ctx, ids, d.minute()); err != nil {
			return err
		}
		if k == 1 {
			if err := b.judgeRefresh(u, name, n, rotates, per); err != nil {
				return err
			}
		}
		if err := d.saved(ctx, ids); err != nil {
			return err
		}
	}
	i, err := store.Connections.Get(ctx, ids[0])
	if err != nil {
		return err
	}
	b.judged("cost/item of a connection, "+name, float64(i.Size()), "bytes", 0, "<= 1024", i.Size() <= 1024)
	return nil
}

// judgeRefresh reports the units of n refreshes. The promise counts one chunk's own writes,
// the statistics and the shared count of refusals, among them: a hundredth each.
func (b *bench) judgeRefresh(u *units, name string, n int, rotates bool, per map[string]float64) error {
	read, write, index := u.take(n)
	most := 1.0
	if rotates {
		most = 2
	}
	what := "cost/a refresh, " + name
	b.report(what+"/read", read, "units", 0)
	b.judged(what+"/write", write, "units", 0, fmt.Sprintf("%g, and <= 0.1 for the chunk", most), write <= most+0.1)
	b.judged(what+"/write of indexes", index, "units", 0, "0", index == 0)
	per[name] = priced(read, write)
	return nil
}

// tickUnits measures the planner's own reads: of a minute with nothing due, of one in which a
// full hour looks a day back, and of finding what is due.
func (b *bench) tickUnits(ctx context.Context, store connection.Store, u *units, per map[string]float64) error {
	c, err := settings(b.provider.base, site{name: integration, token: "/token/0", rotates: true})
	if err != nil {
		return err
	}
	chunked := 0
	d, err := b.deploy(ctx, store, c, func(c *broker.Config) {
		c.Chunks = func(_ context.Context, _ string, _ int64, ids []string) error {
			chunked += len(ids)
			return nil
		}
	})
	if err != nil {
		return err
	}
	minute := d.minute()/1440*1440 + 10*1440 + 60 // days on, at a full hour: nothing seeded is due
	ticks := func(n int) error {
		for range n {
			minute++
			if _, err := d.Tick(ctx, minute); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := d.Tick(ctx, minute); err != nil { // which walks everything
		return err
	}
	for _, what := range []struct {
		name    string
		n, skip int // ticks that are measured, and those after them that are not
	}{{"a minute with nothing due", 30, 29}, {"a full hour with nothing due", 1, 0}} {
		u.take(1)
		if err := ticks(what.n); err != nil {
			return err
		}
		per[what.name] = b.operation(u, what.name, what.n)
		if err := ticks(what.skip); err != nil {
			return err
		}
	}
	if chunked > 0 {
		return fmt.Errorf("%d connections were due where none should be", chunked)
	}
	return nil
}

// money works the month out.
func (b *bench) money(per map[string]float64) {
	const million = 1e6
	ticks := per["a minute with nothing due"]*month*59/60 + per["a full hour with nothing due"]*month/60
	b.report("cost/the schedule itself, whatever it holds", ticks, "$ a month", 0)
	// The scan reads each item of 1 KB at half a unit for 4 KB, each minute.
	scan := priced(million/8, 0) * month
	for _, r := range []struct {
		life    string
		period  float64 // minutes
		planned float64 // what the design says for rotating tokens
	}{{"1 h", 50, 1206}, {"2 h", 100, 603}, {"7 d", 8640, 7.1}} {
		refreshes := million * month / r.period
		what := "cost/a million connections, rotating, life " + r.life
		ours := refreshes*per["rotating"] + ticks
		b.report(what, ours, "$ a month", r.planned)
		b.report(what+"/filed by due time instead", ours+refreshes*priced(0, 2), "$ a month", ours)
		b.report(what+"/scanned every minute instead", refreshes*per["rotating"]+scan, "$ a month", ours)
		b.report(what+"/where tokens do not rotate", refreshes*per["fixed"]+ticks, "$ a month", ours)
	}
}
