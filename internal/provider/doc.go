// Package provider speaks OAuth 2.0 outwards: it knows what is peculiar to each
// provider, asks its endpoints, and says in one closed set of verdicts what an
// answer means.
//
// What is known of a provider is data, an Entry: endpoints, where the client's
// credentials stand, what becomes of a refresh token once it was used. Entries
// come from the catalogue (Lookup) or from a configuration, and no code is
// written for a provider. A fact that is absent is unknown, and unknown means the
// worst case: Profile, by which the refresh protocol decides what to do about a
// lost answer, is derived so.
//
// A refresh token that rotates can be spent once. So a Client sends a token
// request once on the wire: no redirect is followed, no body can be rewound for
// a repeat, no second way to authenticate is tried. Whatever comes back, or does
// not, becomes an Answer; there is no error beside it that a caller could
// overlook. Classify decides what it means and is a pure function: classify.go
// holds the verdicts, body.go how a body is read, code.go which words name an
// error. testdata/token_responses.json shows each rule on answers of real servers.
//
// Secrets are secret.Text on both sides. Texts that leave this package (Error,
// Detail, every error) hold no body, no URL query, no header and no secret that
// was part of the request.
package provider
