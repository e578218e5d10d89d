package wire

import "time"

// Event is what an application is told: the detail of an event on the bus, and the data
// of a webhook. It never holds a token. Members may be added; who reads one should leave
// alone what it does not know.
type Event struct {
	// ID is the same however often the event is delivered: whoever has seen it leaves it.
	ID   string    `json:"id"`
	Type string    `json:"type"`
	At   time.Time `json:"at"` // when it became true
	// Sequence counts the events of the connection (of the client, where it is about an
	// integration) from 1: what comes with a smaller number than one seen before is older.
	Sequence int64 `json:"sequence"`
	// ConnectionID and Owner are absent where the event is about an integration.
	ConnectionID string `json:"connection_id,omitempty"`
	Owner        string `json:"owner,omitempty"`
	Integration  string `json:"integration"`
	Client       string `json:"client"` // name of the client whose tokens, or whose circuit
	// Status is what the connection became: active, needs_reauth or disconnected; of an
	// integration active or suspended.
	Status string  `json:"status"`
	Reason *string `json:"reason"` // null for none
}

// Webhook is the body of a webhook.
type Webhook struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"` // when it became true; that of the delivery is in the header
	Data      Event     `json:"data"`
}

// DeadLetter is a webhook that was given up.
type DeadLetter struct {
	ID       string    `json:"id"`       // of the event
	Type     string    `json:"type"`     // of the event
	Endpoint string    `json:"endpoint"` // scheme and host of the URL
	Tries    int64     `json:"tries"`
	Error    string    `json:"error"` // of the last try
	At       time.Time `json:"at"`    // when it was given up
}
