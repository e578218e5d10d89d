package wire

// ProblemType is the media type of every error (RFC 9457 section 3).
const ProblemType = "application/problem+json"

// Problem is an error of the API. Code decides; Detail is for a person to read. The
// members from Reason on are there only with the codes that they belong to.
type Problem struct {
	Type      string `json:"type"` // /problems/ and the code
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Code      string `json:"code"`
	RequestID string `json:"request_id"`

	Reason       string `json:"reason,omitempty"`        // of needs_reauth and integration_suspended
	AuthorizeURL string `json:"authorize_url,omitempty"` // of restart_connect: where the user starts again
	ConnectionID string `json:"connection_id,omitempty"`
	MissingScope string `json:"missing_scope,omitempty"` // of missing_scope
}
