package connection

import "encoding/binary"

// Journal is the last outcomes of a connection, newest last, packed: 11 bytes an
// entry, so that sixteen of them leave a usual item within one write unit. It is
// written only in an update that happens anyway.
type Journal string

// JournalSize is the largest number of entries kept.
const JournalSize = 16

const journalEntry = 11

// Outcome names what happened at one entry of the journal.
type Outcome byte

// The outcomes of the journal. Their numbers are stored: they never change.
const (
	OutcomeUnknown Outcome = iota
	OutcomeSaved
	OutcomeNotActed
	OutcomeLost
	OutcomeMalformed
	OutcomeParked
	OutcomeHeldBack // a refusal in doubt, waiting for the horizon
	OutcomeConfigError
	OutcomeRevoked
	OutcomeLostResponse
	OutcomeConsented
	OutcomeDisconnected
	OutcomeRescued
	OutcomeCreated
	OutcomeExpired // the refresh token's own life ended
	OutcomeRevived // an operator took a verdict back
	OutcomeIDTokenRefused
)

var outcomeNames = [...]string{
	"unknown", "saved", "not_acted", "answer_lost", "malformed_answer", "waiting", "refusal_held", "config_error",
	"revoked", "lost_response", "consented", "disconnected", "rescued", "created",
	"expired", "revived", "id_token_refused",
}

// String is the outcome as the API shows it.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return outcomeNames[0]
}

// Entry is one outcome.
type Entry struct {
	At      int64 // unix s
	Outcome Outcome
	Gen     int64 // the generation it concerned
	Millis  int64 // how long the provider took; at most 10 minutes
}

// Add appends e and drops what is beyond JournalSize.
func (j Journal) Add(e Entry) Journal {
	var b [journalEntry]byte
	binary.BigEndian.PutUint32(b[0:], uint32(max(0, e.At)))
	b[4] = byte(e.Outcome)
	binary.BigEndian.PutUint32(b[5:], uint32(max(0, e.Gen)))
	binary.BigEndian.PutUint16(b[9:], uint16(min(max(0, e.Millis/10), 60000)))
	j += Journal(b[:])
	if over := len(j) - JournalSize*journalEntry; over > 0 {
		j = j[over:]
	}
	return j
}

// Entries unpacks the journal, oldest first. Bytes that are no whole entry are left out.
func (j Journal) Entries() []Entry {
	var out []Entry
	for ; len(j) >= journalEntry; j = j[journalEntry:] {
		b := []byte(j[:journalEntry])
		out = append(out, Entry{
			At: int64(binary.BigEndian.Uint32(b)), Outcome: Outcome(b[4]),
			Gen: int64(binary.BigEndian.Uint32(b[5:])), Millis: int64(binary.BigEndian.Uint16(b[9:])) * 10,
		})
	}
	return out
}
