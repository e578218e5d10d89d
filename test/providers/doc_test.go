// Package providers takes every entry of the catalogue through the life of a connection,
// against a simulator that behaves as the entry says: connect, a call of the API, a
// refresh, a refresh whose answer is lost, a grant that has ended, a disconnect.
package providers
