// Package secret holds what must not be seen: Text, a string that cannot print,
// and Keyring, which seals such strings at rest.
//
// The key hierarchy has three steps. A wrapping key never leaves its keeper (KMS,
// or a 0600 file under serve). It wraps data keys, 256 bit each, of which there
// are two families, told apart by purpose: flow (PKCE verifiers and pending
// codes) and token (access and refresh tokens); the functions that only open a
// flow never hold the key that opens a token. From a data key each sealed value
// gets a key of its own, by HKDF-SHA256 with a random salt, and is encrypted by
// AES-256-GCM. The additional data binds it to its place: deployment, table, id,
// generation and field, so that a sealed value moved elsewhere does not open.
package secret
