package wire

import "time"

// ReviveRequest is the body of POST /v1/admin/revive: which verdicts are to be taken
// back.
type ReviveRequest struct {
	Integration string    `json:"integration"`
	Since       time.Time `json:"since"` // the beginning of the incident
}

// ReviveResult is what became of them.
type ReviveResult struct {
	Recovered int `json:"recovered"` // refreshed
	Refused   int `json:"refused"`   // asked again and refused again
	Reopened  int `json:"reopened"`  // active again; the schedule refreshes them
	// More: the time was over. The same request goes on.
	More    bool    `json:"more"`
	Stopped *string `json:"stopped"` // why nothing more was reopened
}
