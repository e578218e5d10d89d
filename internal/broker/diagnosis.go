package broker

import (
	"context"

	"github.com/evergrant/evergrant/internal/connection"
)

// Diagnosis is what only the server can tell of itself.
type Diagnosis struct {
	Now      int64 // unix s, by its clock
	LastTick int64 // unix s of the last minute that the schedule has finished; 0: none yet
	Epoch    int64 // the restore epoch
	// Moved: the store is not where it was in this epoch. It is a restored backup whose
	// operator has not raised the epoch, or it was moved.
	Moved bool
	// Unreadable are the clients, each as integration and name, whose secrets could not be
	// read just now. The log says why.
	Unreadable [][2]string
}

// Diagnose looks and changes nothing.
func (b *Broker) Diagnose(ctx context.Context) (Diagnosis, error) {
	d := Diagnosis{Now: b.now(), Epoch: b.Epoch}
	progress, err := b.Store.Progress(ctx)
	if err != nil {
		return d, internal(err)
	}
	d.LastTick = progress.Minute * 60
	known, err := b.Store.Place(ctx)
	if err != nil {
		return d, internal(err)
	}
	d.Moved = b.moved(known)
	for n := range b.Settings.Integrations {
		i := &b.Settings.Integrations[n]
		for k := range i.Clients {
			if _, err := b.Secrets.Get(ctx, &i.Clients[k]); err != nil {
				b.Log.Warn("secret", "integration", i.Name, "client", i.Clients[k].Name, "error", err.Error())
				d.Unreadable = append(d.Unreadable, [2]string{i.Name, i.Clients[k].Name})
			}
		}
	}
	return d, nil
}

func (b *Broker) moved(known connection.Place) bool {
	return b.Place != "" && known.At != "" && known.At != b.Place && known.Epoch >= b.Epoch
}

// notePlace notes where the store is. It is no reason to stop a tick.
func (b *Broker) notePlace(ctx context.Context) {
	if b.Place == "" {
		return
	}
	known, err := b.Store.NotePlace(ctx, connection.Place{At: b.Place, Epoch: b.Epoch})
	switch {
	case err != nil:
		b.Log.Warn("place", "error", err.Error())
	case b.moved(known):
		b.Log.Error("the store is not where it was: if it was restored from a backup, raise the restore epoch before anything else is refreshed; see evergrant doctor")
	}
}
