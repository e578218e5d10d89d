package broker

import (
	"context"
	"time"

	"github.com/evergrant/evergrant/internal/refresh"
)

// disconnectTime is how long provider calls may take while the caller waits.
const disconnectTime = 20 * time.Second

// Disconnect ends a connection and answers with a receipt: what was revoked, and by
// what that is proved. Repeated, it goes on from where it stopped.
func (b *Broker) Disconnect(ctx context.Context, c Caller, id string) (Receipt, error) {
	if _, refused := b.record(ctx, c, id); refused != nil {
		return Receipt{}, refused
	}
	rep := b.driver.Disconnect(ctx, id, disconnectTime)
	b.Log.Info("disconnect", "connection", id, "integration", rep.Record.Integration, "caller", c.Name, "revoked", rep.Record.Revocation, "proof", rep.Record.Proof)
	switch rep.Outcome {
	case refresh.DisconnectAbsent:
		return Receipt{}, fail(NotFound, "there is no such connection")
	case refresh.DisconnectUnknown:
		return Receipt{}, internal(rep.Err)
	case refresh.DisconnectOvertaken:
		return Receipt{ID: id, DisconnectedAt: b.now(), Revoked: "none", Proof: "none"}, nil
	}
	b.dropStandIns(ctx, id)
	r := Receipt{
		ID: id, DisconnectedAt: rep.Record.DisconnectedAt, Revoked: rep.Record.Revocation, Proof: rep.Record.Proof, InFlight: rep.Record.InFlight,
	}
	if r.Proof == "" {
		r.Proof = "none"
	}
	return r, nil
}
