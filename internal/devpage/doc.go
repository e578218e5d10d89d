// Package devpage provides the page of `evergrant dev`: a small application that uses
// Evergrant as any application would, and shows what happens.
//
// It has the two halves that a real one has. The page in the browser knows nothing
// secret: it asks its own backend, under /app/, and shows what that tells it. The
// backend holds the API key and calls Evergrant's public HTTP API, in the same process
// but through the same handler, with nothing but requests and answers; an access token
// that it is handed goes into one request to the provider and nowhere else. So what is
// read here is what has to be written elsewhere, and the page lists each call as it is
// made.
//
// The application's login is a fake: the person is picked on the page and kept in a
// cookie. Everything else is meant: each connection is looked up and compared with the
// person before anything is done with it, and a consent is confirmed for the person
// whose browser brought it.
//
// # Trust
//
// The page may do whatever its API key may, so only its own page may ask it. Requests
// for another host name are refused, which keeps out names that are made to point to
// this machine (DNS rebinding). A request that changes something must come from a page
// of the same origin, by what the browser says of it, and carry a header that no form
// can set. Pages load nothing from elsewhere and run no inline script, which the
// Content-Security-Policy enforces. It belongs on a loopback address.
package devpage
