// Package wire is the JSON of Evergrant's HTTP API: what requests and answers look
// like, shared by the server and by the Go client.
//
// The same habits hold everywhere. Times are RFC 3339 in UTC, whole seconds.
// Numbers that are durations say their unit at the end of their name: _s, or _ms
// where a second is too coarse. What may be unknown is null, not absent. A member
// called scope is one text of scopes with blanks between them, as OAuth has it (RFC
// 6749 section 3.3); scopes is a list. Lists come as List.
//
// Two rules guard the secrets. No answer has a member for a provider's refresh token
// (the one of OAuthToken is a stand-in, which its caller has sent); an access token
// stands in Token and OAuthToken alone. And requests that carry a secret are plain text here,
// since they have to be written and read as JSON: whoever reads one turns it into a
// secret that cannot print at once, and drops this form.
package wire

import "time"

// List is one page of a list. Next is the cursor of the next page, null after the
// last one.
type List[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"`
}

// latest is the last second that RFC 3339 can spell: 9999-12-31T23:59:59Z.
const latest = 253402300799

// Time is unix seconds as a time of the API. What lies beyond the year 9999, as a
// provider's "never" sometimes does, is that year's last second.
func Time(unix int64) time.Time {
	return time.Unix(min(max(unix, 0), latest), 0).UTC()
}

// TimeOrNull is Time, and null for 0, which means unknown or never.
func TimeOrNull(unix int64) *time.Time {
	if unix == 0 {
		return nil
	}
	t := Time(unix)
	return &t
}

// TextOrNull is s, and null for "".
func TextOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
